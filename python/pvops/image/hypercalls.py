"""Hyper-V's hypercalls where no symbol names them: the static call that goes to a page which the hypervisor fills, and
the clock that tells of Hyper-V.

Source: 7.2 arch/x86/hyperv/hv_init.c ``__hv_hypercall`` and ``__hv_hyperfail()``, drivers/clocksource/hyperv_timer.c
``read_hv_sched_clock_tsc()``, arch/x86/kernel/paravirt.c ``paravirt_set_sched_clock()``.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from pvops.image import functions, uses
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

#: ``mov $-1,%rax``: what ``__hv_hyperfail()`` returns: no hypercall's status.
_FAILS = b"\x48\xc7\xc0\xff\xff\xff\xff"
#: ``mov $HV_X64_MSR_TIME_REF_COUNT,%ecx; rdmsr``: what its clock reads where the page of the TSC says nothing.
_READS = b"\xb9\x20\x00\x00\x40\x0f\x32"
_CLOCK_BYTES = 128
#: ``mov $FUNCTION,%rdi``, in code that runs at boot.
_LOADS = rb"(?=\x48\xc7\xc7(....))"
#: ``mov %rdi,%rdx``, ``mov $TRAMPOLINE,%rsi`` and ``mov $KEY,%rdi`` in either order, ``jmp __static_call_update``.
_SETTERS = (
    rb"\x48\x89\xfa\x48\xc7\xc6(?:....)\x48\xc7\xc7(....)\xe9",
    rb"\x48\x89\xfa\x48\xc7\xc7(....)\x48\xc7\xc6(?:....)\xe9",
)


class Hypercalls(NamedTuple):
    """What an image of x86-64 tells.

    Attributes:
        key: of the static call that goes to the page.
        clocks: key of a static call → the clocks of Hyper-V's guests that it may go to.
    """

    key: int
    clocks: dict[int, list[int]]


def of_hyperv(kernel: KernelView) -> Hypercalls | None:
    """Which static calls those are; None where not exactly one is built to fail as hypercalls do, or no clock is found.

    Raises:
        TableError: a table of the image is malformed.
    """
    if kernel.bits != 64:
        return None
    known = uses.calls(kernel)
    fails = [at for at, call in known.items() if call.built and functions.begins_with(kernel, call.built, _FAILS)]
    if len(fails) != 1:
        return None
    clocks = _clocks(kernel)
    setters = {
        key
        for low, code in _code(kernel, ".text")
        for pattern in _SETTERS
        for match in re.finditer(pattern, code, re.DOTALL)
        if (key := _address(match[1])) in known
    }
    return Hypercalls(fails[0], dict.fromkeys(sorted(setters), clocks)) if clocks and setters else None


def _clocks(kernel: KernelView) -> list[int]:
    """The functions that boot code loads, and that read Hyper-V's clock."""
    reads = [low + found.start() for low, code in _code(kernel, ".text") for found in re.finditer(_READS, code)]
    boot_code = b"".join(code for _, code in _code(kernel, ".init.text"))
    loads = sorted({_address(match[1]) for match in re.finditer(_LOADS, boot_code, re.DOTALL)})
    # The function whose code that is begins nearest before.
    nearest = ((read, loads[at - 1]) for read in reads if (at := bisect_right(loads, read)))
    return sorted({load for read, load in nearest if read - load < _CLOCK_BYTES})


def _code(kernel: KernelView, section: str) -> list[tuple[int, bytes]]:
    found = ((low, kernel.image.read(low, size)) for name, low, size, _ in kernel.image.sections() if name == section)
    return [(low, code) for low, code in found if code is not None]


def _address(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True) & (1 << 64) - 1
