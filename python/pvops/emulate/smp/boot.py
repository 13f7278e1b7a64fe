"""A lock's guest gets going: loaded, its init code run on the first CPU, patched, and every CPU at its start."""

from __future__ import annotations

from pvops.emulate import patching
from pvops.emulate.guest.locks.code import NUMBER
from pvops.emulate.smp.memory import PAGE, Memory
from pvops.emulate.smp.text import msrs
from pvops.emulate.smp.vcpu import Vcpu
from pvops.errors import RunError
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.locks.kernel import LockImage
    from pvops.emulate.smp.hypervisors import Hypervisor
    from pvops.eras.patching import PatchFunction


class Write(NamedTuple):
    """A write of the patching: where, by which pass, which bytes, and what they are (``called``, ``inlined``, …)."""

    address: int
    table: str
    bytes: bytes
    kind: str


class Booted(NamedTuple):
    """A guest in front of ``cpu_start``, on every CPU.

    Attributes:
        memory: its memory.
        cpus: its CPUs.
        patches: the writes of its patching.
    """

    memory: Memory
    cpus: list[Vcpu]
    patches: list[Write]


def boot(image: LockImage, below: Hypervisor, vcpus: int, *, patched: bool) -> Booted:
    """Boots it.

    Raises:
        RunError: it does not get to where it would be patched.
    """
    memory, text = load(image)
    below.load(memory)
    for number in range(vcpus):
        memory.set_number(image.per_cpu(number) + NUMBER, 4, number)
    cpus = [Vcpu(n, memory, text, image.bits, below.ring, below) for n in range(vcpus)]
    traps = msrs(image, memory)
    for cpu in cpus:
        cpu.watch_msrs(traps)
    first = cpus[0]
    _enter(image, first, below.entry)
    first.step(100_000, image.address("check_bugs"))
    if first.get("pc") != image.address("check_bugs"):
        raise RunError(f"the guest does not come up: {first.stopped.why if first.stopped else 'it does not end'}")
    patches = patch(image, memory, below.name, paravirt=patched)
    for cpu in cpus:
        cpu.uc.ctl_remove_cache(*text)
        _enter(image, cpu, "cpu_start")
    return Booted(memory, cpus, patches)


def _enter(image: LockImage, cpu: Vcpu, entry: str) -> None:
    base = image.per_cpu(cpu.number) - image.address("per_cpu_start")
    cpu.enter(image.address(entry), image.stack(cpu.number), base)


def load(image: LockImage) -> tuple[Memory, tuple[int, int]]:
    """The image in memory, and where its text lies."""
    sections = image.built.sections
    low = min(address for address, _ in sections.values()) & -PAGE
    high = max(address + len(raw) for address, raw in sections.values())
    memory = Memory(low, high - low)
    executed = [(a, a + len(raw)) for name, (a, raw) in sections.items() if name.startswith(".text")]
    text = min(a for a, _ in executed) & -PAGE, max(b for _, b in executed) + PAGE - 1 & -PAGE
    memory.write(text[0], b"\xcc" * (text[1] - text[0]))
    for address, raw in sections.values():
        memory.write(address, raw)
    return memory, text


def patch(image: LockImage, memory: Memory, backend: str, *, paravirt: bool) -> list[Write]:
    """Patches the text for what the structures hold now: static keys, alternatives, and if wanted the sites of ops."""
    template = image.pv.template
    pointers = {}
    for op in template:
        base = template.symbol or op.struct
        offset = op.offset if template.symbol else op.offset - template.struct_offsets[op.struct]
        pointers[op.name] = memory.number(image.address(base) + offset, image.bits // 8)
    on = bool(image.protocol.backends[backend])
    keys = {image.address(image.protocol.key): on} if image.protocol.key else {}
    plan = patching.planned(image, pointers, _function(image, backend), "k8", image.features(backend), keys)
    done = []
    for address, table, _, code, kind, *_ in plan.writes():
        if table == "paravirt" and not paravirt:
            continue
        if code:
            memory.write(address, code)
        done.append(Write(address, table, code, kind))
    return done


def _function(image: LockImage, backend: str) -> PatchFunction | None:
    """The patch function. Xen's own code for the irq ops fits a site in one place here: irq_disable in 2.6.25."""
    if backend == "xen":
        from pvops.backends import xen_2007

        return xen_2007.patch_function(image.pv.era, image.direct_code())
    return image.pv.era.patch_function(image.config)
