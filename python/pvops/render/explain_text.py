"""Explanations of sites, as text to paste into a mail."""

from __future__ import annotations

from pvops.image.places import parse
from pvops.render.terminal import Style, columns, spaced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pvops.image.places import Place
    from pvops.image.view import KernelView
    from pvops.plan.explain import Boot, Explanation
    from pvops.plan.plan import Plan


def text(explanation: Explanation, style: Style | None = None) -> str:
    """The explanation as a person would give it."""
    style = style or Style("never")
    site = explanation.site
    width = max(len(site.bytes) * 3, 18)
    what = explanation.facts()
    head = f"{style.bold(what[0])}  {what[1]}" + (f", in {site.symbol}" if site.symbol else "")
    lines = [f"{style.bold(f'{site.address + explanation.slide:016x}')}  {head}"]
    built = explanation.disassembly(site.address, site.bytes)
    lines.append(_line("built", site.bytes, width, style.code(built)))
    for boot in explanation.boots():
        lines += _outcome(explanation, boot, width, style)
    return "\n".join(lines)


def of_plan(plan: Plan, *, address: str) -> str:
    """The sites that an address or a place names, under one plan."""
    from pvops.plan.explain import explanations

    places = parse(plan.kernel, address)
    return of_places(plan.kernel, places, explanations(plan.kernel, [plan], places))


def of_places(
    kernel: KernelView,
    places: Sequence[Place],
    found: Sequence[Explanation],
    style: Style | None = None,
    slide: int = 0,
) -> str:
    """The explanations of places, and a word on each place that none of them is about."""
    shown = [text(explanation, style) for explanation in found]
    spans = [(e.site.address, e.site.address + len(e.site.bytes)) for e in found]
    for place in places:
        if not any(low < place.end and high > place.address for low, high in spans):
            shown.append(_untouched(kernel, place, slide))
    return "\n\n".join(shown)


def _untouched(kernel: KernelView, place: Place, slide: int) -> str:
    """A place that no table names."""
    name = place.symbol or kernel.place(place.address) or "no symbol"
    return f"{place.address + slide:016x}  {name}, {place.size} bytes: as built; no pass writes here"


def _line(name: str, code: bytes, width: int, disassembly: str) -> str:
    return f"  {name:<12}  {spaced(code):<{width}} {disassembly}".rstrip()


def _outcome(explanation: Explanation, boot: Boot, width: int, style: Style) -> list[str]:
    lines = [f"  {style.bold(boot.names)}"] if len(explanation.plans) > 1 else []
    changing = [write for write, _ in boot.writes if write.bytes]
    for write, why in boot.writes:
        last = bool(changing) and write is changing[-1]
        if write.bytes:
            text = explanation.disassembly(write.address, write.bytes)
            shown = style.runs(text) if last else style.dim(text)
            lines.append(_line(write.table, write.bytes, width, shown + ("   <- runs" if last else "")))
        else:
            lines.append(f"  {write.table:<12}  {style.dim('changes nothing')}")
        for reason in why:
            lines += wrapped(reason, indent=16)
    for note in explanation.guesses(boot.plan):
        lines += wrapped(note, indent=16)
    return lines


def wrapped(sentence: str, indent: int) -> list[str]:
    """A sentence as lines that fit the terminal, and a mail; what is behind its first is indented further."""
    # `textwrap` compiles patterns when it is loaded: a twelfth of what importing a command takes, for what a loop does.
    width, words = max(min(columns(), 110), indent + 24), sentence.split()
    lines = [" " * indent + word for word in words[:1]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(" " * (indent + 2) + word)
    return lines
