"""A guest that takes itself for one of KVM's, without KVM.

The kernel asks two functions whether it runs under KVM, and what KVM offers; at a breakpoint on each the debugger
returns the answer for them, until the kernel has booted. Nothing in the guest's memory is changed. What KVM would do
when asked (hypercalls) is not there: the two functions that ask it to wait and to wake return without having done so,
which a kernel has to bear. It is not a real KVM host, but the kernel fills its tables and patches itself as on one.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from boot.gdb import RIP, Gdb, GdbError, GdbGone

#: Where KVM's CPUID leaves begin.
BASE = 0x4000_0000
#: KVM_FEATURE_NOP_IO_DELAY, STEAL_TIME, PV_EOI, PV_UNHALT, PV_TLB_FLUSH; no clock, which would have to be there.
FEATURES = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9

#: KVM_HINTS_REALTIME.
REALTIME = 1


def leaves(hints: int) -> str:
    """What a bundle of facts has to say besides what the guest printed: the leaves as ``cpuid -r`` prints them."""
    return f"""==FILE cpuid
{BASE:#010x} 0x00: eax={BASE + 1:#010x} ebx=0x4b4d564b ecx=0x564b4d56 edx=0x0000004d
{BASE + 1:#010x} 0x00: eax={FEATURES:#010x} ebx=0x00000000 ecx=0x00000000 edx={hints:#010x}

"""


_ANSWERS = {"__kvm_cpuid_base": BASE, "kvm_arch_para_features": FEATURES}
_HYPERCALLS = ("kvm_wait", "kvm_kick_cpu")
#: What fills the tables. Where the compiler has put the second question into it, nobody can answer for KVM.
_INIT, _INIT_SIZE, _CPUID = "kvm_guest_init", 512, b"\x0f\xa2"


class ForcedKvm:
    """Answers for KVM in a thread of its own, from the first instruction of ``start_kernel`` on.

    Attributes:
        error: what went wrong, once it has.
    """

    def __init__(self, connected: socket.socket, address_of: Callable[[str], int | None], hints: int = 0) -> None:
        self.error: str | None = None
        self._gdb = Gdb(connected)
        self._answers = _ANSWERS | ({"kvm_arch_para_hints": hints} if hints else {})
        maybe = (name for name in (*_HYPERCALLS, _INIT) if address_of(name))
        names = ("start_kernel", "free_initmem", *self._answers, *maybe)
        found = {name: address_of(name) for name in names}
        missing = [name for name, address in found.items() if address is None]
        if missing:
            raise GdbError(f"the kernel has no {', '.join(missing)}: built without support for KVM's guests")
        self._at = {name: address for name, address in found.items() if address is not None}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forced KVM", daemon=True)

    def start(self) -> None:
        """Lets the guest, which was started stopped, run."""
        self._thread.start()

    def finish(self) -> None:
        """Lets the guest stop for good; the monitor has to say so next."""
        self._over.set()

    def join(self, seconds: float) -> None:
        """Waits for the thread, which ends when the guest has stopped or QEMU is gone."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._thread.is_alive():
            raise GdbError("the debugger stub does not answer")

    def _run(self) -> None:
        try:
            self._boot()
        except GdbGone:
            pass
        except (GdbError, ValueError) as error:
            self.error = f"forcing KVM's detection: {error}"

    def _boot(self) -> None:
        gdb, at = self._gdb, self._at
        gdb.greet()
        gdb.breakpoint(at["start_kernel"])
        gdb.run()
        gdb.breakpoint(at["start_kernel"], there=False)
        if _INIT in at and _CPUID in gdb.memory(at[_INIT], _INIT_SIZE):
            raise GdbError(f"{_INIT}() of this kernel asks the CPU itself, not kvm_arch_para_features()")
        returns: dict[int, int | None] = {at[name]: value for name, value in self._answers.items()}
        returns.update({at[name]: None for name in _HYPERCALLS if name in at})
        end = at["free_initmem"]
        for address in (*returns, end):
            gdb.breakpoint(address)
        while not self._over.is_set():
            gdb.run()
            registers = gdb.registers()
            if registers[RIP] == end:
                # Booted: from here on only hypercalls are left to be answered for.
                for address in (*(at[name] for name in self._answers), end):
                    gdb.breakpoint(address, there=False)
            elif registers[RIP] in returns:
                gdb.leave(registers, returns[registers[RIP]])
            elif not self._over.is_set():
                raise GdbError(f"stopped at {registers[RIP]:#x}, where there is no breakpoint")
