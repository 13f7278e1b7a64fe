"""Classes of ops one by one, padding, and a choice among many made again and again (the 2010 post)."""

from __future__ import annotations

import pytest

from emulate.guests import built, image, ran
from pvops import _core
from pvops.assembler import label, mem
from pvops.assembler.operands import eax
from pvops.assembler.x86 import incl, movl, ret
from pvops.emulate import GuestImage, Session
from pvops.emulate.guest import shipped
from pvops.emulate.guest.program import Call, Raw
from pvops.emulate.hosts.native import Native
from pvops.emulate.macros.alternatives import Alternatives
from pvops.errors import RunError

CLASSES = ("MISC", "TIME", "CPU", "IRQ", "APIC", "MMU")


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_can_be_configured_out(name: str) -> None:
    """Its sites are gone, what they called is there in their place, and bare hardware ends in the same state."""
    out = GuestImage(shipped.program("switch"), "seed", without=[f"PARAVIRT_{name}"])
    ops = {op for op, _ in out.sites().values()}
    assert not [op for op in ops if op.startswith(f"pv_{name.lower()}_ops")]
    assert ran(out).final_state == ran(image("switch", "seed")).final_state
    assert ran(out, patched=False).final_state == ran(image("switch", "seed")).final_state


def test_configured_out_it_costs_the_bare_instructions() -> None:
    out = GuestImage(shipped.program("lock"), "seed", without=["PARAVIRT_IRQ"])
    native, as_built = ran(image("lock", "seed")), ran(image("lock", "seed"), patched=False)
    bare = ran(out)
    assert bare.instructions < native.instructions < as_built.instructions
    assert as_built.indirect_calls - native.indirect_calls >= 3 * 256
    # pushf; pop, cli, push; popf: patched the same instructions are there, and nops behind them.
    nops = native.instructions - bare.instructions
    assert nops <= 3 * 256 * 4


def test_a_guest_without_the_class_cannot_run_below_a_hypervisor() -> None:
    out = GuestImage(shipped.program("lock"), "seed", without=["PARAVIRT_IRQ"])
    assert ran(out, "lguest").stop.kind == "trap"


@pytest.mark.parametrize("nops", ["k8", "k7", "generic"])
def test_configured_in_and_unused_it_costs_a_nop_of_six_bytes(nops: str) -> None:
    guest = image("switch", "seed")
    patches = [p for p in ran(guest, nops=nops).patches if p.op == "pv_misc_ops.set_lazy_mode"]
    assert patches
    assert {p.bytes for p in patches} == {_core.fill_nops(nops, 6)}


def test_nop_tables_are_those_of_the_era() -> None:
    p6 = [p for p in ran(image("switch", "2.6.33"), nops="p6").patches if p.form == "nop"]
    assert {p.bytes for p in p6} == {bytes.fromhex("660f1f440000")}
    with pytest.raises(RunError, match="no nop table p6 in seed"):
        ran(image("switch", "seed"), nops="p6")


def test_in_use_it_costs_a_direct_call_or_a_few_inlined_bytes() -> None:
    patches = {p.op: p for p in ran(image("switch", "seed"), "lguest").patches}
    assert patches["pv_cpu_ops.load_tls"].bytes[0] == 0xE8
    assert len(patches["pv_cpu_ops.load_tls"].bytes) == 6
    assert patches["pv_irq_ops.irq_enable"].bytes[:2] == b"\xc7\x05"


def test_padding_buys_longer_inlining() -> None:
    """lguest's movl has ten bytes, a site of 2.6.33 six: left alone there, inlined where there is room."""
    small, large = (GuestImage(shipped.program("lock"), "2.6.33", length=n) for n in (0, 10))
    before, after = ran(small, "lguest"), ran(large, "lguest")
    op = "pv_irq_ops.irq_disable"
    assert (before.forms[op], after.forms[op]) == ("left", "inlined")
    assert before.indirect_calls - after.indirect_calls >= 256
    assert before.final_state == after.final_state


def test_one_site_many_ways_again_and_again_beside_an_alternative_with_two() -> None:
    """Feature 27 decides the alternative, once; what the op holds decides the site, each time."""
    feature = 27
    choice = Alternatives("seed", 32).ALTERNATIVE(movl(1, eax), movl(2, eax), feature)
    guest = built(
        Raw((label("again"),)),
        Call("pv_cpu_ops.clts"),
        Raw((label("chosen"), choice, label("turned"))),
        extra={"mine": (incl(mem("counter")), ret())},
    )
    site = next(a for a, (op, _) in guest.sites().items() if op == "pv_cpu_ops.clts")
    session = Session(guest, Native(guest))
    session.boot()
    forms, texts, chosen = [], set(), set()
    # native_patch inlines clts whatever it holds: the default rules are those of a backend that has none of its own.
    session.hold("pv_init_ops.patch", "lguest_patch")
    ways = ("mine", "_paravirt_nop", None, "native_clts", "mine")
    for turn, function_ in enumerate(ways):
        session.hold("pv_cpu_ops.clts", function_)
        patch = next(p for p in session.patch(features=[feature] if turn % 2 else []) if p.op == "pv_cpu_ops.clts")
        forms.append(patch.form)
        texts.add(session.cpu.read(site, 6))
        chosen.add(session.cpu.read(guest.address("chosen"), 5))
        session.cpu.set("eip", guest.address("again"))
        stop = session.cpu.run(guest.address("turned"))
        if function_ is None:
            assert stop.kind == "bug"
        else:
            assert stop.kind == "done"
            assert session.cpu.get("eax") == (2 if turn % 2 else 1)
    assert forms == ["call", "nop", "ud2", "call", "call"]
    assert len(texts) == 4
    assert len(chosen) == 2
    assert session.cpu.word(guest.address("counter")) == 2
