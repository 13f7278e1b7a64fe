"""Every backend keeps the machine as bare hardware would have it; what each op costs it, and what its sites become."""

from __future__ import annotations

import pytest

from emulate.guests import PAIRS, built, image, ran
from pvops import eras as ops
from pvops.assembler import addr
from pvops.backends.headers import held_by
from pvops.emulate import GuestImage, Session, hosts
from pvops.emulate.guest import opening, shipped, tour
from pvops.emulate.guest.image import ERAS
from pvops.emulate.guest.program import Call, Entry, Lazy, Pte, Switch
from pvops.emulate.hosts.lguest import Lguest
from pvops.emulate.hosts.xen import Xen
from pvops.emulate.job import Job, differing, results
from pvops.emulate.patching import held


@pytest.mark.parametrize("name", shipped.NAMES)
def test_a_guest_ends_in_one_state_however_it_is_run(name: str) -> None:
    found = list(results(Job([shipped.program(name)])))
    assert len(found) == (4 + 5) * 4
    assert differing(found) == []
    assert len({r.final_state for r in found}) == 1, "not even the era shows"


def test_guests_end_in_different_states() -> None:
    assert len({ran(image(name, "seed")).final_state for name in shipped.NAMES}) == len(shipped.NAMES)


@pytest.mark.parametrize(("era", "backend"), PAIRS)
def test_each_op_that_a_backend_implements_is_called(era: str, backend: str) -> None:
    guest = image(f"tour-{backend}", era)
    native = guest.pv.era.patch_template(guest.config).pointers()
    own = {
        op
        for op, function in held_by(backend, guest.pv.era, guest.config).items()
        if function is not None and (backend == "native" or function != native[op])
    }
    for patched in (False, True):
        result = ran(guest, backend, patched=patched)
        assert result.stop.kind == "done", result.stop.why
        # patch is called by the patcher, and swapgs has no macro on i386.
        assert own - set(result.ops) <= {"pv_init_ops.patch", "pv_cpu_ops.swapgs"}


@pytest.mark.parametrize("era", ERAS)
def test_the_tour_calls_every_op_that_comes_to_the_same_everywhere(era: str) -> None:
    held = held_by("native", ops.era(era), image("tour", era).config)
    there = {op for op, function in held.items() if function is not None}
    apart = tour.ELSEWHERE | tour.FORBIDDEN["lguest"] | tour.APART.keys()
    called = set(ran(image("tour", era), "native").ops)
    assert there - called <= apart
    assert called & tour.APART.keys() == set()
    assert len(called) > 70


@pytest.mark.parametrize(("era", "backend"), PAIRS)
def test_init_code_fills_what_is_declared_before_the_first_site_runs(era: str, backend: str) -> None:
    guest = image("boot", era)
    session = Session(guest, hosts.of(backend, era)(guest))
    assert session.cpu.run(guest.address("start_kernel")).kind == "done"
    assert session.meter is not None
    session.meter.finish()
    assert not +session.meter.ops
    pointers = {op: guest.place(address) if address else None for op, address in held(guest, session.cpu).items()}
    assert pointers == dict(held_by(backend, guest.pv.era, guest.config))


def test_patching_takes_the_indirect_calls_out() -> None:
    for era, backend in PAIRS:
        before, after = (ran(image("switch", era), backend, patched=p) for p in (False, True))
        assert before.ops == after.ops
        # What is left is plain C calls of four ops without sites and, in 2.6.33, five-word set_pte_at.
        plain = sum(n for op, n in after.ops.items() if "plain" in after.forms[op])
        left = sum(n for op, n in after.ops.items() if "left" in after.forms[op])
        assert after.indirect_calls <= plain + left + 2 < before.indirect_calls


