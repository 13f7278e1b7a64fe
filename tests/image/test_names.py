"""The names of features: found by symbol or by what they hold, and never read past their end."""

from __future__ import annotations

import pytest

from image import small
from pvops.image.names import FlagNames

#: The order in which gcc (the last declared first) and clang lay the arrays down.
_ORDERS = {
    "gcc": ("x86_bug_flags", "x86_cap_flags", "x86_power_flags"),
    "clang": ("x86_cap_flags", "x86_bug_flags", "x86_power_flags"),
}


def _entries(caps: int, bugs: int) -> dict[str, list[str | None]]:
    return {
        "x86_cap_flags": small.names(caps, {**small.CAPS, caps * 32 - 1: "last_cap"}),
        "x86_bug_flags": small.names(bugs, {**small.BUGS, bugs * 32 - 1: "last_bug"}),
        "x86_power_flags": small.names(1, small.POWER),
    }


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("order", _ORDERS)
@pytest.mark.parametrize(("caps", "bugs"), [(9, 1), (19, 1), (20, 10), (22, 2), (30, 2)])
def test_an_array_ends_where_the_next_begins(caps: int, bugs: int, order: str, named: bool) -> None:
    entries = _entries(caps, bugs)
    kernel = small.kernel(b"\xc3", arrays=[(name, entries[name]) for name in _ORDERS[order]], named=named)
    flags = FlagNames(kernel)
    assert (flags.features(22).words, flags.bugs(2).words) == (caps, bugs)
    assert flags.features(22).names[caps * 32 - 1] == "last_cap"
    assert flags.bugs(2).names[bugs * 32 - 1] == "last_bug"
    assert "100mhzsteps" not in flags.features(22).names.values()


def test_a_name_may_be_the_end_of_another_string() -> None:
    kernel = small.kernel(b"\xc3", arrays=list(_entries(9, 1).items()), named=False)
    assert FlagNames(kernel).features(22).names[0] == "fpu"


def test_an_image_without_names_has_none() -> None:
    found = FlagNames(small.kernel(b"\xc3")).features(22)
    assert (found.names, found.words) == ({}, None)
    assert found.source == "the image has no x86_cap_flags"


def test_without_anything_behind_it_an_arrays_length_is_not_told() -> None:
    kernel = small.kernel(b"\xc3", arrays=[("x86_cap_flags", _entries(9, 1)["x86_cap_flags"])], named=False)
    found = FlagNames(kernel).features(9)
    assert found.words is None
    assert found.names[0] == "fpu"


def test_what_lies_unnamed_behind_an_array_is_none_of_it() -> None:
    caps = _entries(19, 1)["x86_cap_flags"]
    unnamed = small.names(3, {16: "tm", 19: "hwpstate"})[:76]
    kernel = small.kernel(b"\xc3", arrays=[("x86_cap_flags", [*caps, *unnamed]), ("cpu_devs", ["intel"])])
    found = FlagNames(kernel).features(19)
    assert (found.words, found.names[18 * 32 + 31]) == (None, "last_cap")
    assert "hwpstate" not in found.names.values()
