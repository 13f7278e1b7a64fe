"""Calls of ops from C: ``PVOP_CALL`` and its like, the wrappers of the irq ops, callee-save thunks."""

from __future__ import annotations

from pvops.assembler.operands import (
    Memory,
    Operand,
    Register,
    ecx,
    edx,
    esp,
    mem,
    r8,
    r9,
    r10,
    r11,
    rcx,
    rdi,
    rdx,
    rip,
    rsi,
)
from pvops.assembler.statements import Body, Within, label
from pvops.assembler.x86 import call, leal, movl, movq, popl, popq, pushl, pushq, ret
from pvops.emulate.macros.site import ARGUMENTS, ParavirtSite
from pvops.eras.template import TemplateOp
from pvops.errors import AssemblyError

#: PV_SAVE_ALL_CALLER_REGS: what a C function clobbers, but for what it returns.
_CALLER_REGISTERS = {32: (ecx,), 64: (rcx, rdx, rsi, rdi, r8, r9, r10, r11)}


class CallMacros(ParavirtSite):
    """The macros of asm/paravirt.h for C."""

    def PVOP_CALL(self, op: str, *arguments: Operand) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``PVOP_CALL0`` to ``PVOP_CALL4``: arguments into their registers, and a site that lets go of ``CLBR_ANY``.

        2.6.24 include/asm-x86/paravirt.h: ``call *pv_mmu_ops+off``; the fourth argument goes onto the stack on i386.
        2.6.33 arch/x86/include/asm/paravirt_types.h: on x86-64 ``call *pv_mmu_ops+off`` through the absolute address
        (``ff 14 25``), since 6.1 ``call *pv_ops+off(%rip)`` (``ff 15``).

        Args:
            op: ``pv_mmu_ops.set_pte``.
            arguments: numbers, addresses, memory or registers.

        Raises:
            AssemblyError: more than four arguments, or one in a register that an earlier one takes.
            OpsError: no such op.
        """
        return self._call(op, self.CLBR_ANY, arguments)

    #: ``PVOP_VCALL0`` to ``PVOP_VCALL4``: no result, so that C knows of one clobbered register more; the same bytes.
    PVOP_VCALL = PVOP_CALL

    def PVOP_CALLEE(self, op: str, *arguments: Operand) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``PVOP_CALLEE0`` to ``PVOP_CALLEE2``: the callee saves all but what it returns: ``CLBR_RET_REG``.

        2.6.33 arch/x86/include/asm/paravirt_types.h. Earlier eras have no such ops.
        """
        if "CLBR_RET_REG" not in self.clobbers:
            raise AssemblyError(f"{self.era.name} has no callee-save ops: PVOP_CALLEE came with 2.6.30")
        return self._call(op, self.clobbers["CLBR_RET_REG"], arguments)

    #: ``PVOP_VCALLEE0`` to ``PVOP_VCALLEE2``.
    PVOP_VCALLEE = PVOP_CALLEE

    def _call(self, name: str, clobbers: int, arguments: tuple[Operand, ...]) -> tuple[Body, ...]:
        before, after = self._arguments(arguments)
        op = self.op(name)
        if op is None:
            return (*before, *self.direct(name), *after)
        return (*before, *self.paravirt_alt(op.type, clobbers, call(self._opptr(op))), *after)

    def _opptr(self, op: TemplateOp) -> Memory:
        """PARAVIRT_CALL's operand: ``%c[paravirt_opptr]``."""
        wide = self.bits == 64 and self.shape.rip
        return mem(self.pointer(op), rip) if wide else mem(self.pointer(op))

    def _arguments(self, arguments: tuple[Operand, ...]) -> tuple[list[Body], list[Body]]:
        """What stands before and after the site: only the call itself is patched."""
        if len(arguments) > 4:
            raise AssemblyError("an op called with more than four words has no PVOP: it is a plain call")
        registers = ARGUMENTS[self.bits]
        before: list[Body] = []
        after: list[Body] = []
        taken: set[str] = set()
        for n, argument in enumerate(arguments):
            for used in _registers(argument):
                if used.name in taken:
                    raise AssemblyError(f"argument {n + 1} is in {used}, which an earlier one takes")
            if n == len(registers):
                before.append(pushl(argument))
                after.append(leal(mem(4, esp), esp))
                continue
            if argument is not registers[n]:
                before.append((movq if self.bits == 64 else movl)(argument, registers[n]))
            taken.add(registers[n].name)
        return before, after

    # The four irq ops, which C calls through wrappers

    def raw_local_save_flags(self) -> tuple[Body, ...]:
        """``__raw_local_save_flags()``: flags into eax (rax).

        2.6.24 include/asm-x86/paravirt.h: ``push %ecx; push %edx; call; pop %edx; pop %ecx``, all in the site, which
        lets go of eax only: a default call is refused there. Since 2.6.30 the op is callee-save, a `PVOP_CALLEE`.
        """
        return self._wrapper("pv_irq_ops.save_fl")

    def raw_local_irq_restore(self) -> tuple[Body, ...]:
        """``raw_local_irq_restore(f)``: f is in eax (rdi). See `raw_local_save_flags`."""
        return self._wrapper("pv_irq_ops.restore_fl")

    def raw_local_irq_disable(self) -> tuple[Body, ...]:
        """``raw_local_irq_disable()``, and ``CLI_STRING`` inside other ``asm()``. See `raw_local_save_flags`."""
        return self._wrapper("pv_irq_ops.irq_disable")

    def raw_local_irq_enable(self) -> tuple[Body, ...]:
        """``raw_local_irq_enable()``, and ``STI_STRING`` inside other ``asm()``. See `raw_local_save_flags`."""
        return self._wrapper("pv_irq_ops.irq_enable")

    CLI_STRING = raw_local_irq_disable
    STI_STRING = raw_local_irq_enable

    def _wrapper(self, name: str) -> tuple[Body, ...]:
        if not self.shape.wrapper_saves:
            return self.PVOP_CALLEE(name)
        op = self.op(name)
        if op is None:
            return self.direct(name)
        saved = (pushl(ecx), pushl(edx), call(self._opptr(op)), popl(edx), popl(ecx))
        return self.paravirt_alt(op.type, self.clobbers["CLBR_EAX"], *saved)

    # Thunks

    def PV_CALLEE_SAVE_REGS_THUNK(self, function: str) -> Within:  # noqa: N802 (the kernel's macro)
        """``__raw_callee_save_function``: calls a C function and saves all that it clobbers but its result.

        2.6.33 arch/x86/include/asm/paravirt.h. ``PV_CALLEE_SAVE(function)`` points an op to it.
        """
        if "CLBR_RET_REG" not in self.clobbers:
            raise AssemblyError(f"{self.era.name} has no callee-save ops: thunks came with 2.6.30")
        registers = _CALLER_REGISTERS[self.bits]
        push, pop = (pushq, popq) if self.bits == 64 else (pushl, popl)
        return Within(
            ".text",
            label(f"__raw_callee_save_{function}"),
            [push(register) for register in registers],
            call(function),
            [pop(register) for register in reversed(registers)],
            ret(),
        )


def _registers(operand: Operand) -> list[Register]:
    if isinstance(operand, Register):
        return [operand]
    if isinstance(operand, Memory):
        return [r for r in (operand.base, operand.index) if r is not None]
    return []
