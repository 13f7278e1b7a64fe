"""Sentences of several boots that differ in their sources alone, told as one."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def bare(sentence: str) -> str:
    """A sentence without its sources: what stands in parentheses or brackets.

    >>> from pvops.plan.sources import bare
    >>> bare("inlined: it is not set (rule xen_start_kernel(): under kvm) [alternative.c: apply_alternatives()]")
    'inlined: it is not set'
    >>> bare("NULL must never be called: a call of BUG_func()")
    'NULL must never be called: a call of BUG_func()'
    """
    depth, out, before = 0, [], " "
    for char in sentence:
        # Behind a word they are a function's.
        if char in "([" and (depth or before == " "):
            depth += 1
        elif char in ")]" and depth:
            depth -= 1
        elif not depth:
            out.append(char)
        before = char
    return " ".join("".join(out).split())


def told(names: Sequence[str], sentences: Sequence[str]) -> str:
    """What several boots say of one thing, as one sentence: words in which they differ are headed by who says them.

    >>> from pvops.plan.sources import told
    >>> told(["native", "kvm"], ["it is set (rule a(): preset b)", "it is set (rule a(): under kvm)"])
    'it is set (rule a(): native: preset b; kvm: under kvm)'
    """
    by_words: dict[str, list[str]] = {}
    for name, sentence in zip(names, sentences, strict=True):
        by_words.setdefault(sentence, []).append(name)
    if len(by_words) == 1:
        return sentences[0]
    split = [_words(sentence) for sentence in by_words]
    shortest = min(map(len, split))
    same = next((i for i in range(shortest) if len({words[i] for words in split}) > 1), shortest)
    rest = shortest - same
    behind = next((i for i in range(rest) if len({words[-1 - i] for words in split}) > 1), rest)
    parts = [
        f"{', '.join(who)}: {' '.join(words[same : len(words) - behind]) or 'nothing'}"
        for who, words in zip(by_words.values(), split, strict=True)
    ]
    head, tail = split[0][:same], split[0][len(split[0]) - behind :]
    return " ".join([*head, "; ".join(parts), *tail]).replace("( ", "(").replace(" )", ")")


def _words(sentence: str) -> list[str]:
    """The words of a sentence; parentheses around several are words of their own."""
    out: list[str] = []
    for word in sentence.split(" "):
        opened = word.startswith("(")
        # The last of a word's parentheses that it does not open itself closes a source.
        closed = word.count(")") > word.count("(") - opened
        out += ["("] * opened + [word[opened : len(word) - closed]] + [")"] * closed
    return out
