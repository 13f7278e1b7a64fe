"""What a kernel is built without, none of its mitigations uses: told by its functions where no file of /sys tells."""

from __future__ import annotations

import struct

import pytest

import pvops
from image import small
from pvops.assembler.elf import ALLOC, EXECUTE, WRITE, ElfSection, ElfSymbol, write
from pvops.decide import rules_mitigations
from pvops.decide.answers import Facts
from pvops.decide.prediction import by_rule
from pvops.image.built import Built
from pvops.machine.machine import Machine

INTEL, AMD = "GenuineIntel", "AuthenticAMD"
#: A function of every kernel that knows of Spectre.
SHOW = "cpu_show_spectre_v2"
ALL = (
    "__x86_indirect_thunk_rax",
    "retbleed_untrain_ret",
    "srso_safe_ret",
    "its_return_thunk",
    "call_depth_return_thunk",
)


def built(*functions: str) -> Built:
    """A kernel that has these functions."""
    return Built(small.kernel(b"\x90" * 64, symbols={name: small.TEXT + 8 + n for n, name in enumerate(functions)}))


def decided(
    kernel: Built, *features: str, of: dict[str, object], version: tuple[int, int] = (6, 12)
) -> list[bool | None]:
    """The value of each feature on a machine whose vulnerabilities are not told."""
    facts = Facts(Machine.from_dict(of), version, 64, kernel)
    answers = [by_rule(facts, feature) for feature in features]
    return [answer.value for answer in answers if answer is not None]


def skylake(cmdline: str = "", flags: str = "sse2 ibpb") -> dict[str, object]:
    return {"vendor": INTEL, "family": 6, "model": 0x5E, "flags": flags, "bugs": "spectre_v2 its", "cmdline": cmdline}


def zen(family: int = 0x17, flags: str = "sse2 ibpb") -> dict[str, object]:
    bugs = "spectre_v2 retbleed srso" if family != 0x1A else "spectre_v2"
    return {"vendor": AMD, "family": family, "flags": flags, "bugs": bugs, "cmdline": ""}


@pytest.mark.parametrize("cmdline", ["", "spectre_v2=retpoline", "spectre_v2=retpoline,lfence", "spectre_v2=on"])
def test_without_retpolines(cmdline: str) -> None:
    asked = ("RETPOLINE", "RETPOLINE_LFENCE", "RSB_CTXSW", "RETHUNK", "INDIRECT_THUNK_ITS")
    mitigated = built(SHOW, "cpu_mitigations", *ALL)
    machine = skylake(cmdline) | {"cmdline": f"{cmdline} mitigations=auto"}
    lfence = "lfence" in cmdline
    assert decided(mitigated, *asked, of=machine) == [True, lfence, True, not lfence, False]
    assert decided(built(SHOW, *ALL[1:3]), *asked, of=machine) == [False] * 5


def test_without_retpolines_enhanced_ibrs_is_taken_all_the_same() -> None:
    machine = skylake("spectre_v2=eibrs,retpoline mitigations=auto", "sse2 ibpb ibrs ibrs_enhanced")
    assert decided(built(SHOW, *ALL), "RETPOLINE", "INDIRECT_THUNK_ITS", of=machine) == [True, False]
    assert decided(built(SHOW, *ALL[1:]), "RETPOLINE", of=machine) == [False]


@pytest.mark.parametrize(("family", "alias"), [(0x17, False), (0x19, True)])
def test_without_safe_returns_and_untraining(family: int, alias: bool) -> None:
    asked = ("RETHUNK", "UNRET", "SRSO_ALIAS" if alias else "SRSO")
    machine = zen(family) | {"cmdline": "mitigations=auto"}
    assert decided(built(SHOW, *ALL), *asked, of=machine) == [True, True, True]
    assert decided(built(SHOW, *ALL[:2]), *asked, of=machine) == [True, True, False]
    # IBPB on entry is taken where the kernel is built with it, and no function tells that.
    assert decided(built(SHOW, ALL[0]), *asked, of=machine) == [None, None, False]
    assert decided(built(SHOW, ALL[0]), *asked, of=machine | {"flags": "sse2"}) == [False, False, False]


