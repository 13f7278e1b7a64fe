"""User space of 64 and of 32 bits, and the kernel's ways in and out: every op of entry_64.S and ia32entry.S is taken.

A system call with 0 in eax is recorded and returns the way it came (``sysretq``, ``sysretl``, ``sysexit``, or Xen's
hypercall); one with another number ends user space. Sources: arch/x86/kernel/entry_64.S, arch/x86/ia32/ia32entry.S and
arch/x86/xen/xen-asm_64.S of 2.6.33. Xen's targets go on behind ``swapgs``, which is Xen's to do: so a kernel that was
not patched runs below it too.
"""

from __future__ import annotations

from pvops.assembler import Image, Local, addr, data, function, label, mem
from pvops.assembler import operands as o
from pvops.assembler import x86 as x
from pvops.assembler.statements import Body
from pvops.emulate.abi.xen import VGCF_IN_SYSCALL
from pvops.emulate.cpu64 import USER32_CS, USER_CS, USER_DS
from pvops.emulate.guest.wide.layout import PAGE_FLAGS, USER, USER_STACK, USER_TEXT
from pvops.emulate.macros.paravirt import Paravirt

IF = 0x200
#: How many pages the page fault handler maps at once.
AROUND = 16
#: What each way into the kernel records.
SYSCALL, SYSCALL32, SYSENTER = 0x64, 0x32, 0x33
#: A page that user space is the first to touch.
TOUCHED = USER[0] + (40 << 12)

_SAVED = (o.rax, o.rcx, o.rdx, o.rsi, o.rdi, o.r8, o.r9, o.r10, o.r11, o.rbx, o.rbp)
_KEPT = (o.rbx, o.rbp)
_IRET = 32 * 23


def user_space(image: Image) -> None:
    """Three programs, each of which makes a system call that returns and one that does not."""
    text = image.section(".text.user", address=USER_TEXT, flags=4)
    text(
        function(
            "user_64",
            *(x.movl(mem(TOUCHED), o.edx), x.xorl(o.eax, o.eax), x.syscall()),
            *(x.movl(1, o.eax), x.syscall(), x.ud2()),
        ),
        # xor %eax,%eax; syscall; mov $1,%eax; syscall; ud2
        label("user_32"),
        data(bytes.fromhex("31c0 0f05 b801000000 0f05 0f0b")),
        # xor %eax,%eax; mov %esp,%ebp; sysenter, which returns to where the kernel says
        label("user_sysenter"),
        data(bytes.fromhex("31c0 89e5 0f34 0f0b")),
        # mov $1,%eax; mov %esp,%ebp; sysenter; ud2
        label("sysenter_return"),
        data(bytes.fromhex("b801000000 89e5 0f34 0f0b")),
    )


def functions(pv: Paravirt) -> Body:
    """The kernel's ways into user space and back, and its page fault handler."""
    return (_into_user(pv), _system_calls(pv), _targets(), _returns(), _page_fault(pv))


def _into_user(pv: Paravirt) -> Body:
    """Functions that return when user space has ended."""
    leave = (*(x.pushq(r) for r in _KEPT), x.movq(o.rsp, _own("this_stack")), x.movl(IF | 2, o.r11d))
    stack = x.movq(USER_STACK, o.rsp)
    frame = (USER_DS, USER_STACK, IF | 2, USER32_CS)
    return (
        function("to_user_64", *leave, x.movq(addr("user_64"), o.rcx), stack, pv.USERGS_SYSRET64()),
        function("to_user_32", *leave, x.movq(addr("user_32"), o.rcx), stack, pv.USERGS_SYSRET32()),
        function(
            "to_user_sysenter",
            *(*leave, *(x.pushq(word) for word in frame), x.pushq(addr("user_sysenter"))),
            *(pv.DISABLE_INTERRUPTS(pv.CLBR_ANY), pv.SWAPGS(), pv.INTERRUPT_RETURN()),
        ),
        # exit(): the stack of the function that went to user space, with interrupts on as they were there.
        function(
            "leave_user",
            *(x.movq(_own("this_stack"), o.rsp), pv.ENABLE_INTERRUPTS(pv.CLBR_ANY)),
            *(*(x.popq(r) for r in reversed(_KEPT)), x.ret()),
        ),
    )


def _own(name: str) -> o.Memory:
    return mem(name, segment=o.gs)


