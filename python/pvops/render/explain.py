"""Explanations of sites, as a page."""

from __future__ import annotations

from pvops.render import html
from pvops.render.terminal import spaced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pvops.image.view import KernelView
    from pvops.plan.explain import Boot, Explanation


def page(kernel: KernelView, where: str, explanations: Sequence[Explanation], made: html.Made | None = None) -> str:
    """The explanations of what a place on the command line names, as one self-contained page."""
    title = f"{kernel.release or kernel.name}: {where}"
    none = [] if explanations else ["<p>As built: no pass writes here.</p>"]
    return html.page(title, [f"<h1>{html.text(title)}</h1>", *none, *map(fragment, explanations)], made)


def fragment(explanation: Explanation) -> str:
    """One explanation, as a piece of a page."""
    site = explanation.site
    place = f" in {html.text(site.symbol)}" if site.symbol else ""
    parts = [
        f'<h2><span class="mono">{site.address + explanation.slide:016x}</span>{place}</h2>',
        f'<p class="soft">{html.text(", ".join(explanation.facts()))}</p>',
        *(_boot(explanation, boot) for boot in explanation.boots()),
    ]
    return "\n".join(parts)


def _boot(explanation: Explanation, boot: Boot) -> str:
    site = explanation.site
    last = next((w for w, _ in reversed(boot.writes) if w.bytes), None)
    cells = [("built", html.text(spaced(site.bytes)), _asm(explanation, site.address, site.bytes, "asm"), "")]
    for write, why in boot.writes:
        if write.bytes:
            kind = "runs" if write is last else "soft"
            shown = _asm(explanation, write.address, write.bytes, kind) + (" ← runs" if write is last else "")
        else:
            shown = '<span class="soft">changes nothing</span>'
        cells.append((html.text(write.table), html.text(spaced(write.bytes)), shown, html.bullets(why)))
    notes = [f'<p class="warn">{html.text(note)}</p>' for note in explanation.guesses(boot.plan)]
    return "\n".join(
        (
            f'<div class="card"><h3>{html.text(boot.names)}</h3>',
            html.table(("pass", "bytes", "what it does", "why"), cells, ("", "mono", "mono", "prose")),
            *notes,
            "</div>",
        )
    )


def _asm(explanation: Explanation, address: int, code: bytes, kind: str) -> str:
    return f'<span class="{kind}">{html.text(explanation.disassembly(address, code))}</span>'
