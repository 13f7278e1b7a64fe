"""Hyper-V below virtual CPUs that share a lock: a read of an MSR sleeps until an interrupt, and a hypercall sends one.

Source: the Top Level Functional Specification: features and hints; "Virtual Processor Idle Sleep State", which ends
with an interrupt though it is masked, and leaves that pending; ``HvCallSendSyntheticClusterIpi``;
``HvCallNotifyLongSpinWait``. What comes of such a notice is the hypervisor's to choose: here whoever gives it makes
way for those that queue, as where Xen emulates the call (xen/arch/x86/hvm/viridian: ``SCHEDOP_yield``).
"""

from __future__ import annotations

from pvops.emulate.abi import hyperv as abi
from pvops.emulate.smp.hypervisors import Hypervisor
from pvops.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.smp.memory import Memory
    from pvops.emulate.smp.vcpu import Vcpu

#: The page of hypercalls, as the hypervisor writes it for this CPU: ``vmcall; ret``.
_PAGE = bytes.fromhex("0f01c1c3")


class Hyperv(Hypervisor):
    """Offers what Linux wants: the MSR that sleeps, and IPIs by hypercall."""

    name = "hyperv"
    entry = "hyperv_entry"
    interrupts = True
    features = abi.GUEST_IDLE_AVAILABLE
    hints = abi.CLUSTER_IPI_RECOMMENDED

    def reset(self) -> None:
        self._requested = [False] * self.cpus
        self._idle = [False] * self.cpus

    def load(self, memory: Memory) -> None:
        self.memory = memory

    def trap(self, cpu: Vcpu, kind: str, number: int) -> bool:
        if kind == "vmcall":
            self._called(cpu)
        elif kind == "rdmsr" and number == abi.GUEST_IDLE and self.features & abi.GUEST_IDLE_AVAILABLE:
            self._idles(cpu)
        elif kind == "wrmsr" and number == abi.HYPERCALL:
            self._place(cpu)
        elif kind == "wrmsr" and number == abi.EOI:
            self.machine.called(cpu, "(end of interrupt)")
        else:
            return (kind == "wrmsr" and number == abi.GUEST_OS_ID) or super().trap(cpu, kind, number)
        return True

    def cpuid(self, cpu: Vcpu) -> bool:
        values = {
            1: (0, 0, 1 << abi.HYPERVISOR_PRESENT, 0),
            abi.MAX_LEAF: (abi.HINTS_LEAF, *abi.SIGNATURE),
            abi.FEATURES_LEAF: (self.features, 0, 0, 0),
            abi.HINTS_LEAF: (self.hints, abi.SPINS, 0, 0),
        }.get(cpu.get("eax"), (0, 0, 0, 0))
        for register, value in zip(("eax", "ebx", "ecx", "edx"), values, strict=True):
            cpu.set("r" + register[1:] if cpu.bits == 64 else register, value)
        return True

    def tick(self, cpu: Vcpu) -> bool:
        self._idle[cpu.number] = False
        return True

    def deliver(self, cpu: Vcpu) -> None:
        if self._requested[cpu.number] and self._gate(cpu, "platform_ipi"):
            self._requested[cpu.number] = False

    def _place(self, cpu: Vcpu) -> None:
        """The guest says where it wants the page of hypercalls; the address is a physical one."""
        value = cpu.get("edx") << 32 | cpu.get("eax")
        if value & abi.ENABLE:
            self.memory.write((value & -0x1000) + abi.BASE[cpu.bits], _PAGE)

    def _idles(self, cpu: Vcpu) -> None:
        self.machine.called(cpu, "(guest idle)")
        if self._requested[cpu.number]:
            self.machine.slept(cpu.number)
        else:
            self._idle[cpu.number] = True
            self.machine.block(cpu)

    def _called(self, cpu: Vcpu) -> None:
        if cpu.bits == 64:
            control, first, second = cpu.get("rcx"), cpu.get("rdx"), cpu.get("r8")
        else:
            pairs = (("edx", "eax"), ("ebx", "ecx"), ("edi", "esi"))
            control, first, second = (cpu.get(high) << 32 | cpu.get(low) for high, low in pairs)
        code = control & 0xFFFF
        if code not in abi.CALLS or not control & abi.FAST:
            raise RunError(f"unknown hypercall {control:#x}", reason="unknown hypercall")
        self.machine.called(cpu, abi.CALLS[code])
        if code == abi.NOTIFY_LONG_SPIN_WAIT:
            self.machine.makes_way(cpu)
        else:
            self._send(cpu, first & 0xFFFFFFFF, second)
        for register in ("rax",) if cpu.bits == 64 else ("eax", "edx"):
            cpu.set(register, abi.SUCCESS)

    def _send(self, cpu: Vcpu, vector: int, mask: int) -> None:
        """An interrupt for each CPU of a mask: it is pending, and whoever sleeps goes on."""
        if vector != abi.PLATFORM_IPI_VECTOR:
            raise RunError(f"an interrupt of vector {vector:#x}", reason="no handler")
        self.machine.kicks(cpu)
        for number in range(mask.bit_length()):
            if not mask >> number & 1:
                continue
            if number >= self.cpus:
                raise RunError(f"an interrupt for CPU {number}", reason="no such CPU")
            self._requested[number] = True
            if self._idle[number]:
                self._idle[number] = False
                self.machine.wake(cpu, number)
                self.machine.slept(number)


class HypervSpin(Hyperv):
    """Offers neither, as an old one: a guest that waits long can only say so."""

    name = "hyperv-spin"
    features = 0
    hints = 0