def _system_calls(pv: Paravirt) -> Body:
    def called(number: int) -> Body:
        """Ends user space, or records how it came with interrupts on."""
        return (
            *(x.testl(o.eax, o.eax), x.jne("leave_user"), pv.ENABLE_INTERRUPTS(pv.CLBR_NONE)),
            *(x.movl(number, o.eax), x.call("record"), pv.DISABLE_INTERRUPTS(pv.CLBR_NONE)),
        )

    return (
        function(
            "system_call",
            *(pv.SWAPGS_UNSAFE_STACK(), label("system_call_after_swapgs"), x.movq(o.rsp, _own("old_rsp"))),
            *(x.movq(_own("this_stack"), o.rsp), x.pushq(o.r11), x.pushq(o.rcx), called(SYSCALL)),
            *(x.popq(o.rcx), x.popq(o.r11), x.movq(_own("old_rsp"), o.rsp), pv.USERGS_SYSRET64()),
        ),
        function(
            "ia32_cstar_target",
            *(pv.SWAPGS_UNSAFE_STACK(), label("ia32_cstar_after_swapgs"), x.movl(o.esp, o.r8d)),
            *(x.movq(_own("this_stack"), o.rsp), x.pushq(o.r8), x.pushq(o.r11), x.pushq(o.rcx), called(SYSCALL32)),
            *(x.popq(o.rcx), x.popq(o.r11), x.movq(mem(0, o.rsp), o.rsp), pv.USERGS_SYSRET32()),
        ),
        # User space has its stack pointer in ebp.
        function(
            "ia32_sysenter_target",
            *(pv.SWAPGS_UNSAFE_STACK(), label("ia32_sysenter_after_swapgs"), x.movq(_own("this_stack"), o.rsp)),
            *(x.movl(o.ebp, o.ebp), x.pushq(o.rbp), called(SYSENTER), x.popq(o.rcx)),
            *(x.movq(addr("sysenter_return"), o.rdx), pv.ENABLE_INTERRUPTS_SYSEXIT()),
        ),
    )


def _targets() -> Body:
    """``undo_xen_syscall``: rcx, r11 and the stack pointer as ``syscall`` leaves them."""
    undo = (x.movq(mem(0, o.rsp), o.rcx), x.movq(mem(8, o.rsp), o.r11), x.movq(mem(40, o.rsp), o.rsp))
    return (
        function("xen_syscall_target", *undo, x.jmp("system_call_after_swapgs")),
        function("xen_syscall32_target", *undo, x.jmp("ia32_cstar_after_swapgs")),
        function("xen_sysenter_target", *undo, x.jmp("ia32_sysenter_after_swapgs")),
    )


def _returns() -> Body:
    """Xen's: the frame of the hypercall ``iret``."""
    iret = x.jmp(addr("hypercall_page") + _IRET)

    def sysret(code: int) -> Body:
        return (
            *(x.movq(o.rsp, _own("old_rsp")), x.movq(_own("this_stack"), o.rsp), x.pushq(USER_DS)),
            *(x.pushq(_own("old_rsp")), x.pushq(o.r11), x.pushq(code), x.pushq(o.rcx), x.pushq(VGCF_IN_SYSCALL), iret),
        )

    return (
        function("xen_sysret64", sysret(USER_CS)),
        function("xen_sysret32", sysret(USER32_CS)),
        function(
            "xen_sysexit",
            *(x.pushq(USER_DS), x.pushq(o.rcx), x.pushq(IF), x.pushq(USER32_CS), x.pushq(o.rdx), x.pushq(0), iret),
        ),
    )


def _page_fault(pv: Paravirt) -> Body:
    """Maps the pages around the address, in one lazy section, and returns; gs is the kernel's meanwhile."""
    code = mem(8 * (len(_SAVED) + 2), o.rsp)
    inside, outside, again = Local("inside"), Local("outside"), Local("again")
    save, restore = [x.pushq(r) for r in _SAVED], [x.popq(r) for r in reversed(_SAVED)]
    entry = (x.movq(o.rbx, o.rdx), x.shrq(12, o.rdx), x.andl(0x1FF, o.edx), x.shll(3, o.edx))
    arguments = (
        *(x.addq(mem("current_pt"), o.rdx), x.movq(o.rbx, o.rcx), x.orl(PAGE_FLAGS, o.ecx)),
        *(x.movq(mem("current_mm"), o.rdi), x.movq(o.rbx, o.rsi)),
    )
    return function(
        "page_fault",
        pv.PARAVIRT_ADJUST_EXCEPTION_FRAME(),
        *(save, x.testl(3, code), x.je(addr(inside)), pv.SWAPGS(), label(inside)),
        *(pv.PVOP_CALL("pv_mmu_ops.read_cr2"), x.movq(o.rax, o.rbx), x.andq(-AROUND << 12, o.rbx)),
        *(x.movl(AROUND, o.ebp), lazy(pv, "mmu"), label(again), *entry, *arguments),
        *(pv.PVOP_CALL("pv_mmu_ops.set_pte_at"), x.addq(0x1000, o.rbx), x.decl(o.ebp), x.jne(addr(again))),
        *(lazy(pv, "mmu", leave=True), x.testl(3, code), x.je(addr(outside)), pv.SWAPGS(), label(outside)),
        *(restore, x.addq(8, o.rsp), pv.INTERRUPT_RETURN()),
    )


def lazy(pv: Paravirt, mode: str, *, leave: bool = False) -> Body:
    """Enters or leaves a lazy mode, ``mmu`` or ``cpu``, if the run wants lazy sections."""
    without = Local("without")
    if mode == "mmu":
        op: Body = pv.PVOP_VCALL(f"pv_mmu_ops.lazy_mode.{'leave' if leave else 'enter'}")
    else:
        op = pv.PVOP_VCALL(f"pv_cpu_ops.{'end' if leave else 'start'}_context_switch", addr("thread0"))
    return (x.cmpl(0, mem("lazy_sections")), x.je(addr(without)), op, label(without))