@pytest.mark.parametrize(("option", "feature"), [("unret", "UNRET"), ("stuff", "CALL_DEPTH")])
def test_what_an_option_asks_for_and_is_not_built(option: str, feature: str) -> None:
    machine = skylake(f"retbleed={option} mitigations=auto") | {"bugs": "spectre_v2 retbleed"}
    assert decided(built(SHOW, *ALL), feature, "RETHUNK", version=(6, 8), of=machine) == [True, True]
    assert decided(built(SHOW, ALL[0]), feature, "RETHUNK", version=(6, 8), of=machine) == [False, False]


def test_an_image_that_names_no_such_function_tells_nothing() -> None:
    machine = skylake("mitigations=auto")
    assert (
        decided(built(), "RETPOLINE", of=machine) == decided(built("start_kernel"), "RETPOLINE", of=machine) == [True]
    )


def test_where_a_machine_is_not_told_either_it_is_a_guess() -> None:
    facts = Facts(Machine(), (6, 8), 64, built(SHOW))
    answer = by_rule(facts, "RETPOLINE")
    assert answer is not None
    assert (answer.value, answer.guess) == (None, False)
    assert rules_mitigations.return_thunk(facts) is None


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("code", [b"\x83\x3d....\x00\x0f\x94\xc0\xc3", b"\xf3\x0f\x1e\xfa\x8b\x05....\x85\xc0\xc3"])
def test_the_default_is_read_where_its_function_looks(code: bytes, value: int) -> None:
    """CONFIG_KALLSYMS_ALL is off: the variable has no name, what asks it has one."""
    at = small.TEXT + 8
    end = code.index(b"....") + (5 if code[:1] == b"\x83" else 4)
    placed = code.replace(b"....", struct.pack("<i", small.DATA + 4 - (at + end)))
    kernel = Built(
        small.kernel(
            b"\x90" * 8 + placed + b"\x90" * 32,
            data=struct.pack("<2I", 1 - value, value) + bytes(56),
            symbols={"cpu_mitigations_off": at},
        )
    )
    assert kernel.mitigates is bool(value)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("code", [b"\x83\x3d....\x00\x0f\x94\xc0\xc3", b"\xa1....\x85\xc0\xc3"])
def test_so_it_is_on_32_bits(code: bytes, value: int) -> None:
    text, data = 0xC100_0000, 0xC120_0000
    placed = code.replace(b"....", struct.pack("<I", data + 4)).ljust(64, b"\x90")
    banner = b"Linux version 6.12.0 (a@b) (made) #1\n\0"
    sections = [
        ElfSection(".text", text, placed, ALLOC | EXECUTE),
        ElfSection(".rodata", text + 0x10_0000, banner, ALLOC),
        ElfSection(".data", data, struct.pack("<2I", 1 - value, value) + bytes(56), ALLOC | WRITE),
    ]
    symbols = [ElfSymbol("_text", text, 0, True), ElfSymbol("cpu_mitigations_off", text, 0, True)]
    assert Built(pvops.open(write(32, sections, symbols, 0x100_0000))).mitigates is bool(value)


def test_another_function_tells_no_default() -> None:
    kernel = small.kernel(b"\x31\xc0\xc3" + b"\x90" * 61, symbols={"cpu_mitigations_off": small.TEXT})
    assert Built(kernel).mitigates is None


@pytest.mark.parametrize("name", ["srso_alias_untrain_ret", "srso_untrain_ret_alias"])
@pytest.mark.parametrize(("code", "safe"), [(b"\x66\x90\x0f\xae\xe8", True), (b"\xc3\xcc\xcc\xcc\xcc", False)])
def test_safe_returns_that_are_a_dummy_are_none(name: str, code: bytes, safe: bool) -> None:
    """Rows name the function, so that stable 6.1 has all of them without CONFIG_CPU_SRSO; this one returns at once."""
    functions = {SHOW: small.TEXT + 32, **{known: small.TEXT + 40 + n for n, known in enumerate(ALL)}}
    kernel = Built(small.kernel(code.ljust(64, b"\x90"), symbols={name: small.TEXT, **functions}))
    machine = zen() | {"cmdline": "mitigations=auto"}
    assert decided(kernel, "SRSO", "RETHUNK", of=machine) == [safe, True]
    facts = Facts(Machine.from_dict(machine), (6, 1), 64, kernel)
    assert rules_mitigations.return_thunk(facts) == ("srso_return_thunk" if safe else "retbleed_return_thunk")
