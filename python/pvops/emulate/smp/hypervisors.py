"""What is below virtual CPUs that share a lock: how one sleeps, and how another wakes it.

Sources: arch/x86/kvm/{x86,lapic}.c of 3.12 (``kvm_emulate_halt()``, ``kvm_pv_kick_cpu_op()``, ``pv_unhalted``);
xen/common/{schedule,event_channel}.c of Xen 3.1 (``do_poll()``, ``evtchn_send()``).
"""

from __future__ import annotations

from typing import Protocol

from pvops.emulate.abi.kvm import KICK_CPU
from pvops.emulate.abi.xen import (
    EVENT_CHANNEL_OP,
    EVTCHN_PENDING,
    EVTCHN_SEND,
    SCHED_OP,
    SCHEDOP_POLL,
    TRAP,
    XEN_VERSION,
)
from pvops.emulate.guest.locks.code import IF, KERNEL_STACK, KICKER, MASK, PENDING, VCPU_INFO
from pvops.emulate.guest.locks.user import USER_CS, USER_DS, VGCF_IN_SYSCALL
from pvops.errors import RunError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.locks.kernel import LockImage
    from pvops.emulate.smp.memory import Memory
    from pvops.emulate.smp.vcpu import Vcpu


#: The hypercall ``iret``, and its place in the page: it comes with the registers that it changes on the stack.
IRET = 23
_IRET_STUB = {32: bytes.fromhex("50b817000000cd82"), 64: bytes.fromhex("51415350b8170000000f05")}


class Machine(Protocol):
    """What a hypervisor can do with virtual CPUs."""

    def called(self, cpu: Vcpu, name: str) -> None:
        """Counts a hypercall of a CPU."""

    def block(self, cpu: Vcpu) -> None:
        """The CPU sleeps until another wakes it."""

    def wake(self, cpu: Vcpu, number: int) -> None:
        """The CPU wakes the CPU of this number, if that sleeps."""

    def slept(self, number: int) -> None:
        """A sleep is over, or was none."""

    def kicks(self, cpu: Vcpu) -> None:
        """A kick that the CPU asked for happens now."""

    def makes_way(self, cpu: Vcpu) -> None:
        """This one's slice ends, if others queue."""

    def ticked(self, cpu: Vcpu, place: tuple[int, int] | None) -> None:
        """The timer's interrupt is delivered: at which (program counter, stack), None where one was just executed."""


class Hypervisor:
    """Bare hardware, and what others have in common.

    Args:
        image: the guest.
        cpus: how many.
    """

    name = "native"
    ring = 0
    #: Its guests enable interrupts although no timer ticks: by one they are kicked.
    interrupts = False

    @property
    def entry(self) -> str:
        """Symbol where its guests start."""
        return f"{self.name}_entry"

    def __init__(self, image: LockImage, cpus: int) -> None:
        self.image = image
        self.cpus = cpus
        self.machine: Machine
        self.reset()

    def reset(self) -> None:
        """Forgets the last run: the state is that of a new hypervisor."""

    def load(self, memory: Memory) -> None:
        """What it puts into the guest's memory."""

    def trap(self, cpu: Vcpu, kind: str, number: int) -> bool:
        """A system call enters the kernel; no other instruction traps on bare hardware."""
        if kind == "syscall":
            cpu.calls_kernel(self.image.address("system_call"))
        return kind == "syscall"

    def interrupt(self, cpu: Vcpu) -> bool:
        """The timer's interrupt; false while it cannot come."""
        return self._gate(cpu, "timer_interrupt")

    def tick(self, cpu: Vcpu) -> bool:
        """The timer of one that sleeps fires: whether it goes on."""
        return False

    def deliver(self, cpu: Vcpu) -> None:
        """Other interrupts that are pending, where there are some."""

    def cpuid(self, cpu: Vcpu) -> bool:
        """``cpuid``: false where the CPU itself says what it is."""
        return False

    def _gate(self, cpu: Vcpu, handler: str) -> bool:
        """An interrupt, through a gate that disables interrupts; false while they are off."""
        flags, pc = cpu.get("flags"), cpu.get("pc")
        # Behind ``sti`` the CPU executes one instruction more: nothing comes between it and ``hlt``.
        if not flags & IF or cpu.in_user:
            return False
        if cpu.number_at(pc, 1) == 0xF4 and cpu.number_at(pc - 1, 1) == 0xFB:
            return False
        cpu.leaves()
        cpu.frame(flags)
        cpu.set("flags", flags & ~IF)
        cpu.set("pc", self.image.address(handler))
        return True


