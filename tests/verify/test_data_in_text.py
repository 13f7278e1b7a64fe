"""Data that lie in ``.text``, which the kernel writes: page tables behind the code of head_64.S (2.6.32)."""

from __future__ import annotations

import random
import struct

import pvops
from pvops.assembler.image import Image
from pvops.assembler.statements import align, asciz, data, function, label, space, u64
from pvops.assembler.x86 import ret

PAGE = 4096


def kernel(tables: str) -> pvops.Kernel:
    """Code, a pointer, two page tables behind one another in a section, code again, and bytes."""
    image = Image(64)
    image.text(function("startup_64", ret()))
    image.text(align(8), label("stack_start"), u64(0x1234))
    image.section(tables)(align(PAGE), label("init_level4_pgt"), space(PAGE), label("level3_ident_pgt"), space(PAGE))
    image.text(function("start_kernel", ret(), ret()))
    image.text(data(random.Random(1).randbytes(64 * PAGE)))  # a text is known by what is in it
    image.rodata(label("linux_banner"), asciz("Linux version 2.6.32-test (a@b) (gcc) #1 SMP x\n"))
    return pvops.open(image.build().elf)


def text_of(opened: pvops.Kernel) -> tuple[int, bytearray]:
    address, size = next((at, size) for name, at, size, _ in opened.image.sections() if name == ".text")
    return address, bytearray(opened.image.read(address, size) or b"")


def place(opened: pvops.Kernel, name: str) -> int:
    found = opened.address_of(name)
    assert found is not None
    return found


def test_what_the_kernel_writes_to_them_is_not_judged_and_that_is_said() -> None:
    opened = kernel(".text")
    start, text = text_of(opened)
    for name, size in (("init_level4_pgt", 2 * PAGE), ("stack_start", 8)):
        at = place(opened, name) - start
        text[at : at + size] = b"\x63" * size
    report = opened.verify(bytes(text))
    assert report
    assert [(part.address, part.size) for part in report.not_judged if part.section == ".text"] == [
        (place(opened, "stack_start"), 8),
        (place(opened, "init_level4_pgt"), 2 * PAGE),
    ]


def test_tables_that_nothing_names_are_found_by_where_their_entries_lead() -> None:
    head, base = bytearray(7 * PAGE), 0xFFFF_FFFF_8100_0000
    head[:7] = b"\x48\x8b\x25" + (0x190 - 7).to_bytes(4, "little")  # mov stack_start(%rip), %rsp
    top, ident, of_kernel, large, fixmap, last = range(PAGE, 7 * PAGE, PAGE)
    for table, index, to, bits in (
        (top, 0, ident, 0x063),
        (top, 272, ident, 0x063),
        (top, 511, of_kernel, 0x067),
        (ident, 0, large, 0x063),
        (of_kernel, 511, fixmap, 0x067),
        (fixmap, 506, last, 0x067),
    ):
        struct.pack_into("<Q", head, table + 8 * index, (base & 0x7FFF_FFFF) + to | bits)
    struct.pack_into("<Q", head, large, 0x0100_01E3)
    for changed, found in (
        (None, [(base + 0x190, base + 0x198), (base + PAGE, base + 7 * PAGE)]),
        (top + 8, []),  # another entry: no table of this kernel
        (top + 8 * 272 + 1, []),  # all of memory elsewhere than its beginning
    ):
        text = bytearray(head)
        if changed is not None:
            text[changed] ^= 0x10
        image = Image(64)
        image.text(data(bytes(text)), function("start_kernel", ret()))
        image.rodata(label("linux_banner"), asciz("Linux version 2.6.32-test (a@b) (gcc) #1 SMP x\n"))
        opened = pvops.open(image.build().elf)
        assert opened.lowest == base
        assert opened.image.data_in_text() == found


def test_code_beside_them_is_judged() -> None:
    opened = kernel(".text")
    start, text = text_of(opened)
    at = place(opened, "start_kernel")
    text[at - start] = 0xCC
    report = opened.verify(bytes(text))
    assert [run.address for run in report.unexplained] == [at]


def test_where_they_lie_elsewhere_all_of_text_is_judged() -> None:
    opened = kernel(".data")
    assert opened.image.data_in_text() == []
    start, text = text_of(opened)
    at = place(opened, "stack_start")
    text[at - start] ^= 1
    report = opened.verify(bytes(text))
    assert [run.address for run in report.unexplained] == [at]
