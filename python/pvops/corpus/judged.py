"""A kernel of a corpus, judged: opened, its tables read, and each boot held to what is predicted and explained."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter

from pvops.corpus.boot import text_in_memory
from pvops.corpus.options import compiler, options
from pvops.corpus.results import NO_PASS, BootResult, Guesses, KernelResult
from pvops.errors import Error, ImageError
from pvops.kernel import Kernel, open
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.corpus.files import BootFiles, KernelFiles
    from pvops.machine.machine import Machine
    from pvops.plan.plan import Plan


class _Compared(NamedTuple):
    """A prediction beside what was in memory."""

    backend: str
    compared: int
    wrong: dict[str, int]
    guesses: dict[str, Guesses]


def judge(files: KernelFiles) -> KernelResult:
    """Opens a kernel, reads its tables, and judges its boots. What is refused is said in the result."""
    file = os.path.basename(files.path)
    try:
        kernel = open(files.path)
        sites = dict(kernel.sites.counts().rows)
    except Error as error:
        return KernelResult(file, None, None, (), None, None, _said(error), {}, ())
    try:
        era: str | None = kernel.rules.era
    except Error:
        era = None
    boots = tuple(_boot(kernel, boot) for boot in files.boots)
    return KernelResult(file, kernel.release, kernel.bits, options(kernel), compiler(kernel), era, None, sites, boots)


def _said(error: Error) -> str:
    """What an error says, without the path of its file."""
    text = str(error)
    return text.removeprefix(f"{error.file}: ") if error.file else text


def _boot(kernel: Kernel, boot: BootFiles) -> BootResult:
    from pvops.machine.machine import Machine

    refused: list[str] = []
    machine = compared = None
    try:
        address, text = _text(kernel)
        memory = text_in_memory(boot, text, address)
        facts = boot.beside(".facts")
        machine = Machine.load(facts) if facts is not None else None
    except Error as error:
        return BootResult(boot.name, None, None, 0, {}, {}, None, None, None, _said(error))
    unexplained, inferred, slide = _verified(kernel, memory, None, refused)
    told, _, _ = _verified(kernel, memory, machine, refused) if machine is not None else (None, None, 0)
    if machine is not None:
        try:
            compared = _compare(kernel.moved(slide) if slide else kernel, machine, memory)
        except Error as error:
            refused.insert(0, _said(error))
    return BootResult(
        name=boot.name,
        hypervisor=machine.hypervisor.value if machine is not None else None,
        backend=compared.backend if compared is not None else None,
        compared=compared.compared if compared is not None else 0,
        wrong=compared.wrong if compared is not None else {},
        guesses=compared.guesses if compared is not None else {},
        unexplained=unexplained,
        unexplained_told=told,
        inferred=inferred,
        refused="; ".join(dict.fromkeys(refused)) or None,
    )


def _text(kernel: Kernel) -> tuple[int, bytes]:
    for name, address, size, _ in kernel.image.sections():
        if name == ".text":
            return address, kernel.image.read(address, size) or b""
    raise ImageError(f"{kernel.name}: no .text", reason="no .text", file=kernel.name)


def _verified(
    kernel: Kernel, memory: bytes, machine: Machine | None, refused: list[str]
) -> tuple[int | None, str | None, int]:
    """How many runs nothing explains, the backend that is inferred, and how far the kernel slid."""
    try:
        report = kernel.verify(memory, machine=machine)
    except Error as error:
        refused.append(f"verify: {_said(error)}")
        return None, None, 0
    return len(report.unexplained), report.backend, report.slide


def _compare(kernel: Kernel, machine: Machine, memory: bytes) -> _Compared:
    """What the kernel is predicted to write there, beside what it wrote."""
    from pvops.decide.backend import chosen

    low, _ = _text(kernel)
    plan = kernel.plan(chosen(kernel, machine).name, machine=machine)
    planned = bytes(plan.apply())
    guessed = bytearray(len(planned))
    written = kernel.image.data_in_text()
    for start, end in written:
        guessed[start - low : end - low] = b"\1" * (end - start)
    found: dict[str, list[tuple[int, bool]]] = {}
    for site in plan.undetermined:
        at = site.address - low
        if not 0 <= at <= len(planned) - site.len:
            continue
        guessed[at : at + site.len] = b"\1" * site.len
        held = memory[at : at + site.len]
        wrong = sum(a != b for a, b in zip(planned[at : at + site.len], held, strict=True))
        listed = not wrong or any(_admits(form, held) for form in site.forms)
        found.setdefault(site.table, []).append((wrong, listed))
    guesses = {table: _counted(each) for table, each in sorted(found.items())}
    wrong_at = [at for at in _differences(planned, memory) if not guessed[at]]
    compared = len(memory) - sum(end - start for start, end in written)
    return _Compared(plan.backend.name, compared, _by_pass(plan, low, wrong_at), guesses)


def _counted(sites: list[tuple[int, bool]]) -> Guesses:
    """Of each site how many bytes are wrong, and whether one of its forms is what memory holds."""
    wrong = [count for count, _ in sites if count]
    return Guesses(len(sites), len(wrong), sum(wrong), sum(not listed for _, listed in sites))


def _admits(form: str, held: bytes) -> bool:
    """Whether a form, with ``??`` for any byte, is what memory holds."""
    text = held.hex()
    return len(form) == len(text) and all(a in ("?", b) for a, b in zip(form, text, strict=True))


#: Bytes that are compared at once.
_STEP = 4096


def _differences(planned: bytes, memory: bytes) -> list[int]:
    """Where two texts of one length differ."""
    found = []
    for start in range(0, len(planned), _STEP):
        a, b = planned[start : start + _STEP], memory[start : start + _STEP]
        if a != b:
            found += [start + at for at in range(len(a)) if a[at] != b[at]]
    return found


def _by_pass(plan: Plan, low: int, wrong: list[int]) -> dict[str, int]:
    """Pass → how many of these bytes of ``.text`` it wrote last, or its table lists."""
    if not wrong:
        return {}
    spans: dict[int, tuple[int, str]] = {}
    for site in plan.kernel.sites:
        spans[site.address] = (max(len(site.bytes), 1), site.rows[-1].table if site.rows else NO_PASS)
    for address, table, _, code, *_ in plan.raw():
        if code:
            spans[address] = (max(len(code), spans.get(address, (0, ""))[0]), table)
    starts = sorted(spans)
    counted: Counter[str] = Counter()
    for at in wrong:
        index = bisect_right(starts, low + at) - 1
        start = starts[index] if index >= 0 else 0
        length, table = spans.get(start, (0, NO_PASS))
        counted[table if low + at < start + length else NO_PASS] += 1
    return dict(counted.most_common())