class Native(Hypervisor):
    """Bare hardware; where physical CPUs are fewer, something is below that the guest knows nothing of."""


class Kvm(Hypervisor):
    """``hlt`` exits, and a hypercall ends another CPU's halt, or the next one if it comes before."""

    name = "kvm"

    def reset(self) -> None:
        self._unhalted = [False] * self.cpus
        self._halted = [False] * self.cpus

    def trap(self, cpu: Vcpu, kind: str, number: int) -> bool:
        if kind == "hlt":
            self.machine.called(cpu, "(halt)")
            if self._unhalted[cpu.number]:
                self._unhalted[cpu.number] = False
                self.machine.slept(cpu.number)
            else:
                self._halted[cpu.number] = True
                self.machine.block(cpu)
            return True
        if kind != "vmcall":
            return super().trap(cpu, kind, number)
        self._kick(cpu, cpu.get("eax"), cpu.get("ecx"))
        cpu.set("eax", 0)
        return True

    def tick(self, cpu: Vcpu) -> bool:
        """kvm_arch_vcpu_runnable(): an interrupt ends a halt if it can be delivered."""
        if not cpu.get("flags") & IF:
            return False
        self._halted[cpu.number] = False
        return True

    def _kick(self, cpu: Vcpu, call: int, target: int) -> None:
        if call != KICK_CPU:
            raise RunError(f"unknown hypercall {call}", reason="unknown hypercall")
        if target >= self.cpus:
            raise RunError(f"a kick of CPU {target}", reason="no such CPU")
        self.machine.called(cpu, "KICK_CPU")
        self.machine.kicks(cpu)
        if self._halted[target]:
            self._halted[target] = False
            self.machine.wake(cpu, target)
            self.machine.slept(target)
        else:
            self._unhalted[target] = True


