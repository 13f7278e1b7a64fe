"""Every row of ``.altinstructions`` of 6.1 or 6.12 with the bytes at its site, disassembled, as JSON lines.

    python benches/support/capstone_rows.py VMLINUX

What a script with pyelftools and capstone comes to: a peer of ``pvops sites --jsonl``, which does the same for every
table, and names symbols too.
"""

from __future__ import annotations

import json
import struct
import sys

from capstone import CS_ARCH_X86, CS_MODE_64, CS_OPT_SYNTAX_ATT, Cs
from elftools.elf.elffile import ELFFile

#: struct alt_instr: offset of the site, of the replacement, feature and flags, length of each.
_ROW = struct.Struct("<iiIBB")


def main() -> None:
    """Prints them."""
    engine = Cs(CS_ARCH_X86, CS_MODE_64)
    engine.syntax = CS_OPT_SYNTAX_ATT
    with open(sys.argv[1], "rb") as file:
        elf = ELFFile(file)
        code = [
            (s["sh_addr"], s.data())
            for s in elf.iter_sections()
            if s["sh_flags"] & 4 and s["sh_type"] == "SHT_PROGBITS"
        ]
        table = elf.get_section_by_name(".altinstructions")
        data, start = table.data(), table["sh_addr"]
    for index, (site, _, feature, length, _) in enumerate(_ROW.iter_unpack(data[: len(data) // _ROW.size * _ROW.size])):
        address = start + index * _ROW.size + site
        at, section = next(((address - low, data) for low, data in code if low <= address < low + len(data)), (0, b""))
        found = section[at : at + length]
        text = "; ".join(f"{name} {operands}" for _, _, name, operands in engine.disasm_lite(found, address))
        print(json.dumps({"address": f"{address:#x}", "feature": feature, "bytes": found.hex(), "disassembly": text}))


if __name__ == "__main__":
    main()
