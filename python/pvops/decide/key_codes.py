"""Keys of an image without symbols, by the code behind their labels.

| key | is known by |
|---|---|
| ``__use_tsc`` | native_sched_clock(), which reads the TSC at once, or counts jiffies where it is not to |
| ``clocksource_read_inlined`` | rdtsc_ordered(), which has room for a fence behind it (7.1) |
| ``__sched_clock_stable`` | sched_clock_stable(), which returns 1 or 0 |
| ``crng_is_ready`` | rng_is_initialized(), which returns 1 or compares ``crng_init`` (5.18) |
| ``cr_pinning`` | native_write_cr0(), which asks next for X86_CR0_WP |
| ``virt_spin_lock_key`` | virt_spin_lock(), which tries to take the lock from 0 to 1 |
| ``check_pages_enabled`` | free_tail_page_prepare(), which sets ``page->mapping`` to NULL (6.2) |
| ``mds_user_clear`` | mds_user_clear_cpu_buffers(), the last that is done on the way to user mode (5.1 to 6.7) |
| ``mds_idle_clear`` | mds_idle_clear_cpu_buffers(), the last before ``sti; hlt`` and ``sti; mwait`` (5.1) |
| ``timers_migration_enabled`` | get_timer_this_cpu_base() and others, which ask if a timer is pinned (4.17 to 6.8) |
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.view import KernelView

#: A label as built, a jump or a no-op; a return, with int3 behind it where straight-line speculation is stopped.
_JUMP = rb"(?:\xeb.|\xe9....)"
_LABEL = rb"(?:\xeb.|\xe9....|\x66\x90|\x0f\x1f\x44\x00\x00|\x3e\x8d\x74\x26\x00)"
_RETURN = rb"(?:\xc3\xcc{0,4}|\xe9....)"
#: ``verw`` of a word of the kernel's.
_VERW = rb"\x0f\x00\x2d...."
#: ``imul`` of a word of the kernel's, ``jiffies_64``, with the nanoseconds of a jiffy at 100, 250, 300 or 1000 Hz.
_JIFFIES = (
    rb"[\x48\x4c]?\x69[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]...."
    rb"(?:\x80\x96\x98\x00|\x00\x09\x3d\x00|\xd5\xdc\x32\x00|\x40\x42\x0f\x00)"
)
_RETURNS_1 = rb"\xb8\x01\x00\x00\x00" + _RETURN

#: Key, code from a label on, how many labels the key has at least.
_CODES = (
    ("clocksource_read_inlined", _LABEL + rb"\x0f\x31\x90\x90\x90\x48", 2),
    ("__use_tsc", _LABEL + rb"(?:\x55\x48\x89\xe5)?\x0f\x31(?!\x90\x90\x90)", 1),
    ("__use_tsc", _LABEL + _JIFFIES, 1),
    ("__sched_clock_stable", _JUMP + _RETURNS_1 + rb"\x31\xc0" + _RETURN, 3),
    ("crng_is_ready", _LABEL + _RETURNS_1 + rb"\x83\x3d....\x01\x0f[\x97\x9f]\xc0", 3),
    ("cr_pinning", _LABEL + rb"\xf7\xc7\x00\x00\x01\x00", 1),
    ("virt_spin_lock_key", _LABEL + rb"\xba\x01\x00\x00\x00\x8b[\x00-\x07]\x85\xc0", 1),
    ("check_pages_enabled", _LABEL + rb"(?:\x31\xc0)?\x48\xc7[\x40-\x47]\x18\x00\x00\x00\x00", 6),
    ("mds_user_clear", _LABEL + _VERW + rb"(?:\x41?[\x58-\x5f])*\xc3", 1),
    ("mds_idle_clear", _LABEL + _VERW + rb"\xfb(?:\xf4|\x0f\x01\xc9)", 1),
    ("timers_migration_enabled", _JUMP + rb"(?:\x41?\xf7[\xc0-\xc7]|\xa9)\x00\x00\x10\x00", 1),
)
_BYTES = 32


def by_code(kernel: KernelView, sites: list[int]) -> str | None:
    """The key whose labels these are, or None."""
    codes = [kernel.image.read(site, _BYTES) or b"" for site in sites]
    for key, code, labels in _CODES:
        if len(codes) >= labels and any(re.match(code, here, re.DOTALL) for here in codes):
            return key
    return None
