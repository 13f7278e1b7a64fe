"""Static calls by what their trampolines do."""

from __future__ import annotations

import json
import struct

from image import small
from pvops.assembler.elf import ALLOC, ElfSection
from pvops.image import uses
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

RETURNS = small.TEXT + 0x60_0000
THUNK = small.TEXT + 0x300
#: What ends a trampoline: ``ud1 %esp,%ecx``.
END = bytes.fromhex("0fb9cc")


def kernel() -> Kernel:
    """Two trampolines that nothing names: one goes nowhere and returns by the thunk, one goes to a function."""
    text = bytearray(bytes(range(1, 251)) * 4)
    text[0:8] = b"\xe9" + struct.pack("<i", THUNK - (small.TEXT + 5)) + END
    text[8:16] = b"\xe9" + struct.pack("<i", 0x200 - 13) + END
    text[0x40:0x43] = b"\x90" * 3
    text[0x300:0x310] = b"\xc3".ljust(16, b"\xcc")
    sites = [small.TEXT, small.TEXT + 0x80]
    text[0x80:0x85] = b"\xe9" + struct.pack("<i", THUNK - (small.TEXT + 0x85))
    rows = b"".join(struct.pack("<i", site - (RETURNS + 4 * row)) for row, site in enumerate(sites))
    return small.kernel(
        bytes(text),
        [small.Alternative(0x40, 3, 9 * 32 + 20, bytes.fromhex("0f01ca"))],
        release="6.0.1-small",
        more=[ElfSection(".return_sites", RETURNS, rows, ALLOC)],
    )


def test_a_trampoline_that_goes_nowhere_is_built_with_no_function() -> None:
    found = uses.calls(kernel())
    assert found[small.TEXT] == uses.Call(None, 0)
    assert found[small.TEXT + 8] == uses.Call(None, small.TEXT + 0x200)


def test_one_that_still_goes_nowhere_is_planned_and_saved_as_memory_has_it() -> None:
    opened = kernel()
    plan = opened.plan(machine=Machine.from_dict({"flags": "fpu", "bugs": "", "hypervisor": "none", "online_cpus": 2}))
    memory = bytes(plan.apply())
    assert memory[:5] == bytes.fromhex("c3cccccccc")
    report = opened.verify(memory)
    assert report, report.unexplained
    saved = Machine.from_dict(json.loads(json.dumps(report.machine)))
    assert opened.plan(machine=saved).apply() == memory
