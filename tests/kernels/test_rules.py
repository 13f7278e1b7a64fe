"""By which rules an image patches: its own functions and tables tell."""

from __future__ import annotations

import pytest

from pvops.eras import era, recognise


class Image:
    """What `recognise.of_image` asks of an image: which symbols, sections and constants it has."""

    def __init__(
        self, *symbols: str, sections: tuple[str, ...], constants: str = "", calls: bool = False, code: str = ""
    ) -> None:
        self.symbols = symbols
        self.sections = sections
        self.constants = bytes.fromhex(constants)
        self.calls = calls
        self.code = bytes.fromhex(code)

    def address_of(self, symbol: str) -> int | None:
        return 0xFFFFFFFF81000000 if symbol in self.symbols else None

    def has_section(self, name: str) -> bool:
        return name in self.sections

    def has_constant(self, raw: bytes) -> bool:
        return raw in self.constants

    def has_code(self, raw: bytes, function: str) -> bool:
        assert function == "is_endbr"
        return raw in self.code

    def replaces_by_call(self) -> bool:
        return self.calls


_TABLES = (".parainstructions", ".altinstructions", ".smp_locks")


@pytest.mark.parametrize(
    ("image", "layout", "era", "passes"),
    [
        (Image("pv_ops", "native_patch", sections=_TABLES), "13-byte rows, padlen", "5.12", "5.10.0"),
        (Image("pv_ops", "native_patch", sections=_TABLES), "12-byte rows", "5.12", "5.10"),
        (Image("pv_lock_ops", sections=_TABLES), "12-byte rows", "3.15", "3.0"),
        (Image("pv_lock_ops", sections=_TABLES), "13-byte rows, padlen", "3.15", "3.16"),
        (Image("paravirt_patch", sections=_TABLES), "12-byte rows", "6.1", "6.1"),
        (Image("paravirt_patch", "apply_relocation", sections=_TABLES), "14-byte rows, flags", "6.5", "6.5"),
        (Image("pv_ops", sections=_TABLES[1:]), "14-byte rows, flags", "6.18", "6.18"),
        (Image("pv_ops", "pv_ops_lock", sections=_TABLES[1:]), "14-byte rows, flags", "7.2", "7.2"),
        (Image("pv_ops", "pv_ops_lock", sections=_TABLES[1:2]), "14-byte rows, flags", "7.2", "7.3"),
    ],
)
def test_functions_and_tables_tell_the_passes(image: Image, layout: str, era: str, passes: str) -> None:
    found = recognise.of_image(image, "3.16.55" if era == "3.15" else None, layout)
    assert (found.era, found.passes) == (era, passes)


@pytest.mark.parametrize(
    ("release", "layout", "constants", "passes"),
    [
        ("5.11.0", "13-byte rows, padlen", "", "5.10.0"),
        ("5.12.14", "13-byte rows, padlen", "66 66 48 31 c0", "5.12"),
        ("5.14.0", "12-byte rows", "66 66 48 31 c0", "5.13"),
        ("5.17.0", "12-byte rows", "66 66 48 31 c0 00 00 00 c3 cc cc cc cc", "5.17"),
        ("5.15.85", "12-byte rows", "2e 2e 2e 31 c0 00 00 00 c3 cc cc cc cc", "5.15"),
        ("5.19.0", "12-byte rows", "2e 2e 2e 31 c0 00 00 00 c3 cc cc cc cc", "5.15"),
    ],
)
def test_what_a_static_call_writes_is_told_by_the_constants_that_it_writes(
    release: str, layout: str, constants: str, passes: str
) -> None:
    image = Image("pv_ops", sections=_TABLES, constants=constants)
    assert recognise.of_image(image, release, layout).passes == passes


@pytest.mark.parametrize(
    ("release", "passes"), [("2.6.27.57", "2.6.24"), ("2.6.28", "2.6.33"), ("2.6.29-qemu", "2.6.33")]
)
def test_what_stands_for_a_lock_is_told_by_the_release(release: str, passes: str) -> None:
    image = Image("pv_lock_ops", "native_usergs_sysret64", sections=_TABLES)
    assert recognise.of_image(image, release, "16-byte rows").passes == passes


def test_calls_are_moved_where_rows_have_any() -> None:
    """RHEL 6's 2.6.32 took alternative_call() over; of an image that names no function the rows tell."""
    images = [Image(sections=_TABLES, calls=calls) for calls in (False, True)]
    found = [recognise.of_image(image, "2.6.32-504.el6", "16-byte rows") for image in images]
    assert [rules.passes for rules in found] == ["2.6.33", "2.6.34"]


def test_rows_without_flags_are_of_no_kernel_since_6_3_whatever_its_release() -> None:
    image = Image(sections=_TABLES[1:])
    found = recognise.of_image(image, "9.1.1", "12-byte rows")
    assert (found.era, found.passes) == ("6.1", "6.1")
    assert found.doubt == "release 9.1.1, but the image has 12-byte rows of .altinstructions"
    assert recognise.of_image(image, "9.1.1", "14-byte rows, flags").doubt.startswith("release 9.1.1 is newer than")
    assert recognise.of_image(image, "6.1.1", "12-byte rows").doubt == ""
    named = Image("paravirt_patch", sections=_TABLES)
    assert recognise.of_image(named, "5.14.0", "14-byte rows, flags").era == "5.13", "distributions backport"


