"""An image: what goes where, what it is as an ELF file, and what is refused, with its place."""

from __future__ import annotations

import pytest

import pvops
from pvops.assembler import (
    Image,
    Local,
    Within,
    addr,
    align,
    asciz,
    data,
    function,
    label,
    mem,
    space,
    u8,
    u16,
    u32,
    u64,
)
from pvops.assembler.operands import ax, eax, ecx, esp, rax, rip
from pvops.assembler.x86 import call, je, jmp, lgdt, loop, movabsq, movb, movl, movq, nop, pushl, rep, ret
from pvops.errors import AssemblyError


def _text(image: Image, *body: object) -> bytes:
    image.text(*body)  # type: ignore[arg-type]
    return image.build().sections[".text"][1]


def test_labels_are_known_before_and_after_they_stand() -> None:
    image = Image(32, base=0xC010_0000)
    image.text(label("start"), movl(mem("later"), eax), jmp("start"))
    image.data(label("later"), u32(addr("start") + 2))
    built = image.build()
    assert built.symbols == {"start": 0xC010_0000, "later": 0xC010_1000}
    assert built.sections[".text"][1].hex(" ") == "a1 00 10 10 c0 eb f9"
    assert built.sections[".data"][1].hex(" ") == "02 00 10 c0"


def test_a_jump_is_short_where_it_reaches() -> None:
    def size(distance: int) -> int:
        return len(_text(Image(32), je("end"), space(distance), label("end"))) - distance

    assert [size(distance) for distance in (0, 127, 128, 300)] == [2, 2, 6, 6]


def test_a_jump_that_grows_makes_others_grow() -> None:
    # Each of the two reaches over the other: 125 and 2 bytes fit, 125 and 6 do not.
    body = [je("end"), space(125), je("far"), label("end"), space(200), label("far")]
    code = _text(Image(32), body)
    assert (code[0], code[131]) == (0x0F, 0x0F)


def _elf(body: object) -> bytes:
    image = Image(32)
    image.text(body)  # type: ignore[arg-type]
    image.rodata(label("linux_banner"), asciz("Linux version 2.6.24 (test)\n"))
    return image.elf()


def test_locals_of_one_name_are_apart() -> None:
    first, second = Local("1"), Local("1")
    code = _text(Image(32), label(first), nop(), label(second), jmp(addr(first)), jmp(addr(second)))
    assert code.hex(" ") == "90 eb fd eb fc"


def test_differences_and_alignments() -> None:
    image = Image(64)
    image.data(u8(1), align(4), label("a"), u16(addr("b") - addr("a"), 7), label("b"), u64(addr("a")), asciz("x"))
    image.text(nop(), align(4), ret())
    built = image.build()
    start = built.symbols["a"]
    assert built.sections[".data"][1] == b"\1\0\0\0\4\0\7\0" + start.to_bytes(8, "little") + b"x\0"
    assert built.sections[".text"][1].hex(" ") == "90 90 90 90 c3"


def test_pushsection_goes_to_the_end_of_another_section() -> None:
    image = Image(32)
    image.text(label("a"), Within(".table", u32(addr("a"))), nop(), label("b"), Within(".table", u32(addr("b"))))
    built = image.build()
    assert built.sections[".text"][1] == b"\x90"
    assert built.sections[".table"][1].hex(" ") == "00 00 10 c0 01 00 10 c0"


@pytest.mark.parametrize("bits", [32, 64])
def test_the_file_is_an_elf_image_like_any_kernel(bits: int) -> None:
    image = Image(bits)
    image.text(function("startup", ret()), function("second", ret()))
    image.init_text(function("setup", ret()))
    image.data(label("counter"), u32(7))
    image.rodata(label("linux_banner"), asciz("Linux version 2.6.24-test (a@b) #1\n"))
    built = image.build("second")
    kernel = pvops.open(built.elf)
    assert (kernel.bits, kernel.release) == (bits, "2.6.24-test")
    assert {name: kernel.address_of(name) for name in built.symbols} == dict(built.symbols)
    assert kernel.place(built.symbols["second"]) == "second+0x0"
    sections = {name: (address, size, executable) for name, address, size, executable in kernel.image.sections()}
    for name, (address, raw) in built.sections.items():
        assert sections[name] == (address, len(raw), name in (".text", ".init.text"))
        assert kernel.image.read(address, len(raw)) == raw
    assert built.entry == built.symbols["second"]


