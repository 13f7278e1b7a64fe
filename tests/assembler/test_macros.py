"""The paravirt macros emit what GNU as makes of them, in every era that has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from assembler.gas import assert_same, needs_binutils
from pvops import eras as ops
from pvops.assembler import Image, function
from pvops.assembler.statements import Body
from pvops.assembler.x86 import jmp, ret
from pvops.emulate.macros.paravirt import Paravirt

NAMES = ("2.6.23", "2.6.24-rc1", "2.6.24", "2.6.33", "5.10", "6.1")
ERAS = [(name, bits) for name in NAMES for bits in ops.era(name).bits]


@pytest.fixture(params=ERAS, ids=lambda era: f"{era[0]}-{era[1]}")
def pv(request: pytest.FixtureRequest) -> Paravirt:
    """The macros of each era and pointer size."""
    return Paravirt(request.param[0], bits=request.param[1])


def _every_macro(pv: Paravirt) -> list[Body]:
    """Every macro the era has, and a call of every op."""
    out: list[Body] = [pv.PVOP_CALL(op.name) for op in pv.template if pv.op(op.name)]
    irq = pv.op("pv_irq_ops.irq_enable") if pv.era.name != "6.1" else None
    if irq is not None:
        for clobbers in (pv.CLBR_NONE, *(bit for name, bit in pv.clobbers.items() if name != "CLBR_NONE")):
            out += [pv.DISABLE_INTERRUPTS(clobbers), pv.ENABLE_INTERRUPTS(clobbers)]
        if "pv_cpu_ops.irq_enable_sysexit" in pv.template:
            out.append(pv.ENABLE_INTERRUPTS_SYSEXIT())
        out.append(pv.INTERRUPT_RETURN())
    if irq is not None:
        out += [pv.raw_local_save_flags(), pv.raw_local_irq_restore(), pv.CLI_STRING(), pv.STI_STRING()]
    if pv.bits == 32 and "pv_cpu_ops.read_cr0" in pv.template:
        out.append(pv.GET_CR0_INTO_EAX())
    if pv.bits == 64 and pv.era.name == "2.6.33":
        out += [pv.SWAPGS(), pv.SWAPGS_UNSAFE_STACK(), pv.PARAVIRT_ADJUST_EXCEPTION_FRAME()]
        out += [pv.USERGS_SYSRET64(), pv.USERGS_SYSRET32(), pv.GET_CR2_INTO_RCX()]
    if "CLBR_RET_REG" in pv.clobbers:
        out += [pv.PVOP_CALLEE(op.name) for op in pv.template if op.op.callee_save]
        out.append(pv.PV_CALLEE_SAVE_REGS_THUNK("native_save_fl"))
    return out


@needs_binutils
def test_every_macro_is_what_gnu_as_makes_of_it(pv: Paravirt, tmp_path: Path) -> None:
    image = Image(pv.bits)
    image.text(function("every_macro", _every_macro(pv)), jmp("every_macro"))
    image.init_text(function("setup", pv.PVOP_CALL("pv_mmu_ops.exit_mmap", 1), ret()))
    pv.kernel(image)
    assert_same(image, tmp_path)
