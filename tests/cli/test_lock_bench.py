"""``pvops lock bench``."""

from __future__ import annotations

from typing import Any

import pytest

from cli.run import document, pvops, trouble

QUICK = ("lock", "bench", "--rounds", "1", "--seconds")


def counted(rows: list[dict[str, Any]]) -> bool:
    """Whether every lock was acquired by one thread, and some by two and by three: plain ticket locks may not get
    round once in a short time, where other processes have the CPUs."""
    alone = all(row["ops_per_second"] > 0 for row in rows if row["threads"] == 1)
    return alone and all(any(row["ops_per_second"] > 0 for row in rows if row["threads"] == n) for n in (2, 3))


def benched() -> dict[str, Any]:
    """A bench as short as it can be: where others have the CPUs all that time, a longer one."""
    for seconds in ("0.02", "0.2", "1"):
        found: dict[str, Any] = document(*QUICK, seconds, "--threads", "2", "3")
        if counted(found["locks"]):
            break
    return found


def test_every_lock_has_a_row_a_case_and_one_with_the_uncontended_cost() -> None:
    found = benched()
    assert counted(found["locks"])
    assert found["schema"] == "pvops.lock_bench/1"
    rows = found["locks"]
    names = [row["lock"] for row in rows if row["uncontended_ns"] is not None]
    assert names[:2] == ["pvops::PvTicketLock", "pvops::PvHybridLock"]
    assert {"std::sync::Mutex", "parking_lot::Mutex", "parking_lot::FairMutex"} <= set(names)
    assert {"spin::TicketMutex", "usync::Mutex"} <= set(names)
    for threads in (1, 2, 3):
        assert [row["lock"] for row in rows if row["threads"] == threads] == names
    for row in rows:
        assert 0 <= row["fairness"] <= 1
        assert 0 <= row["wait_p50_us"] <= row["wait_p999_us"] <= row["wait_max_us"]
    for row in rows:
        assert row["paired_rounds"] in (0, 1)
        assert (row["of_best_peer"] is None) == (row["paired_rounds"] == 0)
        assert (row["line_low_ns"] is None) == (row["threads"] == 1)
        assert row["threads"] == 1 or 0 < row["line_low_ns"] <= row["line_high_ns"]
    assert found["limits_ns"]["raw_pair"]["minimum"] > 0


def test_a_person_reads_a_table_of_each_case() -> None:
    done = pvops(*QUICK, "0.02", "--threads", "2", "--cpus", "1", "--lock", "pvops::PvTicketLock")
    assert done.returncode == 0
    text = done.stdout.decode()
    assert "2 threads on one CPU: hold 100 ns, pause 100 ns" in text
    assert "futex hand-over, same CPU" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--threads", "0"), "threads: 0, where 1 to 1024 are possible"),
        (("--threads", "2000"), "threads: 2000, where 1 to 1024 are possible"),
        (("--cpus", "0"), "cpus: 0, where this process may use"),
        (("--cpus", "100000"), "cpus: 100000, where this process may use"),
        (("--rounds", "0"), "rounds: 0, where 1 to 1000 are possible"),
        (("--threads", "1", "--seconds", "-1"), "no time from 0 to an hour"),
        (("--threads", "1", "--section-ns", "99999999999"), "at most a second each"),
        (("--lock", "std::sync::Mutx"), "no lock is named 'std::sync::Mutx' (did you mean std::sync::Mutex?)"),
        (("--lock", "PvTicketLok"), "(did you mean pvops::PvTicketLock?)"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(arguments: tuple[str, ...], reason: str) -> None:
    assert reason in trouble("lock", "bench", "--rounds", "1", *arguments)
