"""A guest that misbehaves ends in a report that says how, where and why, and never hangs."""

from __future__ import annotations

import pytest

from emulate.guests import built, image, ran
from pvops.assembler import Value, addr, label, mem
from pvops.assembler.operands import eax, ebx, ecx, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import call, int_, jmp, movl, pushl, ret, ud2, vmcall
from pvops.emulate import GuestImage, Limits
from pvops.emulate.guest.program import Call, Loop, Program, Raw, Touch
from pvops.errors import RunError

QUICK = Limits(instructions=20_000, seconds=5)


def site_of(guest: GuestImage, op: str) -> int:
    return next(address for address, (found, _) in guest.sites().items() if found == op)


@pytest.mark.parametrize("backend", ["native", "lguest", "xen"])
def test_a_jump_into_the_middle_of_a_patched_site(backend: str) -> None:
    first = built(Call("pv_cpu_ops.clts"), Raw((jmp(Value(None, 0xC0100000)),)))
    target = site_of(first, "pv_cpu_ops.clts") + 2
    guest = built(Call("pv_cpu_ops.clts"), Raw((jmp(Value(None, target)),)))
    assert site_of(guest, "pv_cpu_ops.clts") + 2 == target
    stop = ran(guest, backend, limits=QUICK).stop
    assert (stop.kind, stop.address) == ("into-site", target)
    assert "pv_cpu_ops.clts" in stop.why


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ((jmp(Value(None, 0x700000)),), "run-off", "no code"),
        ((jmp(addr("results")),), "run-off", "no code"),
        ((pushl(0xDEAD0000), ret()), "run-off", "0xdead0000"),
        ((movl(0x90909090, mem("check_bugs")),), "text-write", "over its own code"),
        ((movl(mem(0xF0000000), eax),), "memory", "reads 0xf0000000"),
        ((movl(eax, mem(0xF0000000)),), "memory", "writes 0xf0000000"),
        ((ud2(),), "bug", "ud2"),
        ((label("again"), jmp("again")), "instructions", "20,000"),
        ((int_(0x80),), "trap", "int $0x80"),
    ],
)
def test_what_a_guest_may_not_do(body: tuple[Body, ...], kind: str, words: str) -> None:
    guest = built(Raw(body))
    for backend in ("native", "lguest", "xen"):
        result = ran(guest, backend, limits=QUICK)
        assert (result.stop.kind, result.final_state) == (kind, "")
        assert words in result.stop.why


@pytest.mark.parametrize(
    ("backend", "era", "body", "words"),
    [
        ("lguest", "seed", (movl(99, eax), int_(0x1F)), "unknown hypercall 0x63"),
        ("lguest", "seed", (movl(1, eax), int_(0x1F)), "LGUEST_INIT twice"),
        ("xen", "seed", (movl(63, eax), int_(0x82)), "unknown hypercall 63"),
        ("xen", "seed", (call(addr("hypercall_page") + 32 * 40),), "unknown hypercall 40"),
        ("kvm", "2.6.33", (movl(77, eax), vmcall()), "unknown hypercall 77"),
    ],
)
def test_an_unknown_hypercall(backend: str, era: str, body: tuple[Body, ...], words: str) -> None:
    stop = ran(built(Raw(body), era=era), backend).stop
    assert stop.kind == "hypercall"
    assert words in stop.why


def test_no_hypercall_of_a_batch_is_taken_on_trust() -> None:

    bad = Raw((movl(99, mem("mc_entries")), movl(addr("mc_entries"), ebx), movl(1, ecx)))
    stop = ran(built(bad, Raw((movl(13, eax), int_(0x82)))), "xen").stop
    assert (stop.kind, "99 in a multicall" in stop.why) == ("hypercall", True)
    many = Raw((movl(addr("mc_entries"), ebx), movl(1 << 30, ecx), movl(13, eax), int_(0x82)))
    assert ran(built(many), "xen").stop.kind == "hypercall"


def test_pointers_of_hypercalls_are_not_taken_on_trust() -> None:

    for backend, era, body in (
        ("lguest", "seed", (movl(0x30000000, edx), movl(16, eax), int_(0x1F))),
        ("xen", "seed", (movl(0x30000000, ebx), movl(0, eax), int_(0x82))),
        ("kvm", "2.6.33", (movl(64, ebx), movl(0x30000000, ecx), movl(2, eax), vmcall())),
    ):
        stop = ran(built(Raw(body), era=era), backend).stop
        assert stop.kind == "hypercall"
        assert "no memory there" in stop.why


def test_a_full_ring_is_no_end_and_shows() -> None:
    """64 calls wait, the 65th goes at once and takes them along."""
    from pvops.emulate.guest.program import Lazy

    steps = tuple(Call("pv_cpu_ops.clts") for _ in range(65))
    result = ran(built(Lazy("cpu", steps)), "lguest")
    assert result.stop.kind == "done"
    assert result.queued == {"TS": 64}
    assert result.hypercalls["TS"] == 1
    assert result.batches == 1


def test_a_ring_that_is_filled_behind_the_drivers_back_is_drained_or_refused() -> None:
    from pvops.emulate.abi.lguest import RING, STATUS

    fill = Raw(tuple(movl(0, mem(addr("lguest_data") + STATUS + 4 * i)) for i in range(RING // 4)))
    result = ran(built(fill, Call("pv_irq_ops.safe_halt")), "lguest")
    assert result.stop.kind == "done"
    assert result.queued == {"FLUSH_ASYNC": RING}


def test_a_fault_that_is_never_mended_ends() -> None:
    """No gate for it, or a handler that maps nothing."""
    assert ran(built(Touch(0)), limits=QUICK).stop.kind == "memory"


def test_a_guest_that_does_nothing_but_trap_is_stopped_by_the_clock() -> None:
    storm = built(Raw((label("again"), movl(0, eax), int_(0x1F), jmp("again"))))
    assert ran(storm, "lguest", limits=Limits(instructions=1 << 40, seconds=0.3)).stop.kind == "time"


def test_an_access_across_pages_needs_both() -> None:
    from pvops.emulate.guest.opening import address_spaces, descriptors
    from pvops.emulate.guest.program import Switch

    across = Raw((movl(mem(0x08000FFE), eax), movl(eax, mem(0x08001FFE))))
    guest = built(*descriptors(), *address_spaces(), Switch(0), across)
    for backend in ("native", "lguest", "xen"):
        assert ran(guest, backend).stop.kind == "done"


def test_a_null_op() -> None:
    """As built the CPU jumps to 0; patched the site is ud2."""
    guest = built(Call("pv_cpu_ops.clts"), Raw((movl(0, mem(addr("pv_cpu_ops") + 8)),)), Call("pv_cpu_ops.clts"))
    assert ran(guest, patched=False).stop.kind == "run-off"
    assert ran(guest, patched=True).stop.kind == "done", "patched long before"


def test_programs_that_cannot_be() -> None:
    from pvops.errors import Error

    for bad in (
        Program("x", "", (Loop(0, ()),)),
        Program("x", "", (Loop(1, (Loop(1, (Loop(1, (Loop(1, ()),)),)),)),)),
        Program("x", "", (Touch(7),)),
        Program("x", "", (Call("pv_cpu_ops.nothing"),)),
        Program("x", "", (), fault_around=3),
    ):
        with pytest.raises(Error):
            GuestImage(bad, "seed")
    with pytest.raises(RunError, match=r"no guests of era 6\.1"):
        GuestImage(Program("x", "", ()), "6.1")
    with pytest.raises(RunError, match="no guest of seed runs under kvm"):
        ran(image("lock", "seed"), "kvm")
