"""What a guest's patch function copies over sites: ``xen_patch()`` to 4.13, where assembler leaves it the room."""

from __future__ import annotations

import pytest

import pvops
from pvops import sample
from pvops.kernel import Kernel

DISABLE, ENABLE = "xen_irq_disable_direct", "xen_irq_enable_direct"
#: movb $1, %fs:vcpu_info+1, as xen-asm_32.S has it.
MASK = bytes.fromhex("64 c6 05 01 40 9a c1 01")
#: movb $0, …; call check_events, whose rel32 is fixed up for the new place.
UNMASK = bytes.fromhex("64 c6 05 01 40 9a c1 00 e8 00 00 00 00")
#: Enough text that is no site: else nothing says whose it is.
MORE = tuple(f"more_{n}" for n in range(200))


def made(era: str) -> Kernel:
    """An image with sites that save registers around the call, and others."""
    labels = {f"{DISABLE}_end": (DISABLE, len(MASK)), f"{ENABLE}_end": (ENABLE, len(UNMASK))}
    labels |= {f"{ENABLE}_reloc": (ENABLE, 9)}
    built = sample.build(
        era,
        32,
        functions=(*sample.backend_functions(era, ("native", "kvm", "xen")), "check_events", *MORE),
        callers={
            "ldt_ss": ("pv_irq_ops.irq_disable!", "pv_irq_ops.irq_enable!"),
            "sample_idle": ("pv_irq_ops.irq_disable", "pv_irq_ops.irq_enable", "pv_irq_ops.safe_halt") * 3,
        },
        bodies={DISABLE: MASK, ENABLE: UNMASK},
        labels=labels,
    )
    return pvops.open(built.elf)


@pytest.mark.parametrize("era", ["2.6.34", "2.6.38", "3.1", "3.10", "4.5", "4.12"])
def test_what_xen_patch_copies_is_explained(era: str) -> None:
    kernel = made(era)
    plan = kernel.plan("xen")
    copied = [write for write in plan if write.kind == "inlined"]
    start = kernel.address_of("ldt_ss") or 0
    assert [(write.address - start, write.op) for write in copied] == [
        (3, "pv_irq_ops.irq_disable"),
        (3 + 14 + 2, "pv_irq_ops.irq_enable"),
    ]
    text, base = bytes(plan.apply()), kernel.address_of("_text") or 0
    assert text[copied[0].address - base :].startswith(MASK)
    end = copied[1].address + len(UNMASK)
    called = int.from_bytes(text[end - 4 - base : end - base], "little", signed=True)
    assert end + called == kernel.address_of("check_events")
    report = kernel.verify(text)
    assert report
    assert report.backend == "xen"


def test_native_code_in_its_place_is_found() -> None:
    """One site that holds another backend's code is no guest's."""
    kernel = made("3.1")
    text = bytearray(kernel.plan("xen").apply())
    base, site = kernel.address_of("_text") or 0, (kernel.address_of("ldt_ss") or 0) + 3
    text[site - base : site - base + 8] = b"\xfa" + text[site - base + 8 : site - base + 9] * 7
    report = kernel.verify(bytes(text))
    assert [run.address for run in report.unexplained] == [site]


@pytest.mark.parametrize("era", ["3.1", "4.5"])
def test_other_backends_copy_what_native_patch_has(era: str) -> None:
    kernel = made(era)
    for backend in ("native", "kvm"):
        text = bytes(kernel.plan(backend).apply())
        site = (kernel.address_of("ldt_ss") or 0) + 3 - (kernel.address_of("_text") or 0)
        assert text[site] == 0xFA, "cli"
        assert kernel.verify(text), backend