@pytest.mark.parametrize(
    ("release", "layout", "sections", "era"),
    [
        ("4.4.0", "14-byte rows, flags", (), "6.3"),
        ("5.14.0", "14-byte rows, flags", (), "6.3"),
        ("4.4.0", "12-byte rows", (), "3.15"),
        ("5.10.0", "12-byte rows", (".call_sites",), "6.1"),
        ("2.6.32", "12-byte rows", (".static_call_sites",), "5.10"),
        ("3.10.0", "12-byte rows, pointers, 16-bit features", (), "3.1"),
        ("2.6.24", "24-byte rows, pointers, 16-bit features", (), "2.6.34"),
        ("6.1.0", "13-byte rows, padlen", (), "5.12"),
        ("3.10.0", "13-byte rows, padlen", (".orc_unwind",), "4.14"),
    ],
)
def test_of_an_image_that_names_nothing_its_parts_contradict_a_banner(
    release: str, layout: str, sections: tuple[str, ...], era: str
) -> None:
    image = Image(sections=(*_TABLES[1:], *sections))
    found = recognise.of_image(image, release, layout)
    assert found.era == era
    assert found.doubt.startswith(f"release {release}, but the image has ")


@pytest.mark.parametrize(
    ("release", "layout", "sections"),
    [
        ("6.3.0", "14-byte rows, flags", (".call_sites", ".orc_unwind")),
        ("7.0.1", "14-byte rows, flags", (".cfi_sites",)),
        ("5.10.200", "12-byte rows", (".retpoline_sites", ".static_call_sites")),
        ("5.4.300", "12-byte rows", ()),
        ("3.16.55", "13-byte rows, padlen", ()),
        ("4.0.9", "12-byte rows", ()),
        ("2.6.33.3", "12-byte rows, pointers", ()),
        ("3.2.0-4-686", "12-byte rows, pointers, 16-bit features", ()),
        ("6.1.0", None, (".orc_unwind",)),
    ],
)
def test_a_banner_that_its_parts_fit_is_believed(release: str, layout: str | None, sections: tuple[str, ...]) -> None:
    found = recognise.of_image(Image(sections=(*_TABLES[1:], *sections)), release, layout)
    assert "but the image has" not in found.reason
    assert found.doubt == ""


def test_an_image_with_marks_may_have_parts_of_later_kernels_and_none_that_its_release_has_no_more() -> None:
    image = Image("pv_ops", "native_patch", "native_usergs_sysret64", sections=(*_TABLES, ".static_call_sites"))
    assert recognise.of_image(image, "4.18.0-553", "12-byte rows").doubt == ""
    rows = "24-byte rows, pointers, 16-bit features"
    old = Image("pv_init_ops", "native_steal_clock", sections=_TABLES)
    assert (
        recognise.of_image(old, "4.4.0", rows).doubt == f"release 4.4.0, but the image has {rows} of .altinstructions"
    )


def test_rows_have_flags_before_passes_move_more_and_nops_are_longer() -> None:
    image = Image("paravirt_patch", sections=_TABLES)
    found = [recognise.of_image(image, release, "14-byte rows, flags") for release in ("6.3.8", "6.4.6", "6.5.0")]
    assert [(rules.era, rules.passes, era(rules.era).nops.tables[64]) for rules in found] == [
        ("6.3", "6.1", ("x86",)),
        ("6.4", "6.1", ("x86",)),
        ("6.5", "6.5", ("x86-11",)),
    ]


@pytest.mark.parametrize(
    ("release", "told", "era"),
    [
        (None, (6, 8), "6.8"),
        ("4.4.0", (6, 8), "6.8"),
        ("4.4.0", None, "6.3"),
        ("6.1.0", (6, 12, 117), "6.12"),
        ("6.6.47", (6, 8), "6.5"),
    ],
)
def test_where_no_banner_fits_the_names_of_features_propose_a_release(
    release: str | None, told: tuple[int, ...] | None, era: str
) -> None:
    image = Image(sections=(*_TABLES[1:], ".call_sites"))
    found = recognise.of_image(image, release, "14-byte rows, flags", dated=lambda: told)
    assert found.era == era
    assert bool(found.doubt) == (release != "6.6.47")
    if release is None:
        assert found.doubt == "no banner names a release, and its features are named as in 6.8"


def test_no_names_are_asked_where_the_banner_fits() -> None:
    def asked() -> tuple[int, ...]:
        raise AssertionError

    assert recognise.of_image(Image("pv_ops", sections=_TABLES), "5.4.286", "13-byte rows, padlen", dated=asked)


@pytest.mark.parametrize("part", [".call_sites", ".cfi_sites", ".ibt_endbr_seal"])
def test_parts_are_taken_over_into_no_kernel_that_is_too_old_for_them(part: str) -> None:
    image = Image("pv_ops", "native_patch", sections=(*_TABLES, part))
    assert recognise.of_image(image, "5.14.0", "12-byte rows").doubt == ""
    assert recognise.of_image(image, "5.4.0", "12-byte rows").doubt == f"release 5.4.0, but the image has {part}"


@pytest.mark.parametrize("symbols", [(), ("pv_ops",)])
def test_a_banner_of_6_18_or_later_is_doubted_where_no_code_seals_as_they_do(symbols: tuple[str, ...]) -> None:
    sections = (*_TABLES[1:], ".ibt_endbr_seal")
    older = Image(*symbols, sections=sections, code="66 0f 1f 00")
    found = recognise.of_image(older, "7.0.0", "14-byte rows, flags", dated=lambda: (6, 8))
    said = "release 7.0.0, but the image has no code that seals endbr as 6.18 does"
    assert (found.era, found.doubt) == ("6.8", said)
    assert recognise.of_image(older, "6.17.8", "14-byte rows, flags").doubt == ""
    own = Image(*symbols, sections=sections, code="3d 0f 1f 40 d6")
    assert recognise.of_image(own, "7.0.0", "14-byte rows, flags").doubt == ""
