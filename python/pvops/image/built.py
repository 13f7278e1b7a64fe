"""What a kernel is built to do where the command line asks for nothing else, as its image says."""

from __future__ import annotations

import re
from functools import cached_property

from pvops.image.uses import string_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

#: ``preempt_dynamic_none`` and those behind it (kernel/sched/core.c).
_MODES = ("none", "voluntary", "full", "lazy")
#: No kernel has code for CPUs of more vendors.
_MOST_VENDORS = 32
#: What switches to a mode: the first has the lock that the second takes (6.3 and later).
_SWITCHES = ("sched_dynamic_update", "__sched_dynamic_update")
#: ``je`` and ``jne``, short and near: the opcode → whether it jumps where what was compared is equal.
_JUMPS = {b"\x74": True, b"\x75": False, b"\x0f\x84": True, b"\x0f\x85": False}
#: ``xor %edi,%edi`` or ``mov $MODE,%edi``, and a call; on i386 it is ``%eax`` (``-mregparm=3``).
_ARGUMENTS = {
    64: rb"(?:\x31\xff|\xbf([\x00-\x03])\x00\x00\x00)\xe8(....)",
    32: rb"(?:\x31\xc0|\xb8([\x00-\x03])\x00\x00\x00)\xe8(....)",
}
#: ``cmpl $0,variable`` and ``mov variable,%eax; test %eax,%eax``, with the variable's place.
_ASKED_64 = rb"\x83\x3d(....)\x00|\x8b\x05(....)\x85\xc0"
_ASKED_32 = rb"\x83\x3d(....)\x00|\xa1(....)\x85\xc0"
#: So much of a function is looked at: what marks its begin, and two instructions.
_HEAD = 16
#: How far from the comparison its jump stands, and from where that leads the call.
_NEAR = 48


