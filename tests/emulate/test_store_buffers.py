"""Store buffers do to memory what x86 allows, and nothing else (Sewell et al. 2010); locks that lack a fence break."""

from __future__ import annotations

from random import Random

import iced_x86
import pytest

from emulate.test_locks import SIDE_BY_SIDE, TIGHT, TORN, image
from pvops.assembler import Image, label, mem, space
from pvops.assembler.operands import eax, ecx, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import addl, lock, mfence, movb, movl, xchgl
from pvops.emulate.guest import locks
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.memory import Memory
from pvops.emulate.smp.stores import StoreBuffer
from pvops.emulate.smp.vcpu import Vcpu

X, Y, Z = mem("x"), mem("y"), mem("z")


class Bare:
    """Nothing below."""

    def trap(self, cpu: Vcpu, kind: str, number: int) -> bool:
        return False

    def cpuid(self, cpu: Vcpu) -> bool:
        return False


def outcomes(*programs: Body, buffers: bool = True, seeds: int = 400) -> set[tuple[tuple[int, int], ...]]:
    """What each CPU has in eax and edx in the end, over many schedules."""
    built_image = Image(32)
    for n, program in enumerate(programs):
        built_image.text(label(f"cpu{n}"), program, label(f"end{n}"))
    built_image.data([(label(name), space(64)) for name in "xyz"])
    built = built_image.build("cpu0")
    (text, code), (data, raw) = built.sections[".text"], built.sections[".data"]
    low = min(text, data) & -0x1000
    memory = Memory(low, 0x10000)
    memory.write(text, code)
    span = text & -0x1000, (text + len(code) + 0xFFF) & -0x1000
    cpus = [Vcpu(n, memory, span, 32, 0, Bare()) for n in range(len(programs))]
    decoded = list(iced_x86.Decoder(32, code, ip=text))
    made = [StoreBuffer(cpu, decoded) for cpu in cpus] if buffers else []
    found = set()
    for seed in range(seeds):
        random = Random(seed)
        memory.write(data, bytes(len(raw)))
        for n, cpu in enumerate(cpus):
            cpu.enter(built.symbols[f"cpu{n}"], low + 0xF000 + 0x400 * n, 0)
            cpu.set("eax", 9)
            cpu.set("edx", 9)
        for buffer in made:
            buffer.begin(Random(seed << 8))
        left = list(range(len(cpus)))
        while left:
            n = random.choice(left)
            if made:
                made[n].resume()
            cpus[n].step(1 + random.getrandbits(1), built.symbols[f"end{n}"])
            if made:
                made[n].suspend()
            assert cpus[n].stopped is None
            if cpus[n].get("pc") == built.symbols[f"end{n}"]:
                left.remove(n)
        found.add(tuple((cpu.get("eax"), cpu.get("edx")) for cpu in cpus))
    return found


def test_a_load_passes_a_store_and_nothing_but_a_fence_or_a_locked_instruction_stops_it() -> None:
    """SB: both CPUs store, then read what the other stored."""

    def sb(*between: Body) -> tuple[Body, Body]:
        return (movl(1, X), between, movl(Y, eax)), (movl(1, Y), between, movl(X, eax))

    both_zero = ((0, 9), (0, 9))
    assert both_zero not in outcomes(*sb(), buffers=False)
    assert both_zero in outcomes(*sb())
    assert both_zero in outcomes(*sb(movl(Z, edx), movl(9, edx)))
    for fence in (mfence(), lock(addl(0, Z)), xchgl(ecx, Z)):
        assert both_zero not in outcomes(*sb(fence))


def test_stores_are_seen_in_order_and_loads_are_done_in_order() -> None:
    """MP and LB: what x86 does not do."""
    passed = outcomes((movl(1, X), movl(1, Y)), (movl(Y, eax), movl(X, edx)))
    assert {found[1] for found in passed} == {(0, 0), (0, 1), (1, 1)}
    loads = outcomes((movl(X, eax), movl(1, Y)), (movl(Y, eax), movl(1, X)))
    assert ((1, 9), (1, 9)) not in loads


def test_a_cpu_reads_its_own_stores_early_and_the_byte_that_it_changed_in_a_word() -> None:
    """n6-like: each sees its own store and not yet the other's; a store of a byte lies over the word below it."""
    own = outcomes((movl(1, X), movl(X, eax), movl(Y, edx)), (movl(1, Y), movl(Y, eax), movl(X, edx)))
    assert ((1, 0), (1, 0)) in own
    assert {found[n][0] for found in own for n in (0, 1)} == {1}
    parts = outcomes((movl(0x01020304, X), movb(7, X), movl(X, eax)), (movl(X, eax),))
    assert {found[0][0] for found in parts} == {0x01020307}
    assert {found[1][0] for found in parts} == {0, 0x01020304, 0x01020307}


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(("name", "backend"), [("xen-byte-2.6.27", "xen"), ("pv-ticket-sym", "kvm")])
def test_a_lock_without_its_fence_loses_a_kick_where_stores_are_buffered(name: str, backend: str, bits: int) -> None:
    machine = Machine(image(name, bits, mutant="missing-fence"), backend, 3)
    settings = [(TORN if seed % 2 else SIDE_BY_SIDE)._replace(seed=seed) for seed in range(300)]
    broken = next(
        outcome for outcome in (machine.run(each._replace(buffers=True)) for each in settings) if outcome.broken
    )
    assert broken.broken is not None
    assert broken.broken.kind == "lost-kick"
    assert machine.run(broken.setting) == broken, "a seed decides what drains, too"
    assert machine.run(broken.setting._replace(buffers=False)).ok
    assert all(machine.run(each).ok for each in settings[:40])


@pytest.mark.parametrize("name", locks.NAMES)
def test_locks_that_have_their_fences_keep_their_promises(name: str) -> None:
    for bits in (32, 64):
        for backend in locks.protocol(name).backends:
            machine = Machine(image(name, bits), backend, 4)
            for seed in range(6):
                outcome = machine.run(TIGHT._replace(seed=seed, buffers=True))
                assert outcome.ok, outcome.broken


def test_a_sleeper_notes_its_slot_before_it_looks_at_it_again() -> None:
    """The store of W_WANT has to be seen before the look: without a barrier, this schedule lost a kick."""
    setting = TORN._replace(seed=291, buffers=True, ticket=254)
    for patched in (False, True):
        outcome = Machine(image("pv-ticket-sym", 32), "xen", 4, patched=patched).run(setting)
        assert outcome.ok, outcome.stop.why
