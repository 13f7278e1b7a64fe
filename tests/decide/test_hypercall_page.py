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