class Built:
    """What an image says of itself.

    Args:
        kernel: the image.
    """

    def __init__(self, kernel: KernelView) -> None:
        self._kernel = kernel

    @cached_property
    def mitigates(self) -> bool | None:
        """CONFIG_CPU_MITIGATIONS: what ``cpu_mitigations`` is built with (kernel/cpu.c; 0 is CPU_MITIGATIONS_OFF); None
        where neither it nor the configuration is in the image.

        f337a6a21e2f, 6.9 and stable: without it the default is off. Before, it was always on without an option.
        """
        address = self._kernel.address_of("cpu_mitigations") or self._asked("cpu_mitigations_off")
        raw = self._kernel.image.read(address, 4) if address is not None else None
        if raw is not None:
            return raw != bytes(4)
        lines = (self._kernel.image.config() or "").splitlines()
        if "CONFIG_CPU_MITIGATIONS=y" in lines:
            return True
        return False if "# CONFIG_CPU_MITIGATIONS is not set" in lines else None

    def _asked(self, function: str) -> int | None:
        """The variable that a function begins by comparing with 0: ``cmpl $0,…``, or ``mov …,%eax; test %eax,%eax``."""
        address = self._kernel.address_of(function)
        code = self._kernel.image.read(address, _HEAD) if address is not None else None
        found = re.search(_ASKED_64 if self._kernel.bits == 64 else _ASKED_32, code or b"", re.DOTALL)
        if address is None or found is None:
            return None
        # A displacement counts from the end of its instruction: behind the 0 of `cmpl`, before `test`.
        end = found.end(1) + 1 if found[1] else found.end(2)
        return self._variable(address + end, found[1] or found[2])

    def without(self, *functions: str) -> bool:
        """Whether a kernel that knows of Spectre is built without all of these; False where it does not name functions.

        Every kernel that does has ``cpu_show_spectre_v2()`` (drivers/base/cpu.c; 87590ce6e373, 4.15 and stable).
        """
        known = self._kernel.address_of("cpu_show_spectre_v2") is not None
        return known and all(self._kernel.address_of(function) is None for function in functions)

    def returns_at_once(self, *functions: str) -> bool:
        """Whether the first of these that the image names is a ``ret``: what rows name has to be there, used or not."""
        named = (self._kernel.address_of(function) for function in functions)
        address = next((at for at in named if at is not None), None)
        return address is not None and self._kernel.image.read(address, 1) == b"\xc3"

    @cached_property
    def stalls(self) -> bool | None:
        """CONFIG_PSI without CONFIG_PSI_DEFAULT_DISABLED: what ``psi_enable`` is built with (kernel/sched/psi.c); None
        where the image does not name it."""
        address = self._kernel.address_of("psi_enable")
        if address is None:
            return None
        # It has no bytes in the file where it is false.
        return self._kernel.image.read(address, 1) not in (None, b"\0")

    @cached_property
    def xen_pv(self) -> bool | None:
        """CONFIG_XEN_PV: whether the image has ``xen_start_kernel()``; None where it names no function."""
        if not self._kernel.image.symbol_count():
            return None
        return self._kernel.address_of("xen_start_kernel") is not None

    @cached_property
    def vendors(self) -> frozenset[str]:
        """Whose CPUs it has code for (CONFIG_PROCESSOR_SELECT), as /proc/cpuinfo names them; none where it is silent.

        ``.x86_cpu_dev.init`` has pointers to ``struct cpu_dev {c_vendor; c_ident[2]; ...}`` (10a434fcb23a, 2.6.28).
        """
        word = self._kernel.word
        place = next((s[1:3] for s in self._kernel.image.sections() if s[0] == ".x86_cpu_dev.init"), (0, 0))
        found = set()
        for at in range(place[0], place[0] + min(place[1], _MOST_VENDORS * word), word):
            device = self._kernel.read_word(at) or 0
            for index in (1, 2) if device else ():
                ident = string_at(self._kernel, self._kernel.read_word(device + index * word), 16, 13)
                found.add(ident.decode("ascii", "replace").strip())
        return frozenset(found - {""})

    def fills(self, kind: str) -> bool | None:
        """CONFIG_INIT_ON_ALLOC_DEFAULT_ON or _FREE_: what the key ``init_on_alloc`` or ``init_on_free`` is built with;
        None where the image does not name it."""
        address = self._kernel.address_of(f"init_on_{kind}")
        raw = self._kernel.image.read(address, 4) if address is not None else None
        return None if raw is None else raw != bytes(4)

    @cached_property
    def preemption(self) -> str | None:
        """What preempt_dynamic_init() makes of dynamic preemption, ``none``, ``voluntary``, ``full`` or ``lazy``; None
        where the image names no function that switches.

        It is compiled into sched_init(): ``preempt_dynamic_mode`` is compared with -1, and a constant handed on. Where
        init code hands none on, nothing has to be switched: ``full``.
        """
        mode = self._kernel.address_of("preempt_dynamic_mode")
        switches = {self._kernel.address_of(name) for name in _SWITCHES} - {None}
        if not switches:
            return None
        start, size = next((s[1:3] for s in self._kernel.image.sections() if s[0] == ".init.text"), (0, 0))
        code = self._kernel.image.read(start, size) or b""
        if not code:
            return None

        def switches_at(found: re.Match[bytes]) -> bool:
            return self._place(start + found.end(), found[2]) in switches

        argument = re.compile(_ARGUMENTS[self._kernel.bits], re.DOTALL)
        for match in re.finditer(rb"\x83\x3d(....)\xff", code, re.DOTALL):
            # CONFIG_KALLSYMS_ALL may be off: then any variable may be it.
            if mode in (None, self._variable(start + match.end(), match[1])):
                for block in _blocks(code, match.end()):
                    found = argument.search(code, block, block + _NEAR)
                    if found and switches_at(found):
                        return _MODES[found[1][0] if found[1] else 0]
        return None if any(map(switches_at, argument.finditer(code))) else "full"

    def _variable(self, end: int, field: bytes) -> int:
        """The variable that an instruction names which ends there: by a displacement, on i386 by its address."""
        return int.from_bytes(field, "little") if self._kernel.bits == 32 else self._place(end, field)

    def _place(self, end: int, displacement: bytes) -> int:
        """What an instruction that ends there means by a displacement."""
        return (end + int.from_bytes(displacement, "little", signed=True)) & (1 << self._kernel.bits) - 1


def _blocks(code: bytes, at: int) -> list[int]:
    """Where code goes on if what was compared is equal: at the jump's target, or behind it."""
    for here in range(at, at + _NEAR):
        for opcode, equal in _JUMPS.items():
            width = 1 if len(opcode) == 1 else 4
            end = here + len(opcode) + width
            if code.startswith(opcode, here) and end <= len(code):
                by = int.from_bytes(code[here + len(opcode) : end], "little", signed=True)
                return [place for place in ((end + by,) if equal else (end,)) if 0 <= place < len(code)]
    return []
