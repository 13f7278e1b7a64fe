"""What is made from the grammar of the command line: its pages on the site, and manual pages.

``python -m tasks.references DIR``, in an environment with the package and argparse-manpage, writes the manual pages and
the completions of the shells.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

Commands = dict[str, argparse.ArgumentParser]
WIDTH = "100"


def commands() -> Commands:
    """The commands and what parses each, those with subcommands taken apart; the first is ``pvops`` itself."""
    from pvops.cli.grammar import whole

    os.environ["COLUMNS"] = WIDTH
    parser = whole()
    return {"pvops": parser, **_below(parser)}


def _below(parser: argparse.ArgumentParser) -> Commands:
    found: Commands = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= _below(command) or {command.prog: command}
    return found


def page(command: str, parser: argparse.ArgumentParser) -> str:
    """The page of one command, in Markdown."""
    lines = [f"# {command}", "", (parser.description or "").replace("<", "&lt;"), "", "```text"]
    lines += [parser.format_usage().removeprefix("usage: ").rstrip(), "```", ""]
    groups = [group for group in parser._action_groups if group._group_actions]
    for group in groups:
        heading = (group.title or "").removeprefix("positional ").capitalize()
        lines += [
            f"## {heading}",
            "",
            f"| {heading.rstrip('s').lower()} | means |",
            "|---|---|",
            *_rows(group._group_actions),
            "",
        ]
    if parser.epilog:
        lines += ["## More", "", "```text", parser.epilog.rstrip(), "```", ""]
    return "\n".join(lines)


def _rows(actions: Sequence[argparse.Action]) -> Iterator[str]:
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                link = f"pvops-{choice.dest}.md" if choice.dest != "lock" else "pvops-lock-check.md"
                yield f"| [`{choice.dest}`]({link}) | {_cell(choice.help or '')} |"
            continue
        value = str(action.metavar or "") if action.nargs != 0 else ""
        if action.choices is not None and not value:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        names = [f"{option} {value}".rstrip() for option in action.option_strings] or [value or action.dest]
        said = (action.help or "") % vars(action)
        yield f"| {', '.join(f'`{name}`' for name in names)} | {_cell(said)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def pages() -> dict[str, str]:
    """The pages of all commands, by file name."""
    return {f"{name.replace(' ', '-')}.md": page(name, parser) for name, parser in commands().items()}


def manuals(folder: Path) -> None:
    """Writes ``man/man1/pvops-COMMAND.1`` and a completion for each shell below a folder."""
    from argparse_manpage.manpage import Manpage

    import pvops
    from pvops.cli.completion import script
    from pvops.cli.grammar import whole

    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")
    man = folder / "man" / "man1"
    man.mkdir(parents=True, exist_ok=True)
    for name, parser in commands().items():
        made = Manpage(parser)
        made.prog = name.replace(" ", "-")
        made.source, made.manual = f"pvops {pvops.__version__}", "User commands"
        made.description = (parser.description or "").partition(". ")[0].rstrip(".")
        if name == "pvops":
            made.parser = _without_the_commands(parser)
        # argparse-manpage calls what stands at the end of the help a comment, and escapes the hyphens of the date.
        text = str(made).replace(".SH COMMENTS\n", ".SH EXAMPLES\n.nf\n")
        head, _, rest = text.partition("\n")
        (man / f"{made.prog}.1").write_text(head.replace("\\-", "-") + "\n" + rest)
    for shell, path in {
        "bash": "bash-completion/completions/pvops",
        "zsh": "zsh/site-functions/_pvops",
        "fish": "fish/vendor_completions.d/pvops.fish",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(script(shell, whole()))


def _without_the_commands(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same parser, naming its commands but not describing each: they have manual pages of their own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.choices = {}
    return parser


if __name__ == "__main__":
    manuals(Path(sys.argv[1]))
