"""``pvops.bench`` measures what it says, and notices where it does not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from pvops import _core, bench
from pvops import eras as ops
from pvops.errors import ExecutionError

#: What a measurement on a busy machine is given before it counts as failed.
TRIES = 4

#: The forms that the contract names.
FORMS = {
    "empty",
    "nop6",
    "inline",
    "direct_call",
    "indirect_call",
    "retpoline",
    "return_thunk",
    "save_thunk_4",
    "save_thunk_8",
    "alternative",
}


def again() -> bench.Measurement:
    """A measurement; another where the machine was too busy for any."""
    for left in reversed(range(TRIES)):
        try:
            return bench.measure(2.5)
        except ExecutionError:
            if not left:
                raise
    raise AssertionError


@cache
def measured() -> bench.Measurement:
    """A measurement whose checks hold."""
    for _ in range(TRIES):
        found = again()
        if found.trusted:
            return found
    failed = [check for check in found.checks if not check.holds]
    pytest.fail(f"{TRIES} measurements, and in the last {failed}")


def eventually(holds: Callable[[bench.Measurement], bool]) -> bool:
    """Whether something holds of a measurement, or of one of a few more: somebody else may have been busy."""
    return holds(measured()) or any(holds(again()) for _ in range(TRIES))


def test_every_form_of_the_contract_is_there_with_an_interval_round_its_median() -> None:
    found = measured()
    assert set(found.forms) >= FORMS
    for form in found:
        for way, range_ in form.ways.items():
            assert range_.low <= range_.median <= range_.high, (form.form, way)
    assert found.rounds > 0
    assert found.clock


@pytest.mark.parametrize(
    ("form", "starts"),
    [
        ("empty", ""),
        ("nop6", "660f1f440000"),
        ("inline", "9c58"),
        ("inline_irq_disable", "f8"),
        ("inline_irq_enable", "f9"),
        ("inline_unlock", "c60700"),
        ("direct_call", "e8"),
        ("indirect_call", "ff15"),
        ("retpoline", "e8"),
        ("register_call", "ffd0"),
        ("lfence_call", "0faee8ffd0"),
        ("return_thunk", "e8"),
        ("save_thunk_8", "e8"),
        ("alternative", "0f1f440000"),
        ("jump_over", "eb"),
    ],
)
def test_a_site_is_what_the_passes_leave(form: str, starts: str) -> None:
    site = measured()[form].site
    assert site.hex().startswith(starts)
    assert len(site) == {"": 0, "0f1f440000": 5, "eb": 5, "ffd0": 5, "0faee8ffd0": 5}.get(
        starts, 5 if form == "retpoline" else 6
    )


def test_what_is_inlined_is_what_the_ops_tables_inline_and_stand_ins_are_as_long() -> None:
    era = ops.era("5.10")
    function = era.patch_function(era.default_config(64))
    assert function is not None
    inlining = [form for form in measured() if form.inlines is not None]
    assert {form.form for form in inlining} == {
        "inline",
        "inline_irq_disable",
        "inline_irq_enable",
        "inline_unlock",
    }
    for form in inlining:
        declared = function.switch[form.inlines or ""]
        assert getattr(declared, "code", None) == form.native
        ran = form.native if form.stand_in is None else form.stand_in
        assert ran is not None
        assert form.native is not None
        assert len(ran) == len(form.native)
        assert form.site.startswith(ran)


def test_an_empty_slot_costs_nothing_and_nops_nearly_so() -> None:
    assert eventually(lambda found: abs(found["empty"].cycles) < 0.2)
    assert eventually(lambda found: abs(found["nop6"].cycles) < 1)


def test_the_forms_cost_in_the_order_that_their_instructions_make() -> None:
    order = ("nop6", "direct_call", "save_thunk_8", "retpoline")

    def in_order(found: bench.Measurement) -> bool:
        cycles = [found[form].cycles for form in order]
        return all(a < b for a, b in pairwise(cycles))

    assert eventually(in_order)
    # A fence takes away what a loop hides.
    assert eventually(lambda found: found["direct_call"].serialised_cycles > found["nop6"].serialised_cycles + 1)


def test_a_call_costs_more_among_thousands_of_sites_than_a_nop() -> None:
    assert eventually(lambda found: found["direct_call"].distinct_sites_cycles > found["nop6"].distinct_sites_cycles)
    assert eventually(lambda found: found["retpoline"].distinct_sites_cycles > found["nop6"].distinct_sites_cycles + 5)


def test_a_branch_that_was_forgotten_costs_by_when_its_target_is_known() -> None:
    def in_order(found: bench.Measurement) -> bool:
        cycles = [found[form].distinct_sites_cycles for form in ("nop6", "jump_over", "direct_call", "indirect_call")]
        # The jump and the direct call are both put right by the decoder; the call returns as well.
        return cycles[0] + 4 < cycles[1] < cycles[2] + 2 and cycles[2] + 2 < cycles[3]

    assert eventually(in_order)


def test_multiplications_and_additions_take_what_they_are_known_to_take() -> None:
    known = {check.check: check for check in measured().checks}
    assert known["32 dependent multiplications, in cycles"].expected == 96
    assert known["64 dependent multiplications, in cycles"].expected == 192
    assert known["32 dependent additions, in cycles"].expected == 32
    for check in known.values():
        assert check.holds == (abs(check.measured - check.expected) <= check.tolerance)


@pytest.mark.parametrize("broken", ["subtraction", "loop"])
def test_a_broken_method_is_noticed(broken: str) -> None:
    for _ in range(TRIES):
        try:
            found = _core.measure(1.0, None, broken)
        except ExecutionError:
            continue  # no measurement came of it
        assert not all(check["holds"] for check in found["checks"]), found["checks"]
        break


def test_a_compiler_and_a_clock_of_others_agree(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc")
    program = tmp_path / "forms"
    source = Path(__file__).with_name("forms.c")
    subprocess.run([compiler, "-O2", "-o", program, source], check=True)

    def theirs() -> dict[str, float]:
        out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        return {name: float(cycles) for name, cycles in map(str.split, out.splitlines())}

    def apart(found: bench.Measurement, c: dict[str, float]) -> list[str]:
        """Forms whose costs are too far apart, and pairs that are clearly ordered otherwise."""
        out = [
            f"{form}: {found[form].cycles:.2f} and in C {cycles:.2f}"
            for form, cycles in c.items()
            if abs(found[form].cycles - cycles) > max(1.5, 0.35 * cycles)
        ]
        for a in c:
            out += [f"{a} < {b}" for b in c if c[a] + 1 < c[b] / 1.5 and found[a].cycles > found[b].cycles]
        return out

    found, c = measured(), theirs()
    for _ in range(TRIES):
        if not apart(found, c):
            break
        found, c = again(), theirs()
    assert apart(found, c) == []


def test_measuring_tells_between_rounds_how_far_it_is_and_ends_where_that_raises() -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.measure(100.0, progress=progress)
    assert told == sorted(told)
    assert [total for _, total in told] == [100_000] * 3


def test_a_notebook_shows_the_table() -> None:
    shown = measured()._repr_html_()
    assert shown.count("<tr>") == len(measured()) + 1
    assert "indirect_call" in shown


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_picture_is_drawn(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"forms.{kind}"
    measured().plot(str(path))
    begins = path.read_bytes()[:200]
    assert begins.startswith(b"\x89PNG") if kind == "png" else b"<?xml" in begins
    if kind == "svg":
        text = path.read_text()
        assert all(form in text for form in FORMS - {"empty"})
