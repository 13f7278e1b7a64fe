"""Write the tables of running-a-guest.md from guests that run: ``python docs/make_running_a_guest.py``.

A test checks that the page is what this would write.
"""

from __future__ import annotations

from pathlib import Path

from marks import filled

from pvops.emulate import GuestImage, Session, hosts, run, shipped
from pvops.emulate.guest.tour import tour

PAGE = Path(__file__).with_name("running-a-guest.md")


def forms(era: str) -> list[str]:
    """What the site of each op becomes under each backend: the tour of all ops that bare hardware has."""
    image = GuestImage(tour("native", era), era)
    columns = {}
    for backend in hosts.BACKENDS[era]:
        session = Session(image, hosts.of(backend, era)(image))
        session.boot()
        cells: dict[str, set[str]] = {op: {"no site"} for op in image.plain.values()}
        for patch in session.patch():
            cells.setdefault(patch.op, set()).add(
                _bytes(patch.bytes[: patch.used], image) if patch.form == "inlined" else patch.form
            )
        columns[backend] = cells
    out = ["| op | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for op in image.pv.template:
        cells = [" or ".join(sorted(column.get(op.name, ()))) for column in columns.values()]
        if any(cells):
            out.append(f"| `{op.name}` | " + " | ".join(cells) + " |")
    return out


def _bytes(code: bytes, image: GuestImage) -> str:
    """Inlined bytes; where lguest keeps its interrupt flag depends on the image."""
    flag = image.address("lguest_data").to_bytes(4, "little")
    before, found, after = code.partition(flag)
    return f"`{before.hex(' ')} (irq_enabled) {after.hex(' ')}".rstrip() + "`" if found else f"`{code.hex(' ')}`"


def classes() -> list[str]:
    """What a class costs: out, in and unused, in use; as built and patched; and what padding buys."""
    out = ["| guest | below | classes | sites | instructions | indirect calls |", "|---|---|---|---|---|---|"]
    lock = shipped.program("lock")
    without, plain = GuestImage(lock, "seed", without=["PARAVIRT_IRQ"]), GuestImage(lock, "seed")
    rows = [
        (without, "native", "irq out", True),
        (plain, "native", "irq in", False),
        (plain, "native", "irq in", True),
        (plain, "lguest", "irq in use", False),
        (plain, "lguest", "irq in use", True),
        (GuestImage(lock, "2.6.33"), "lguest", "irq in use", True),
        (GuestImage(lock, "2.6.33", length=10), "lguest", "irq in use, sites of 10 bytes", True),
    ]
    for image, backend, what, patched in rows:
        result = run(image, hosts.of(backend, image.era)(image), patched=patched)
        sites = "patched" if patched else "as built"
        counts = f"{result.instructions:,} | {result.indirect_calls:,}"
        out.append(f"| lock, {image.era} | {backend} | {what} | {sites} | {counts} |")
    return out


TABLES = {
    "forms seed": lambda: forms("seed"),
    "forms 2.6.33": lambda: forms("2.6.33"),
    "classes": classes,
}


def current(page: str) -> str:
    """The page with its tables as they should be."""
    return filled(page, {name: table() for name, table in TABLES.items()})


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
