"""The page that Xen fills for a guest with a machine of its own: planned by the CPU, and told by what it holds."""

from __future__ import annotations

import json

import pytest

from image import small
from pvops.decide.backend import backend_for
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

PAGE, STUB, IRET, STUBS = 0x2000, 32, 23, 128
#: As arch/x86/xen/xen-head.S leaves it: ``ret``, and int3 behind it.
BUILT = b"\xc3".ljust(STUB, b"\xcc") * STUBS


def kernel(*, named: bool = True) -> Kernel:
    text = bytearray(b"\x90" * PAGE + BUILT + b"\x90" * 64)
    symbols = {"xen_hvm_guest_init": small.TEXT + 0x100, **({"hypercall_page": small.TEXT + PAGE} if named else {})}
    row = small.Alternative(0, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))
    return small.kernel(bytes(text), [row], release="6.1.90-small", symbols=symbols)


def stub(number: int, call: str) -> bytes:
    """``mov $number,%eax; vmcall; ret``; iret is no hypercall there."""
    if number == IRET:
        return b"\x0f\x0b".ljust(STUB, b"\xcc")
    return (b"\xb8" + number.to_bytes(4, "little") + bytes.fromhex(call) + b"\xc3").ljust(STUB, b"\xcc")


@pytest.mark.parametrize(("cpu", "call"), [("intel-haswell", "0f01c1"), ("amd-epyc-rome", "0f01d9")])
def test_xen_fills_the_page_by_the_cpus_own_instruction(cpu: str, call: str) -> None:
    opened = kernel()
    text = bytes(opened.plan("xen-hvm", machine=cpu).apply())
    assert text[PAGE : PAGE + len(BUILT)] == b"".join(stub(number, call) for number in range(STUBS))
    report = opened.verify(text)
    assert report, report.unexplained
    assert report.explained["unlisted"] > STUBS
    (vote,) = [vote for vote in report.votes if vote.about == "hvm_call"]
    assert (vote.name, vote.value) == ("hypercall page", f"Xen's, by {'vmmcall' if call.endswith('d9') else 'vmcall'}")
    assert vote.votes == STUBS
    saved = Machine.from_dict(json.loads(json.dumps(report.machine)))
    assert saved.state is not None
    assert saved.state.hvm_call == ("vmmcall" if call.endswith("d9") else "vmcall")
    assert bytes(opened.plan(backend_for(opened, saved).name, machine=saved).apply()) == text


def test_a_changed_stub_is_found() -> None:
    opened = kernel()
    text = bytearray(opened.plan("xen-hvm", machine="intel-haswell").apply())
    text[PAGE + 5 * STUB + 7] = 0xD9
    (run,) = opened.verify(text).unexplained
    assert run.address == small.TEXT + PAGE + 5 * STUB + 7


def test_under_another_hypervisor_nobody_fills_it() -> None:
    opened = kernel()
    text = bytes(opened.plan("xen-hvm", machine="intel-haswell").apply())
    native = bytes(opened.plan("native", machine="intel-haswell").apply())
    assert native[PAGE : PAGE + len(BUILT)] == BUILT
    told = opened.verify(text, machine=Machine(name="bare", hypervisor="none"))
    assert len(told.unexplained) > STUBS // 2


def changed_outside(opened: Kernel, machine: Machine, guest: str) -> list[int]:
    """Where a guest's text is not as planned for a machine that does not name the hypervisor, and not left open."""
    plan = opened.plan(backend_for(opened, machine).name, machine=machine)
    text = bytearray(plan.apply())
    held = opened.plan(guest, machine=machine.under({"xen": "xen-pv"}.get(guest, guest))).apply()
    assert bytes(text) != bytes(held)
    for site in plan.undetermined:
        at = slice(site.address - small.TEXT, site.address - small.TEXT + site.len)
        assert any(form == held[at].hex() for form in site.forms)
        text[at] = held[at]
    return [at for at, (a, b) in enumerate(zip(text, held, strict=True)) if a != b]


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD"])
def test_below_a_hypervisor_that_nothing_names_it_may_be_filled(vendor: str) -> None:
    some = Machine(name="some", vendor=vendor, flags=["fpu", "pge", "hypervisor"])
    assert not changed_outside(kernel(), some, "xen-hvm")


@pytest.mark.parametrize("named", [True, False])
def test_below_a_hypervisor_that_nothing_names_the_jump_may_lead_to_xens_iret(*, named: bool) -> None:
    """``early_xen_iret_patch`` of a guest that Xen shows no pge."""
    text = b"\xe9" + bytes(4) + b"\x90" * 59 + BUILT
    places = {"early_xen_iret_patch": 0, "xen_iret": 32, "xen_start_kernel": 48}
    symbols = {name: small.TEXT + at for name, at in (places | ({"hypercall_page": 64} if named else {})).items()}
    row = small.Alternative(8, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))
    opened = small.kernel(text, [row], release="6.1.90-small", symbols=symbols)
    some = Machine(name="some", vendor="AuthenticAMD", flags=["fpu", "hypervisor"])
    assert not changed_outside(opened, some, "xen")
    other = some._replace(flags=["fpu", "pge", "hypervisor"])  # no guest of Xen's with its kernel in ring 3
    assert not any(site.address == small.TEXT for site in opened.plan("native", machine=other).undetermined)


def test_the_call_is_left_open_where_the_cpu_is_not_told() -> None:
    opened = kernel()
    plan = opened.plan("xen-hvm", machine=Machine(name="some", hypervisor="xen-hvm", flags=["fpu", "pge"]))
    page = range(small.TEXT + PAGE, small.TEXT + PAGE + len(BUILT))
    assert sum(site.address in page for site in plan.undetermined) >= STUBS - 1


def test_a_kernel_without_the_page_has_none_filled() -> None:
    text = bytes(kernel(named=False).plan("xen-hvm", machine="intel-haswell").apply())
    assert text[PAGE : PAGE + len(BUILT)] == BUILT


def test_a_saved_machine_names_one_of_the_two() -> None:
    opened = kernel()
    report = opened.verify(opened.plan("xen-hvm", machine="intel-haswell").apply())
    document = json.loads(json.dumps(report.machine))
    document["state"]["hvm_call"] = "syscall"
    with pytest.raises(Exception, match=r"hvm_call.*vmcall, vmmcall"):
        Machine.from_dict(document)
