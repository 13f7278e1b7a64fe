"""Generated guests: whatever ops they call, in loops and lazy sections, they end in one state on every backend."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulate.guests import ran
from pvops.assembler import addr
from pvops.emulate import GuestImage, hosts
from pvops.emulate.guest.layout import PAGE_FLAGS, USER, gate
from pvops.emulate.guest.opening import CR0, address_spaces, descriptors
from pvops.emulate.guest.program import Call, Entry, IrqSave, Lazy, Loop, Pmd, Program, Pte, Step, Switch, Table, Touch

MM = st.integers(0, len(USER) - 1)
PAGE = st.integers(0, 511)
#: Entries in use, and none at all.
VALUE = st.one_of(st.just(0), st.integers(0, 0xFFFFF).map(lambda frame: frame << 12 | PAGE_FLAGS))
WORD = st.integers(0, 0xFFFFFFFF)


def _pte_at(mm: int, page: int, value: int) -> Step:
    return Call("pv_mmu_ops.set_pte_at", (addr(f"mm{mm}"), USER[mm] + (page << 12), Pte(mm, page), Entry(value)))


def _segment(low: int, high: int) -> tuple[int, int]:
    """A data segment: what a kernel may put into a table without being stopped."""
    return low, high & 0xFF0F00FF | 0x00C0F200


mmu: st.SearchStrategy[Step] = st.one_of(
    st.builds(_pte_at, MM, PAGE, VALUE),
    st.builds(lambda m, p, v: Call("pv_mmu_ops.set_pte", (Pte(m, p), Entry(v))), MM, PAGE, VALUE),
    st.builds(lambda m: Call("pv_mmu_ops.set_pmd", (Pmd(m), Table(m))), MM),
    st.sampled_from(("user", "kernel")).map(lambda which: Call(f"pv_mmu_ops.flush_tlb_{which}")),
    st.builds(lambda m, p: Call("pv_mmu_ops.flush_tlb_single", (USER[m] + (p << 12),)), MM, PAGE),
)
cpu: st.SearchStrategy[Step] = st.one_of(
    st.just(Call("pv_cpu_ops.clts")),
    st.sampled_from((CR0, CR0 | 8)).map(lambda value: Call("pv_cpu_ops.write_cr0", (value,))),
    st.just(Call("pv_cpu_ops.read_cr0", record=True)),
    MM.map(lambda m: Call("pv_cpu_ops.load_tls", (addr(f"thread{m}"), 0))),
    MM.map(lambda m: Call("pv_cpu_ops.load_esp0", (addr("init_tss"), addr(f"thread{m}")))),
)
#: Only before the first thread runs: lguest of the seed loses its TLS over them (test_lguest_forgets_tls).
gdt: st.SearchStrategy[Step] = st.builds(
    lambda n, low, high: Call("pv_cpu_ops.write_gdt_entry", (addr("gdt_table"), n, *_segment(low, high))),
    *(st.integers(18, 31), WORD, WORD),
)
tables: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda n, low, high: Call("pv_cpu_ops.write_ldt_entry", (addr("ldt_table"), n, *_segment(low, high))),
        *(st.integers(0, 7), WORD, WORD),
    ),
    st.integers(0, 13).map(lambda n: Call("pv_cpu_ops.write_idt_entry", (addr("idt_table"), n, *gate(n)))),
)
irq: st.SearchStrategy[Step] = st.one_of(
    st.sampled_from(("irq_enable", "irq_disable")).map(lambda op: Call(f"pv_irq_ops.{op}")),
    st.just(Call("pv_irq_ops.save_fl", record=True)),
    st.sampled_from((0, 0x200)).map(lambda flags: Call("pv_irq_ops.restore_fl", (flags,))),
    st.just(Call("pv_irq_ops.safe_halt")),
    st.just(Call("pv_cpu_ops.read_tsc", record=True)),
)
plain = st.one_of(mmu, cpu, tables, irq)


def _taking_turns(mm: int, touches: int) -> Step:
    return Loop(1, (Switch(mm), *(Touch(mm, 8) for _ in range(touches))))


step = st.recursive(
    st.one_of(
        plain,
        st.builds(_taking_turns, MM, st.integers(0, 2)),
        st.builds(Lazy, st.sampled_from(("mmu", "cpu")), st.lists(st.one_of(mmu, cpu, irq), max_size=6).map(tuple)),
    ),
    lambda inner: st.one_of(
        st.builds(Loop, st.integers(1, 2), st.lists(inner, max_size=3).map(tuple)),
        st.builds(IrqSave, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=4,
)


def _depth(steps: tuple[Step, ...] | list[Step]) -> int:
    """How deep loops go."""
    inner = (_depth(getattr(s, "steps", ())) + isinstance(s, Loop) for s in steps)
    return max(inner, default=0)


def _program(early: list[Step], steps: list[Step]) -> Program:
    begin = (*descriptors(), *early, *address_spaces(), Call("pv_cpu_ops.write_cr0", (CR0,)), Switch(0))
    return Program("generated", "", (*begin, *steps), fault_around=8)


steps = st.lists(step, min_size=3, max_size=14).filter(lambda found: _depth(found) <= 3)
programs = st.builds(_program, st.lists(gdt, max_size=2), steps)


@given(programs, st.sampled_from(("seed", "2.6.33")), st.sampled_from(("k8", "k7", "generic")), st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_a_guest_ends_in_one_state_on_every_backend(program: Program, era: str, nops: str, lazy: bool) -> None:
    guest = GuestImage(program, era)
    bare = ran(guest, patched=False, lazy=not lazy)
    assert bare.stop.kind == "done", bare.stop.why
    for backend in hosts.BACKENDS[era]:
        as_built = ran(guest, backend, patched=False, lazy=lazy)
        for result in (as_built, ran(guest, backend, lazy=lazy, nops=nops), ran(guest, backend, lazy=not lazy)):
            assert result.stop.kind == "done", f"{backend}: {result.stop.why}"
            assert result.final_state == bare.final_state, f"{backend}, patched {result.patched}, lazy {result.lazy}"
            assert {op: n for op, n in result.ops.items() if "lazy" not in op and "context_switch" not in op} == {
                op: n for op, n in bare.ops.items() if "lazy" not in op and "context_switch" not in op
            } or backend == "xen"
