"""Xen's guest side with vcpu_info placement: interrupt flags without a call, which xen_patch may inline.

Sources: arch/x86/xen/xen-asm.S of 2.6.24, xen-asm.S and xen-asm_32.S of 2.6.33. The kernel would let Xen put its
``vcpu_info`` among its own per-CPU data; here that is where it was, at the start of the shared page.
"""

from __future__ import annotations

from pvops.assembler import addr, function, label, mem
from pvops.assembler.operands import al, eax, ebx, ecx, edx, esp, fs
from pvops.assembler.statements import Body
from pvops.assembler.x86 import andl, call, cmpb, iret, jmp, jne, movb, movl, popl, pushl, ret, shrl, testl, xorl
from pvops.backends.xen_direct import direct
from pvops.emulate.abi.xen import ARCH_CR2, MASK, PENDING, REGISTER_VCPU_INFO
from pvops.emulate.guest.layout import Build
from pvops.emulate.guest.xen_calls import hypercall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.kernel import GuestKernel

VCPU_INFO = "xen_shared_info"


def _bodies() -> dict[str, tuple[Body, ...]]:
    return direct(32, smp=True, vcpu_info=VCPU_INFO, check_events="check_events")


def _name(op: str) -> str:
    return f"xen_{op.partition('.')[2]}_direct"


def functions(build: Build) -> Body:
    """The direct functions, each with a mark at its end."""
    mask, pending = (mem(addr(VCPU_INFO) + offset, segment=fs) for offset in (MASK, PENDING))
    return (
        *(function(_name(op), body, label(f"{_name(op)}_end"), ret()) for op, body in _bodies().items()),
        function("xen_read_cr2_direct", movl(mem(addr(VCPU_INFO) + ARCH_CR2, segment=fs), eax), ret()),
        # Back to the kernel itself: the flag by hand, and iret of the CPU. Events that wait need Xen's.
        function(
            "xen_iret_direct",
            *(pushl(eax), cmpb(0, pending), jne("xen_hyper_iret"), movl(mem(12, esp), eax), shrl(9, eax)),
            *(andl(1, eax), xorl(1, eax), movb(al, mask), popl(eax), iret()),
        ),
        function("xen_hyper_iret", popl(eax), jmp(addr("hypercall_page") + 0x2E0)),
        # Saves all registers: a site with inlined code lets go of none for a call.
        function(
            "check_events",
            *(pushl(eax), pushl(ecx), pushl(edx), call("xen_force_evtchn_callback")),
            *(popl(edx), popl(ecx), popl(eax), ret()),
        ),
    )


def start(build: Build, fill: Body) -> Body:
    """xen_vcpu_setup(): only if Xen agrees to where vcpu_info is."""
    ask = (movl(REGISTER_VCPU_INFO, ebx), xorl(ecx, ecx), movl(addr(VCPU_INFO), edx), hypercall("vcpu_op"))
    return function(
        "xen_start_placed",
        *(*ask, testl(eax, eax), jne("xen_start_kernel"), movl(1, mem("have_vcpu_info_placement")), fill),
        jmp("start_kernel"),
    )


def direct_code(image: GuestKernel) -> tuple[dict[str, bytes], dict[str, int]]:
    """What xen_patch inlines: op → code as linked; op → where in it the call of check_events has its distance."""
    import iced_x86

    start, text = image.built.sections[".text"]
    codes, calls = {}, {}
    for op in _bodies():
        at = image.address(_name(op))
        codes[op] = text[at - start : image.address(f"{_name(op)}_end") - start]
        for instruction in iced_x86.Decoder(image.pv.bits, codes[op], ip=at):
            if instruction.is_call_near:
                calls[op] = instruction.ip - at + 1
    return codes, calls