def test_forms_of_sites() -> None:
    native, lguest, xen = (ran(image("switch", "seed"), b).forms for b in ("native", "lguest", "xen"))
    assert native["pv_irq_ops.irq_enable"] == lguest["pv_irq_ops.irq_enable"] == "inlined"
    assert native["pv_misc_ops.set_lazy_mode"] == "nop"
    assert lguest["pv_cpu_ops.iret"] == xen["pv_cpu_ops.iret"] == "jmp"
    assert native["pv_cpu_ops.load_tls"] == lguest["pv_cpu_ops.load_tls"] == "call"
    assert xen["pv_irq_ops.irq_enable"] == "left", "the wrapper lets go of eax only: a call is refused"


def test_xens_direct_code_is_inlined_where_it_fits_with_its_call_in_place() -> None:
    """irq_disable alone fits into the wrapper's ten bytes; all four do where sites are padded, and behave the same."""
    guest = GuestImage(shipped.program("lock"), "seed", length=32)
    roomy, plain = ran(guest, "xen-placement"), ran(image("lock", "seed"), "xen-placement")
    wrappers = [f"pv_irq_ops.{op}" for op in ("irq_enable", "save_fl", "restore_fl")]
    assert {plain.forms[op] for op in wrappers} == {"left"}
    assert plain.forms["pv_irq_ops.irq_disable"] == "inlined"
    assert {roomy.forms[op] for op in wrappers} == {"inlined"}
    assert roomy.final_state == plain.final_state == ran(image("lock", "seed")).final_state
    assert roomy.hypercalls == plain.hypercalls


def test_xens_restore_fl_called_too_often_until_2012() -> None:
    """It asked for events unless one was pending: the jump of xen_restore_fl_direct had the wrong sense.

    Corrected by "xen: correctly check for pending events when restoring irq flags" (3.4), which tells of a hundred
    times as many xen_version hypercalls as necessary.
    """
    assert ran(image("lock", "seed"), "xen-placement").hypercalls["xen_version"] >= 256
    assert "xen_version" not in ran(image("lock", "seed"), "xen").hypercalls


# Lazy mode

FAULTS, AROUND, SWITCHES = 48, 16, 32


def test_page_faults_cost_a_hypercall_a_batch() -> None:
    """The model: 48 faults map 16 pages each; lazily each fault is one call, and each context switch another."""
    for era, backend, call in (("seed", "lguest", "SET_PTE"), ("2.6.33", "lguest", "SET_PTE")):
        eager, lazy = (ran(image("switch", era), backend, lazy=on) for on in (False, True))
        assert eager.hypercalls[call] == FAULTS * AROUND
        assert call not in lazy.hypercalls
        assert lazy.queued[call] == FAULTS * AROUND
        assert lazy.hypercalls["FLUSH_ASYNC"] == lazy.batches == FAULTS + SWITCHES
        switched = sum(eager.hypercalls[name] for name in ("SET_STACK", "LOAD_TLS", "TS"))
        saved = FAULTS * AROUND + switched - FAULTS - SWITCHES
        assert sum(eager.hypercalls.values()) - sum(lazy.hypercalls.values()) == saved
    kvm = [ran(image("switch", "2.6.33"), "kvm", lazy=on) for on in (False, True)]
    # A buffer of 1024 bytes has room for the 16 writes of a fault; two more writes are set_pmd's.
    assert [r.hypercalls["MMU_OP"] for r in kvm] == [FAULTS * AROUND + 2, FAULTS + 2]
    for era in ("seed", "2.6.33"):
        xen = [ran(image("switch", era), "xen", lazy=on) for on in (False, True)]
        assert xen[0].queued["update_va_mapping"] == xen[1].queued["update_va_mapping"] == FAULTS * AROUND
        # Three calls a switch (its TLS is one batch already, and 2.6.33 has clts in it) become one.
        a_switch = 1 if era == "seed" else 2
        assert xen[0].batches - xen[1].batches == FAULTS * (AROUND - 1) + SWITCHES * a_switch


def test_calls_are_immediate_outside_and_flushed_on_leave() -> None:
    guest = built(Call("pv_cpu_ops.clts"), Lazy("cpu", (Call("pv_cpu_ops.clts"),) * 3), Call("pv_cpu_ops.clts"))
    result = ran(guest, "lguest")
    assert (result.hypercalls["TS"], result.queued, result.batches) == (2, {"TS": 3}, 1)
    names = [(e.name, e.queued) for e in result.events]
    assert names[1:] == [("TS", False), *[("TS", True)] * 3, ("FLUSH_ASYNC", False), ("TS", False)]


