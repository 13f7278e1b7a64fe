"""The macros of entry.S: interrupts, iret and sysexit, cr0; each docstring has its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pvops.assembler import operands
from pvops.assembler.operands import Register, eax, ecx, edi, edx, mem, rax, rcx
from pvops.assembler.statements import Body, Statement
from pvops.assembler.values import Value
from pvops.assembler.x86 import call, jmp, movq, popl, popq, pushl, pushq, swapgs, xorq
from pvops.emulate.macros.site import ParavirtSite
from pvops.errors import AssemblyError

#: PV_SAVE_REGS, in order: (register, its CLBR).
_SAVED_32 = tuple((register, f"CLBR_{register.name.upper()}") for register in (eax, edi, ecx, edx))
_SAVED_64 = tuple(
    (getattr(operands, name), f"CLBR_{name.upper()}")
    for name in ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11")
)
_SAVED = {32: _SAVED_32, 64: _SAVED_64}


class EntryMacros(ParavirtSite):
    """The macros of asm/paravirt.h for assembler."""

    def INTERRUPT_RETURN(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``PARA_SITE(PARA_PATCH(pv_cpu_ops, PV_CPU_iret), CLBR_NONE, jmp *%cs:pv_cpu_ops+PV_CPU_iret)``.

        Russell 2007, include/asm-i386/paravirt.h; without paravirt ``iret``.
        """
        return self._jump("pv_cpu_ops.iret")

    def ENABLE_INTERRUPTS_SYSEXIT(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``jmp *%cs:pv_cpu_ops+PV_CPU_irq_enable_sysexit``; without paravirt ``sti; sysexit``.

        Russell 2007, include/asm-i386/paravirt.h. ``ENABLE_INTERRUPTS_SYSEXIT32`` of 2.6.33 on x86-64.
        """
        return self._jump("pv_cpu_ops.irq_enable_sysexit")

    def USERGS_SYSRET64(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``jmp *pv_cpu_ops+PV_CPU_usergs_sysret64(%rip)``: back to 64-bit user space. 2.6.33, x86-64."""
        return self._jump("pv_cpu_ops.usergs_sysret64")

    def USERGS_SYSRET32(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``jmp *pv_cpu_ops+PV_CPU_usergs_sysret32(%rip)``: back to 32-bit user space. 2.6.33, x86-64."""
        return self._jump("pv_cpu_ops.usergs_sysret32")

    def DISABLE_INTERRUPTS(self, clobbers: int) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """Pushes, ``call *%cs:pv_irq_ops+PV_IRQ_irq_disable``, pops: all of it is the site; without paravirt ``cli``.

        Russell 2007, include/asm-i386/paravirt.h: eax, ecx, edx whatever the clobbers. 2.6.33
        arch/x86/include/asm/paravirt.h: ``PV_SAVE_REGS(clobbers | CLBR_CALLEE_SAVE)``.

        Args:
            clobbers: what the code around does not need.
        """
        return self._saving("pv_irq_ops.irq_disable", clobbers)

    def ENABLE_INTERRUPTS(self, clobbers: int) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``call *%cs:pv_irq_ops+PV_IRQ_irq_enable``; without paravirt ``sti``. See `DISABLE_INTERRUPTS`."""
        return self._saving("pv_irq_ops.irq_enable", clobbers)

    def GET_CR0_INTO_EAX(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``push %ecx; push %edx; call *pv_cpu_ops+PV_CPU_read_cr0; pop %edx; pop %ecx``: not marked, never patched.

        Russell 2007, include/asm-i386/paravirt.h; 2.6.33 through `PARA_INDIRECT`. Without paravirt
        ``movl %cr0, %eax``.
        """
        self._needs(32, "GET_CR0_INTO_EAX")
        op = self.op("pv_cpu_ops.read_cr0")
        if op is None:
            return self.direct("pv_cpu_ops.read_cr0")
        pointer = self.pointer(op)
        target = mem(pointer) if self.shape.fixed_saves else self.PARA_INDIRECT(pointer)
        return (pushl(ecx), pushl(edx), call(target), popl(edx), popl(ecx))

    def GET_CR2_INTO_RCX(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``call *pv_mmu_ops+PV_MMU_read_cr2(%rip); movq %rax, %rcx; xorq %rax, %rax``: not marked. 2.6.33, x86-64."""
        self._needs(64, "GET_CR2_INTO_RCX")
        op = self.op("pv_mmu_ops.read_cr2")
        read = self.direct("pv_mmu_ops.read_cr2") if op is None else (call(self.PARA_INDIRECT(self.pointer(op))),)
        return (*read, movq(rax, rcx), xorq(rax, rax))

    def SWAPGS(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``call *pv_cpu_ops+PV_CPU_swapgs(%rip)``, ``CLBR_NONE``: inlined or left alone. 2.6.33, x86-64."""
        return self._bare("pv_cpu_ops.swapgs")

    def SWAPGS_UNSAFE_STACK(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``swapgs`` itself, marked, so that a hypervisor can take it out: there is no stack to call on. 2.6.33."""
        self._needs(64, "SWAPGS_UNSAFE_STACK")
        op = self.op("pv_cpu_ops.swapgs")
        return (swapgs(),) if op is None else self.PARA_SITE(op.type, self.CLBR_NONE, swapgs())

    def PARAVIRT_ADJUST_EXCEPTION_FRAME(self) -> tuple[Body, ...]:  # noqa: N802 (the kernel's macro)
        """``call *pv_irq_ops+PV_IRQ_adjust_exception_frame(%rip)``, ``CLBR_NONE``. 2.6.33, x86-64."""
        return self._bare("pv_irq_ops.adjust_exception_frame")

    def PV_SAVE_REGS(self, clobbers: int) -> list[Statement]:  # noqa: N802 (the kernel's macro)
        """Pushes every register that is not let go of: ``COND_PUSH(set, CLBR_EAX, eax)``, ….

        2.6.33 arch/x86/include/asm/paravirt.h.
        """
        return [(pushq if self.bits == 64 else pushl)(register) for register in self._kept(clobbers)]

    def PV_RESTORE_REGS(self, clobbers: int) -> list[Statement]:  # noqa: N802 (the kernel's macro)
        """Pops what `PV_SAVE_REGS` pushed."""
        return [(popq if self.bits == 64 else popl)(register) for register in reversed(list(self._kept(clobbers)))]

    def _kept(self, clobbers: int) -> Iterable[Register]:
        return (register for register, bit in _SAVED[self.bits] if not clobbers & self.clobbers[bit])

    def _jump(self, name: str) -> tuple[Body, ...]:
        return self._through(name, jmp)

    def _bare(self, name: str) -> tuple[Body, ...]:
        self._needs(64, name)
        return self._through(name, call)

    def _through(self, name: str, branch: Callable[[operands.Memory], Statement]) -> tuple[Body, ...]:
        self._has_assembler(name)
        op = self.op(name)
        if op is None:
            return self.direct(name)
        return self.PARA_SITE(op.type, self.CLBR_NONE, branch(self.PARA_INDIRECT(self.pointer(op))))

    def _saving(self, name: str, clobbers: int) -> tuple[Body, ...]:
        self._has_assembler(name)
        op = self.op(name)
        if op is None:
            return self.direct(name)
        if self.shape.fixed_saves:
            push: list[Statement] = [pushl(eax), pushl(ecx), pushl(edx)]
            pop: list[Statement] = [popl(edx), popl(ecx), popl(eax)]
        else:
            saved = clobbers | self.clobbers["CLBR_CALLEE_SAVE"]
            push, pop = self.PV_SAVE_REGS(saved), self.PV_RESTORE_REGS(saved)
        pointer: Value = self.pointer(op)
        return self.PARA_SITE(op.type, clobbers, push, call(self.PARA_INDIRECT(pointer)), pop)

    def _has_assembler(self, name: str) -> None:
        if not self.shape.assembler:
            raise AssemblyError(f"{self.era.name} has no macro for {name} in assembler: an alternative stands there")

    def _needs(self, bits: int, macro: str) -> None:
        if self.bits != bits:
            raise AssemblyError(f"{macro} is {'x86-64' if bits == 64 else 'i386'} only")
