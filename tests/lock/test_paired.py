"""``pvops.lock.paired``: only what was measured in one mode of the machine is compared."""

from __future__ import annotations

import pytest

from pvops.lock.paired import Run, one_mode, ratios


def test_a_ratio_is_of_rounds_in_one_mode() -> None:
    runs = [
        # A slow mode and a fast one are no matter as long as a round is in one of them.
        Run("ours", 0, 5.0, 60.0, 61.0),
        Run("theirs", 0, 4.0, 61.0, 60.0),
        Run("ours", 1, 9.0, 40.0, 41.0),
        Run("theirs", 1, 10.0, 41.0, 40.0),
        # It changed between the two, and while one was measured.
        Run("ours", 2, 9.0, 40.0, 40.0),
        Run("theirs", 2, 4.0, 60.0, 60.0),
        Run("ours", 3, 7.0, 40.0, 60.0),
        Run("theirs", 3, 4.0, 60.0, 60.0),
    ]
    assert ratios(runs, "ours", ["theirs"]) == [1.25, 0.9]
    assert ratios(runs, "theirs", ["theirs", "ours"]) == [0.8, pytest.approx(10 / 9)]
    assert [run.changed for run in runs] == [False] * 6 + [True, False]


def test_the_best_of_others_is_that_of_the_round() -> None:
    runs = [
        Run("ours", 0, 6.0, 40.0, 40.0),
        Run("a", 0, 3.0, 40.0, 40.0),
        Run("b", 0, 4.0, 40.0, 40.0),
        Run("ours", 1, 6.0, 40.0, 40.0),
        # b was given up: it took too long.
        Run("a", 1, 3.0, 40.0, 40.0),
    ]
    assert ratios(runs, "ours", ["a", "b"]) == [1.5, 2.0]
    # A lock that never got round is no measure.
    assert ratios([Run("ours", 0, 1.0, 1.0, 1.0), Run("a", 0, 0.0, 1.0, 1.0)], "ours", ["a"]) == []
    assert ratios(runs, "absent", ["a"]) == []


def test_what_one_mode_is() -> None:
    assert one_mode((40.0, 47.9))
    assert not one_mode((40.0, 60.0))