def test_the_same_statements_give_the_same_bytes() -> None:
    body = [label("a"), movl(addr("a"), eax), jmp("a")]
    assert _elf(body) == _elf(body)


#: What is wrong → what is said: section, nearest label, the statement and why.
REFUSED: dict[str, tuple[int, list[object], str]] = {
    "undefined": (
        32, [label("f"), nop(), call("nowhere")], ".text+0x1 (f+0x1): call nowhere: undefined label nowhere",
    ),
    "duplicate": (32, [label("f"), nop(), label("f")], ".text+0x1 (f+0x1): f:: duplicate label f"),
    "wrong operand": (
        32, [label("f"), movl(ax, eax)], ".text+0x0 (f+0x0): movl %ax, %eax: no such instruction on i386",
    ),
    "size of memory": (32, [movb(eax, mem("f"))], ".text+0x0: movb %eax, f: no such instruction on i386"),
    "64 bits on i386": (32, [movq(rax, mem(0, rax))], "movq %rax, (%rax): no such instruction on i386"),
    "too many operands": (32, [pushl(eax, ecx)], "pushl %eax, %ecx: no such instruction on i386"),
    "register as table": (32, [lgdt(eax)], "lgdt %eax: no such instruction on i386"),
    "loop too far": (32, [label("f"), space(300), loop("f")], "loop f: out of range: there is no long form"),
    "a byte too large": (32, [u8(256)], ".byte 0x100: the value 0x100 does not fit into 8 bits"),
    "a difference too large": (
        32, [label("a"), space(300), label("b"), u8(addr("b") - addr("a"))],
        ".byte b-a: the value 0x12c does not fit into 8 bits",
    ),
    "an address in four bytes": (64, [label("f"), u32(addr("f"))], "the value 0xffffffff81000000 does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_with_its_place(case: str) -> None:
    bits, body, said = REFUSED[case]
    with pytest.raises(AssemblyError) as caught:
        _text(Image(bits), *body)
    assert said in str(caught.value)
    assert caught.value.section == ".text"


def test_a_branch_out_of_range_is_said() -> None:
    image = Image(64)
    image.text(label("f"), call("far"))
    image.section(".far", address=0x1000)(label("far"), nop())
    with pytest.raises(AssemblyError, match=r"call far: out of range: the distance -0x.* does not fit into 32 bits"):
        image.build()


def test_sections_may_not_overlap() -> None:
    image = Image(32, base=0xC010_0000)
    image.text(space(32))
    image.section(".low", address=0xC010_0010)(nop())
    with pytest.raises(AssemblyError, match=r"\.low: at 0xc0100010, where \.text still is"):
        image.build()


def test_one_name_in_two_sections_is_a_duplicate() -> None:
    image = Image(32)
    image.text(label("f"))
    image.data(label("f"))
    with pytest.raises(AssemblyError, match=r"\.data: duplicate label f"):
        image.build()


def test_an_entry_must_exist() -> None:
    with pytest.raises(AssemblyError, match="undefined label nowhere"):
        Image(32).build("nowhere")


def test_operands_that_no_instruction_has_are_refused_at_once() -> None:
    with pytest.raises(AssemblyError, match="%esp cannot be an index"):
        mem(0, eax, esp)
    with pytest.raises(AssemblyError, match="scale 3"):
        mem(0, eax, ecx, 3)
    with pytest.raises(AssemblyError, match="no power of two"):
        align(24)
    with pytest.raises(AssemblyError, match="no string instruction"):
        rep(data(b"\x90"))
    with pytest.raises(AssemblyError, match="is no name of a label"):
        label("a b")
    with pytest.raises(AssemblyError, match="is no name of a section"):
        Image(32).section("a\0b")
    with pytest.raises(AssemblyError, match="is no statement"):
        Image(32).text("ret")


def test_rip_means_the_next_instruction() -> None:
    image = Image(64)
    image.text(label("f"), movl(1, mem("f", rip)), movq(mem("f", rip), rax), movabsq(addr("f"), rax))
    code = image.build().sections[".text"][1]
    assert code.hex(" ").startswith("c7 05 f6 ff ff ff 01 00 00 00 48 8b 05 ef ff ff ff 48 b8 00 00 00 81 ff ff ff ff")
