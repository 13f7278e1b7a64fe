"""The tour on x86-64: every op of 2.6.33 and 3.12 below every backend, and user space of 64 and of 32 bits."""

from __future__ import annotations

from functools import cache

import pytest

from pvops.assembler import mem
from pvops.assembler.operands import eax, edi
from pvops.assembler.statements import Body
from pvops.assembler.x86 import movl, syscall, ud2, vmcall
from pvops.emulate import Limits, Session
from pvops.emulate.guest.wide import ERAS, NAME, entry
from pvops.emulate.guest.wide.image import WideImage
from pvops.emulate.hosts.host import HostModel
from pvops.emulate.hosts.wide import HOSTS
from pvops.emulate.job import Job, differing, results
from pvops.emulate.session import Result, run
from pvops.errors import RunError

PAIRS = [(era, backend) for era in ERAS for backend in HOSTS]
QUICK = Limits(instructions=50_000, seconds=5)


@cache
def image(era: str, backend: str | None = None) -> WideImage:
    return WideImage(era, backend=backend)


def host(backend: str, guest: WideImage) -> HostModel:
    return HOSTS[backend](guest)


def ran(guest: WideImage, backend: str, *, patched: bool = True) -> Result:
    return run(guest, host(backend, guest), patched=patched, limits=QUICK)


def test_it_ends_in_one_state_however_it_is_run() -> None:
    found = list(results(Job([NAME])))
    assert len(found) == len(PAIRS) * 4
    assert {(r.guest, r.bits) for r in found} == {(NAME, 64)}
    assert differing(found) == []
    assert len({r.final_state for r in found}) == 1, "not even the era shows"


@pytest.mark.parametrize(("era", "backend"), PAIRS)
def test_each_op_that_is_a_function_there_is_called(era: str, backend: str) -> None:
    guest = image(era, backend)
    there = {op for op, function in guest.held(backend).items() if function is not None}
    for patched in (False, True):
        result = ran(guest, backend, patched=patched)
        assert result.stop.kind == "done", result.stop.why
        assert there - set(result.ops) == {"pv_init_ops.patch"}, "which the patcher calls"


def test_who_releases_a_lock_kicks_the_cpu_that_waits_for_it() -> None:
    """The one hypercall that KVM's ops of 3.12 make."""
    for backend, call in (("kvm", "KICK_CPU"), ("xen", "event_channel_op")):
        for patched in (False, True):
            assert ran(image("3.12"), backend, patched=patched).hypercalls[call] == 1
        assert ran(image("2.6.33"), backend).hypercalls.get(call, 0) == 0
    assert set(ran(image("3.12"), "kvm").hypercalls) == {"KICK_CPU"}


def test_the_state_is_that_of_a_machine_with_two_address_spaces() -> None:
    guest = image("3.12")
    below = host("xen", guest)
    session = Session(guest, below)
    session.boot()
    session.patch()
    assert session.run().kind == "done"
    state = below.state(session.cpu)
    assert state["cr3"] == "mm0_pgd"
    assert state["esp0"] == "kernel_stack+0x3000"
    assert state["interrupts"] is True
    pages = state["pages"]
    assert isinstance(pages, dict)
    first, second = pages["mm0_pgd"], pages["mm1_pgd"]
    assert {0x08000000 >> 12, 0x08005000 >> 12, entry.TOUCHED >> 12} <= {int(address, 16) >> 12 for address in first}
    assert min(int(address, 16) for address in second) == 0x40000000
    assert set(state["idt"]) == {"6", "14"}  # type: ignore[call-overload]
    results_ = state["results"]
    assert isinstance(results_, list)
    assert results_[-4:] == [entry.SYSCALL, entry.SYSCALL32, entry.SYSENTER, 0x200]


