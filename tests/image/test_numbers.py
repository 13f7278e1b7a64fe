"""Feature numbers: the image's own names, its rows, and the release that they contradict least."""

from __future__ import annotations

import subprocess
import sys

from image import small
from pvops.eras import releases
from pvops.image.numbers import ASSIGNED, HARDWARE

RETPOLINE_OLD, RETPOLINE_NEW = 7 * 32 + 12, 11 * 32 + 12
#: ``jmp *%rax``, which the thunk of RETPOLINE's absence is.
JUMP = bytes.fromhex("ffe0")


def test_bugs_are_counted_from_the_end_of_the_features() -> None:
    """RHEL 8's 4.18 has 30 words of features: no release of Linus's has."""
    arrays = [
        ("x86_bug_flags", small.names(2, {**small.BUGS, 14: "spectre_v1"})),
        ("x86_cap_flags", small.names(30, small.CAPS)),
        ("x86_power_flags", small.names(1, small.POWER)),
    ]
    row = small.Alternative(0, 3, 30 * 32 + 14, b"\x0f\xae\xe8")
    kernel = small.kernel(b"\x90" * 16, [row], arrays=arrays, named=False)
    numbers = kernel.feature_numbers
    assert (numbers.ncapints, numbers.nbugints) == (30, 2)
    assert numbers.by_number[30 * 32 + 14].name == "BUG_SPECTRE_V1"
    assert "100MHZSTEPS" not in numbers.by_name


def test_a_row_tells_a_number_that_no_release_declares() -> None:
    """Before the mitigation of retbleed 7*32+12 was RETPOLINE; later releases call it KERNEL_IBRS."""
    rows = [small.Alternative(0, 2, RETPOLINE_OLD, JUMP, flags=1)]
    numbers = small.kernel(b"\x90" * 16, rows, release="5.17.0-small").feature_numbers
    assert numbers.number("RETPOLINE") == RETPOLINE_OLD
    assert numbers.number("KERNEL_IBRS") is None


def test_the_release_nearest_to_the_images_names_is_taken() -> None:
    """An image of 6.9 by its banner, whose printed names stand where 6.12 declares them."""
    kernel = small.kernel(
        b"\x90" * 16,
        [
            small.Alternative(0, 2, RETPOLINE_NEW, JUMP, flags=1),
            small.Alternative(4, 3, 20 * 32 + 2, b"\x0f\xae\xe8\x0f\x31"[:3]),
        ],
        release="6.9.4-small",
    )
    assert kernel.feature_numbers.number("RETPOLINE") == RETPOLINE_NEW


def test_rows_that_nothing_names_speak_against_a_release_too() -> None:
    """4.16's sources were not read; later ones have its names and numbers where its rows ask, 4.15 and 4.8 have not."""
    retpoline = bytes.fromhex("e807000000 f390 0faee8 ebf9 48890424 c3")
    filled = bytes.fromhex("49c7c410000000 e807000000 f390 0faee8 ebf9 e807000000 f390 0faee8 ebf9 49ffcc 75e3")
    rows = [
        small.Alternative(0, 16, RETPOLINE_OLD, retpoline),
        small.Alternative(16, 40, 7 * 32 + 22, filled.ljust(40, b"\x90")),
    ]
    arrays = [("x86_cap_flags", small.names(19, {**small.CAPS, 12 * 32: "cqm_mbm_total", 9 * 32 + 25: "intel_pt"}))]
    numbers = small.kernel(b"\x90" * 64, rows, release="4.16.7-small", arrays=arrays, named=False).feature_numbers
    assert numbers.number("RETPOLINE") == RETPOLINE_OLD
    named = numbers.name(7 * 32 + 22)
    assert named is not None
    assert named.name == "USE_IBRS_FW"


def test_page_tables_apart_are_told_by_what_is_pushed_for_them() -> None:
    """Stable 3.16 has KAISER under a number that no release before 4.9 declares."""
    kaiser = 7 * 32 + 31
    numbers = small.kernel(
        b"\xeb\x12" * 8, [small.Alternative(0, 2, kaiser, b"\x50")], release="3.16.55-small"
    ).feature_numbers
    assert numbers.number("KAISER") == kaiser


def test_a_stable_release_has_bugs_of_later_ones_in_a_word_of_their_own() -> None:
    """5.15 as released has one word of bugs; its row of DIV0 stands in a second one, which nothing names."""
    words, div0 = 21, 33
    rows = [
        small.Alternative(0, 3, words * 32 + 10, b"\x0f\xae\xe8"),
        small.Alternative(4, 3, words * 32 + div0, b"\xf7\xf1\x90"),
    ]
    numbers = small.kernel(b"\x90" * 16, rows, release="5.15.127-small").feature_numbers
    assert numbers.by_number[words * 32 + div0].name == "BUG_DIV0"
    assert (numbers.ncapints, numbers.nbugints) == (words, 2)


def test_what_linux_assigns_is_a_bit_of_no_register_in_any_release() -> None:
    """So where an image has no such feature, no other release need be asked."""
    declared = [(name, release) for release in releases.all_releases() for name in release.features if name in ASSIGNED]
    assert {name for name, _ in declared} == ASSIGNED
    assert not [(name, release) for name, release in declared if release.features[name] // 32 in HARDWARE]


def test_a_feature_that_linux_assigns_loads_no_other_era() -> None:
    code = (
        "import sys; from pvops import sample, kernel\n"
        "numbers = kernel.open(sample.build(era='6.1', tables=True).elf).feature_numbers\n"
        "loaded = set(sys.modules); assert numbers.number('CALL_DEPTH') is None\n"
        "assert not set(sys.modules) - loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
