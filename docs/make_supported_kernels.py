"""Write the table of supported-kernels.md from the eras: ``python docs/make_supported_kernels.py``.

A test checks that the page is what this would write.
"""

from __future__ import annotations

from pathlib import Path

from marks import filled

from pvops import backends, eras
from pvops.errors import OpsError

PAGE = Path(__file__).with_name("supported-kernels.md")


def table() -> list[str]:
    """One line for each era, oldest first."""
    out = [
        "| era | kernels | bits | calls of ops | tables of ops | other passes | nops | backends |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for at, listed in enumerate(eras.ERAS):
        era = eras.era(listed.name)
        calls = "`.parainstructions`" if era.sites is not None else "`.altinstructions`"
        arrays = ", ".join(f"`{array.symbol}`" for array in era.arrays if array.symbol) or "a variable each"
        passes = " or ".join(dict.fromkeys(passes.name for passes in era.passes))
        nops = "by CPU" if era.nops.by_cpu else "one table"
        known = [name for name in era.backends if era.passes and at and _has(name, listed.name)]
        bits = ", ".join(map(str, era.bits))
        cells = (_releases(at), bits, calls, arrays, passes, nops, ", ".join(known) or "none")
        out.append(f"| `{listed.name}` | " + " | ".join(cells) + " |")
    return out


def _has(backend: str, era: str) -> bool:
    """Whether an image of an era can be planned for a backend."""
    try:
        found = backends.get(backend, era)
    except OpsError:
        return False
    return found.steps(era) is not None


def _releases(at: int) -> str:
    first = eras.ERAS[at].first
    if first is None:
        return "told by the image"
    later = [listed.first for listed in eras.ERAS[at + 1 :] if listed.first is not None and listed.first > first]
    begin = ".".join(map(str, first))
    return f"{begin} to before {'.'.join(map(str, later[0]))}" if later else f"{begin} and later"


def current(page: str) -> str:
    """The page with its table as the eras have it now."""
    return filled(page, {"eras": table()})


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
