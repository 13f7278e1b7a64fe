"""Data that lie in ``.text``, which the kernel writes: page tables behind the code of head_64.S (2.6.32)."""

from __future__ import annotations

import random

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