@pytest.mark.parametrize(("era", "backend"), PAIRS)
def test_ways_out_of_the_kernel_are_inlined_on_bare_hardware_and_jumps_below_xen(era: str, backend: str) -> None:
    forms = ran(image(era), backend).forms
    ways = ("iret", "irq_enable_sysexit", "usergs_sysret32", "usergs_sysret64")
    assert {forms[f"pv_cpu_ops.{op}"] for op in ways} == ({"jmp"} if backend == "xen" else {"inlined"})
    assert forms["pv_cpu_ops.swapgs"] == ("nop" if backend == "xen" else "inlined")


def test_the_irq_ops_of_3_12_are_inlined_below_xen_where_they_fit() -> None:
    for era, form in (("2.6.33", "left"), ("3.12", "inlined")):
        assert form in ran(image(era), "xen").forms["pv_irq_ops.irq_disable"]


@pytest.mark.parametrize(
    ("op", "function", "backend"),
    [
        ("pv_cpu_ops.swapgs", "_paravirt_nop", "native"),
        ("pv_cpu_ops.usergs_sysret64", "native_usergs_sysret32", "native"),
        ("pv_cpu_ops.usergs_sysret32", "native_usergs_sysret64", "kvm"),
        ("pv_cpu_ops.irq_enable_sysexit", "native_usergs_sysret64", "native"),
        ("pv_cpu_ops.usergs_sysret32", "xen_sysret64", "xen"),
        ("pv_cpu_ops.usergs_sysret64", "native_usergs_sysret64", "xen"),
        ("pv_irq_ops.adjust_exception_frame", "_paravirt_nop", "xen"),
        ("pv_mmu_ops.set_pud", "_paravirt_nop", "native"),
        ("pv_mmu_ops.set_pte_at", "_paravirt_nop", "kvm"),
        ("pv_mmu_ops.read_cr2", "native_read_cr3", "native"),
        ("pv_cpu_ops.load_sp0", "_paravirt_nop", "native"),
        ("pv_cpu_ops.load_tls", "_paravirt_nop", "xen"),
        ("pv_cpu_ops.write_idt_entry", "_paravirt_nop", "kvm"),
        ("pv_cpu_ops.clts", "_paravirt_nop", "xen"),
        ("pv_irq_ops.irq_enable", "_paravirt_nop", "native"),
        ("pv_cpu_ops.clts", "_paravirt_nop", "kvm"),
    ],
)
def test_an_op_that_holds_another_function_does_not_end_in_that_state(op: str, function: str, backend: str) -> None:
    guest = image("2.6.33")
    right = ran(guest, backend, patched=False)
    session = Session(guest, host(backend, guest), limits=QUICK)
    session.boot()
    session.hold(op, function)
    wrong = session.result(session.run(), patched=False, seconds=0)
    assert wrong.final_state != right.final_state


@pytest.mark.parametrize(
    ("backend", "body", "kind", "words"),
    [
        ("xen", (movl(99, eax), syscall()), "hypercall", "unknown hypercall 99"),
        ("kvm", (movl(99, eax), vmcall()), "hypercall", "unknown hypercall 99"),
        ("native", (syscall(),), "trap", "syscall"),
        ("native", (vmcall(),), "trap", "no instruction"),
        ("xen", (movl(eax, mem(0x70000000)),), "memory", "writes 0x70000000"),
        ("native", (movl(mem(0x70000000), edi),), "memory", "reads 0x70000000"),
        ("xen", (ud2(),), "bug", "ud2"),
    ],
)
def test_what_the_guest_may_not_do_ends_it(backend: str, body: tuple[Body, ...], kind: str, words: str) -> None:
    guest = WideImage("2.6.33", body=body)
    stop = ran(guest, backend).stop
    assert (stop.kind, words in stop.why) == (kind, True), stop


def test_eras_and_classes_that_it_does_not_have_are_refused() -> None:
    with pytest.raises(RunError, match=r"no tour64 of era seed \(there are 2.6.33, 3.12\)"):
        WideImage("seed")
    with pytest.raises(RunError, match="calls every op: no class of them is configured out"):
        WideImage("3.12", without=["PARAVIRT_IRQ"])