class Xen(Hypervisor):
    """A sleeper polls the event channel of its own kicker; the channel is masked, so nothing else comes of an event."""

    name = "xen"

    def __init__(self, image: LockImage, cpus: int) -> None:
        super().__init__(image, cpus)
        self.ring = 1 if image.bits == 32 else 3

    def reset(self) -> None:
        self._polls: dict[int, int] = {}
        self._due = [False] * self.cpus
        self._user = [False] * self.cpus

    def load(self, memory: Memory) -> None:
        """The page of hypercalls, and an event channel for each CPU."""
        page = self.image.address("hypercall_page")
        for number in range(64):
            call = b"\xb8" + number.to_bytes(4, "little")
            # On x86-64 syscall changes rcx and r11, which the stub saves.
            code = b"\x51\x41\x53" + call + b"\x0f\x05\x41\x5b\x59\xc3"
            if number == IRET:  # which does not come back, and takes these from the stack
                memory.write(page + 32 * number, _IRET_STUB[self.image.bits])
                continue
            memory.write(page + 32 * number, code if self.image.bits == 64 else call + bytes([0xCD, TRAP, 0xC3]))
        for cpu in range(self.cpus):
            memory.set_number(self.image.per_cpu(cpu) + KICKER, 4, self.port(cpu))
        self.memory = memory

    @staticmethod
    def port(cpu: int) -> int:
        """The event channel that wakes a CPU; number 0 is none."""
        return cpu + 1

    def trap(self, cpu: Vcpu, kind: str, number: int) -> bool:
        if (kind, number) != (("syscall", 0) if self.image.bits == 64 else ("int", TRAP)):
            return False
        if self._user[cpu.number]:
            self._bounce(cpu)
            return True
        call = cpu.get("eax")
        first, second = ("rdi", "rsi") if self.image.bits == 64 else ("ebx", "ecx")
        command, argument = cpu.get(first), cpu.get(second)
        result = "rax" if cpu.bits == 64 else "eax"
        if call == IRET:
            self._iret(cpu)
            return True
        if call == SCHED_OP and command == SCHEDOP_POLL:
            self._poll(cpu, argument)
        elif call == EVENT_CHANNEL_OP and command == EVTCHN_SEND:
            self._send(cpu, cpu.number_at(argument, 4))
        elif call != XEN_VERSION:
            raise RunError(f"unknown hypercall {call}, command {command}", reason="unknown hypercall")
        else:
            self.machine.called(cpu, "xen_version")
        cpu.set(result, 0)
        if self._due[cpu.number] and self.interrupt(cpu):
            self.machine.ticked(cpu, None)
        return True

    def _info(self, cpu: Vcpu) -> int:
        return self.image.per_cpu(cpu.number) + VCPU_INFO

    def interrupt(self, cpu: Vcpu) -> bool:
        """An event, by the guest's callback; while events are masked it stays pending, and the guest asks for it."""
        cpu.leaves()
        info = self._info(cpu)
        self._due[cpu.number] = True
        if cpu.number_at(info + MASK, 1):
            self.memory.set_number(info + PENDING, 1, 1)
            return False
        self._due[cpu.number] = False
        self.memory.set_number(info + PENDING, 1, 0)
        cpu.frame(cpu.get("flags") | IF)
        if cpu.bits == 64:
            cpu.push(cpu.get("r11"))
            cpu.push(cpu.get("rcx"))
        self.memory.set_number(info + MASK, 1, 1)
        cpu.set("pc", self.image.address("xen_timer_callback"))
        return True

    def tick(self, cpu: Vcpu) -> bool:
        """vcpu_mark_events_pending(): an event ends a poll, masked or not, unless one was pending before."""
        at = self._info(cpu) + PENDING
        self._due[cpu.number] = True
        if self.memory.number(at, 1):
            return False
        self.memory.set_number(at, 1, 1)
        self._polls = {port: vcpu for port, vcpu in self._polls.items() if vcpu != cpu.number}
        return True

    def _iret(self, cpu: Vcpu) -> None:
        """Back from the callback: the interrupt flag of the frame is whether events are delivered."""
        self.machine.called(cpu, "iret")
        if cpu.bits == 64:
            for register in ("rax", "r11", "rcx"):
                cpu.set(register, cpu.pop())
            self._user[cpu.number] = bool(cpu.pop() & VGCF_IN_SYSCALL)
        else:
            cpu.set("eax", cpu.pop())
        pc, _, flags = cpu.pop(), cpu.pop(), cpu.pop()
        if cpu.bits == 64:
            cpu.set("sp", cpu.pop())
        cpu.set("flags", flags)
        cpu.set("pc", pc)
        self.memory.set_number(self._info(cpu) + MASK, 1, int(not flags & IF))

    def _bounce(self, cpu: Vcpu) -> None:
        """create_bounce_frame(): a system call of user space, to the kernel's callback, with events masked."""
        self.machine.called(cpu, "(system call)")
        self._user[cpu.number] = False
        back, stack = cpu.get("pc") + 2, cpu.get("sp")
        cpu.set("sp", self.memory.number(self.image.per_cpu(cpu.number) + KERNEL_STACK, 8))
        for word in (USER_DS, stack, cpu.get("flags"), USER_CS, back, cpu.get("flags"), back):
            cpu.push(word)
        self.memory.set_number(self._info(cpu) + MASK, 1, 1)
        cpu.set("pc", self.image.address("xen_syscall_target"))

    def _pending(self, port: int) -> bool:
        return bool(self.memory.number(self.image.address("xen_shared_info") + EVTCHN_PENDING, 8) >> port & 1)

    def _poll(self, cpu: Vcpu, at: int) -> None:
        """do_poll(): of one port here, which is all that locks ask for."""
        size = self.image.bits // 8
        ports, count = cpu.number_at(at, size), cpu.number_at(at + size, 4)
        if count != 1:
            raise RunError(f"a poll of {count} event channels", reason="only one can be polled here")
        self.machine.called(cpu, "sched_op: poll")
        port = cpu.number_at(ports, 4)
        info = self._info(cpu)
        delivered = cpu.number_at(info + PENDING, 1) and not cpu.number_at(info + MASK, 1)
        if delivered or self._pending(port):
            self.machine.slept(cpu.number)
        else:
            self._polls[port] = cpu.number
            self.machine.block(cpu)

    def _send(self, cpu: Vcpu, port: int) -> None:
        """evtchn_send(): the event is pending, and who polls for it goes on."""
        if not 0 < port <= self.cpus:
            raise RunError(f"event channel {port}", reason="it is not bound")
        self.machine.called(cpu, "event_channel_op: send")
        self.machine.kicks(cpu)
        at = self.image.address("xen_shared_info") + EVTCHN_PENDING
        self.memory.set_number(at, 8, self.memory.number(at, 8) | 1 << port)
        sleeper = self._polls.pop(port, None)
        if sleeper is not None:
            self.machine.wake(cpu, sleeper)
            self.machine.slept(sleeper)
