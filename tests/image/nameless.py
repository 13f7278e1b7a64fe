"""Images without their symbol tables."""

from __future__ import annotations

import struct

import pvops
from pvops import eras
from pvops.eras.patching import Inline
from pvops.kernel import Kernel

SYMTAB = 2
ELFCLASS64 = 2


def without_symbols(elf: bytes) -> Kernel:
    """The same image, its symbol table no section that anybody knows."""
    raw = bytearray(elf)
    wide = raw[4] == ELFCLASS64
    (table,) = struct.unpack_from("<Q", raw, 0x28) if wide else struct.unpack_from("<I", raw, 0x20)
    size, count = struct.unpack_from("<HH", raw, 0x3A if wide else 0x2E)
    for at in range(table, table + count * size, size):
        if struct.unpack_from("<I", raw, at + 4)[0] == SYMTAB:
            struct.pack_into("<I", raw, at + 4, 0x6000_0000)
    return pvops.open(bytes(raw))


def native_bodies(era: str) -> dict[str, bytes]:
    """Native functions of x86-64 that are the code which native_patch() has for them, as in a kernel: up to 5.2."""
    found = eras.era(era)
    config = found.default_config(64)
    patch = found.patch_function(config)
    native = found.patch_template(config).pointers()
    inlined = {} if patch is None else patch.switch
    return {
        str(native[op]): rule.code
        for op, rule in inlined.items()
        if isinstance(rule, Inline) and not rule.guard and op in native
    }