def test_set_pte_has_the_tlb_flushed_but_not_before_there_is_a_page_table() -> None:
    from pvops.emulate.guest.layout import pa

    entry = Call("pv_mmu_ops.set_pte", (Pte(0, 3), Entry(0x3067)))
    result = ran(built(entry, Call("pv_mmu_ops.write_cr3", (pa("mm0_pgd"),)), entry), "lguest")
    assert result.hypercalls["FLUSH_TLB"] == 1


def test_a_backend_that_forgets_to_tell_ends_in_another_state() -> None:
    """The shadow keeps the entry that it saw: that is what the flush is for."""
    from pvops.emulate.guest.program import Touch

    entry = Call("pv_mmu_ops.set_pte_at", (0, 0x08000000, Pte(0, 0), Entry(0x12345067)))
    steps = (*opening.descriptors(), *opening.address_spaces(), Touch(0), entry)
    guest = built(*steps[:-1], Call("pv_mmu_ops.set_pte", (Pte(0, 0), Entry(0x12345067))))
    assert ran(guest, "native").final_state == ran(guest, "lguest").final_state
    session = Session(guest, Lguest(guest))
    session.boot()
    session.hold("pv_mmu_ops.set_pte", "native_set_pte")
    session.patch()
    stop = session.run()
    assert stop.kind == "done"
    assert session.result(stop, True, 0.0).final_state != ran(guest, "native").final_state


def test_lguest_forgets_tls_when_the_gdt_is_loaded_anew() -> None:
    """load_tls tells the host and not the guest's own table, which write_gdt_entry has read again: whole in the seed.

    2.6.33 tells of one entry (LOAD_GDT_ENTRY).
    """
    write = Call("pv_cpu_ops.write_gdt_entry", (addr("gdt_table"), 20, 0xFFFF, 0x00CFF200))
    for era, same in (("seed", False), ("2.6.33", True)):
        guest = built(*opening.descriptors(), *opening.address_spaces(), Switch(0), write, era=era)
        assert (ran(guest, "lguest").final_state == ran(guest, "native").final_state) is same
        assert ran(guest, "xen").final_state == ran(guest, "native").final_state


# pv_info


@pytest.mark.parametrize(("era", "backend"), PAIRS)
def test_drivers_ask_pv_info(era: str, backend: str) -> None:
    """lguest's console starts only on lguest; lguest's host loads only on bare hardware."""
    guest = image("boot", era)
    session = Session(guest, hosts.of(backend, era)(guest))
    assert session.boot().kind == session.run().kind == "done"
    assert session.cpu.word(guest.address("console_started")) == (backend == "lguest")
    assert (session.cpu.word(guest.address("lg_loaded")) == 1) == (backend == "native")
    if isinstance(session.host, Lguest):
        assert session.host.console == "hvc0 on lguest\n"


def test_memory_setup_finds_the_same_memory() -> None:
    for backend in hosts.BACKENDS["seed"]:
        guest = image("boot", "seed")
        session = Session(guest, hosts.of(backend, "seed")(guest))
        session.boot()
        assert session.cpu.word(guest.address("e820_map")) == 0x20000


def test_xen_lets_a_guest_change_no_more_of_cr0_than_ts() -> None:
    bad = built(Call("pv_cpu_ops.write_cr0", (0x80050032,)))
    assert ran(bad, "native").stop.kind == "done"
    stop = ran(bad, "xen").stop
    assert (stop.kind, "TS" in stop.why) == ("trap", True)
    assert isinstance(Xen(bad), Xen)


def test_the_tour_has_arguments_for_what_takes_some() -> None:
    for era in ("seed", "2.6.33"):
        known = {op.name for op in ops.era(era).template(GuestImage(shipped.program("lock"), era).config)}
        assert known & set(tour.ARGUMENTS)
