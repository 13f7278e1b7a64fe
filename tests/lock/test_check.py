"""``pvops lock check`` and ``pvops.lock.check``: protocols hold, bugs are caught, runs can be followed."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli.run import pvops, trouble
from lock.interrupting import interruptible
from pvops.errors import LockError
from pvops.lock import check
from pvops.lock.check import Check, cases, protocols, replay, uncatchable
from pvops.render import lock_check
from pvops.render.terminal import Style

NAMED = {
    "kick-before-release",
    "missing-fence",
    "wrong-hand-clears",
    "publish-after-look",
    "no-look-after-publish",
    "wake-before-clear",
    "nested-interrupt-slot",
    "touch-after-release",
    "one-slot-for-all",
}


@pytest.fixture(scope="module")
def document() -> Any:
    """What the command prints without arguments: the whole standard job."""
    done = pvops("lock", "check", "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_every_protocol_holds_and_every_mutant_is_caught(document: Any) -> None:
    assert document["schema"] == "pvops.lock.check/1"
    for row in document["checks"]:
        assert row["finished"], row
        assert row["tool"] == "tso"
        assert row["bound"] is None
        assert row["caught"] == (row["mutant"] is not None), row
        assert (row["trace"] is not None) == row["caught"]


def test_each_named_bug_is_caught_and_none_excused(document: Any) -> None:
    assert {row["mutant"] for row in document["checks"]} >= NAMED
    assert not NAMED & {row["mutant"] for row in document["uncatchable"]}
    assert all(row["reason"] for row in document["uncatchable"])
    assert any(r["protocol"] == "pv-ticket-3.12" and r["mutant"] == "touch-after-release" for r in document["checks"])


def test_three_threads_and_four_on_two_slots_are_seen_whole(document: Any) -> None:
    sound = [row for row in document["checks"] if row["mutant"] is None]
    assert {row["protocol"] for row in sound if row["threads"] >= 3} == set(protocols())
    assert any((row["protocol"], row["threads"], row["slots"]) == ("pv-ticket", 4, 2) for row in sound)
    assert all(row["acquisitions"] is None for row in sound)


def test_the_traces_are_taken_again(document: Any, tmp_path: Path) -> None:
    file = tmp_path / "checks.json"
    file.write_text(json.dumps(document))
    done = pvops("lock", "check", "--replay", file)
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.splitlines()) == sum(row["caught"] for row in document["checks"])


def test_a_trace_that_is_none_is_refused(document: Any, tmp_path: Path) -> None:
    row = next(r for r in document["checks"] if r["protocol"] == "pv-ticket" and r["mutant"] == "missing-fence")
    file = tmp_path / "row.json"

    def refused(changed: object) -> str:
        file.write_text(json.dumps(changed))
        line = trouble("lock", "check", "--replay", file)
        assert str(file) in line
        return line

    assert "breaks nothing" in refused({**row, "trace": row["trace"][:-1]})
    assert "not in order" in refused({**row, "violation": "order"})
    assert "trace row 0" in refused({**row, "trace": row["trace"][1:]})
    assert "no thread 7" in refused({**row, "trace": [{**row["trace"][0], "thread": 7}]})
    assert "no protocol" in refused({**row, "protocol": "mcs"})
    assert "trace row" in refused({**row, "mutant": None})
    assert "not a row" in refused({**row, "trace": [{"thread": "first"}]})
    assert "not a row" in refused({**row, "trace": [{**row["trace"][0], "thread": -1}]})
    assert "no row has a trace" in refused({**row, "trace": None})
    assert "not a document" in refused([1, 2])
    file.write_text("{")
    assert "not JSON" in trouble("lock", "check", "--replay", file)
    assert "No such file" in trouble("lock", "check", "--replay", tmp_path / "missing")


def test_a_run_is_a_table_with_a_column_for_each_thread() -> None:
    done = pvops("lock", "check", "--protocol", "pv-ticket", "--mutant", "missing-fence")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    heading = next(n for n, line in enumerate(lines) if line.split() == ["T0", "T1", "memory", "store", "buffers"])
    rows = lines[heading + 1 : -1]
    assert [int(row.split()[0]) for row in rows] == list(range(1, len(rows) + 1))
    assert "drains head = 1" in rows[-1]
    assert "T0: head=1" in rows[-2]
    assert lines[-1] == "=> nobody can go on, and someone waits: the kick is lost"


def test_from_python() -> None:
    found = check("pv-ticket", None, threads=2, slots=1)
    assert [row.scenario for row in found] == ["plain", "timeouts"]
    for sound in found:
        assert (sound.finished, sound.caught, sound.violation, list(sound.trace)) == (True, False, None, [])
    [broken] = check("pv-ticket", "missing-fence")
    assert broken.violation == "lost-kick"
    assert broken.as_expected
    assert replay(broken.document()) == broken.what
    assert broken.trace[0].memory["tail"] == 1


def test_bounded_acquisitions_see_fewer_states_and_agree() -> None:
    few = check("pv-hybrid", None, threads=2, slots=1, acquisitions=1)
    more = check("pv-hybrid", None, threads=2, slots=1, acquisitions=2)
    for once, twice in zip(few, more, strict=True):
        assert once.scenario == twice.scenario
        assert once.as_expected
        assert twice.as_expected
        assert once.states < twice.states


def test_a_mutant_on_fewer_threads_than_its_bug_needs_says_how_many() -> None:
    args = ("lock", "check", "--protocol", "pv-ticket", "--mutant", "one-slot-for-all", "--threads")
    done = pvops(*args, "2")
    assert done.returncode == 0
    assert b"holds: the bug needs 3 threads\n" in done.stdout
    assert b"mutants on fewer threads or acquisitions than their bug needs: 1" in done.stdout
    [row] = json.loads(pvops(*args, "3", "--json").stdout)["checks"]
    assert (row["needs_threads"], row["caught"]) == (3, True)


@pytest.mark.parametrize(("mutant", "threads"), [("wrong-hand-clears", 3), ("one-slot-for-all", 4)])
def test_a_bug_of_waiters_that_share_a_slot_needs_more_threads_where_there_are_more_slots(
    mutant: str, threads: int
) -> None:
    [few] = check("pv-ticket", mutant, threads=threads - 1, slots=2)
    assert (few.needs, few.too_few, few.caught, few.as_expected) == (threads, True, False, True)
    [enough] = check("pv-ticket", mutant, threads=threads, slots=2)
    assert (enough.too_few, enough.caught, enough.as_expected) == (False, True, True)


def test_a_mutant_on_fewer_acquisitions_than_its_bug_needs_says_how_many() -> None:
    # A ticket's waiter leaves its flag to one that comes after it.
    args = ("lock", "check", "--protocol", "pv-ticket", "--mutant", "wrong-hand-clears", "--acquisitions")
    done = pvops(*args, "1")
    assert done.returncode == 0
    assert b"holds: the bug needs 2 acquisitions of each thread\n" in done.stdout
    assert b"mutants on fewer threads or acquisitions than their bug needs: 1" in done.stdout
    [row] = json.loads(pvops(*args, "1", "--json").stdout)["checks"]
    assert (row["needs_acquisitions"], row["caught"]) == (2, False)
    [row] = json.loads(pvops(*args, "2", "--json").stdout)["checks"]
    assert (row["needs_acquisitions"], row["caught"]) == (None, True)


def test_every_mutant_is_caught_or_says_what_it_needs_however_few_acquisitions_there_are() -> None:
    rows = [*check("ticket-2.6.25", acquisitions=1), *check("pv-ticket", acquisitions=1)]
    assert all(row.as_expected for row in rows)
    needs = {row.mutant: row.needs_acquisitions for row in rows if row.needs_acquisitions}
    assert {
        "ticket-wrap": 5,
        "trylock-aba": 8,
        "wrong-hand-clears": 2,
        "leave-without-look": 2,
    }.items() <= needs.items()


def test_a_search_for_what_a_bug_needs_may_meet_the_limit_too() -> None:
    # Two threads must acquire five times each, which is more than a thousand states.
    [row] = check("pv-ticket", "leave-and-enter", threads=2, acquisitions=1, states=1000)
    assert (row.finished, row.caught, row.needs_acquisitions) == (False, False, None)
    assert next(line for line in lock_check.report([row], Style("never"), traces=False) if "leave" in line).endswith(
        "not finished  <-- not as expected"
    )


def test_a_mutant_that_holds_though_it_had_all_its_bug_needs_is_not_as_expected() -> None:
    held = Check("pv-ticket", "missing-fence", "plain", 2, 1, None, states=100, finished=True, needs=2)
    assert not held.as_expected
    lines = list(lock_check.report([held], Style("never"), traces=False))
    assert "holds  <-- not as expected" in lines[1]
    assert lines[-1] == "1 of 1 not as expected"


def test_a_search_that_gives_up_is_not_finished() -> None:
    done = pvops("lock", "check", "--protocol", "pv-hybrid", "--mutant", "none", "--states", "1000", "--json")
    assert done.returncode == 1
    rows = json.loads(done.stdout)["checks"]
    assert not any(row["finished"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--threads", "0"], "0 threads cannot be checked"),
        (["--threads", "7"], "7 threads cannot be checked"),
        (["--slots", "3"], "3 parking slots cannot be checked"),
        (["--slots", "0"], "0 parking slots cannot be checked"),
        (["--acquisitions", "0"], "0 acquisitions a thread cannot be checked"),
        (["--acquisitions", "8"], "8 acquisitions a thread cannot be checked"),
        (["--threads", "-1"], "threads"),
        (["--acquisitions", "300"], "acquisitions"),
        (["--states", "0"], "a limit of 0 states"),
        (["--protocol", "mcs"], "there is no protocol mcs"),
        (["--mutant", "gremlin"], "there is no mutant gremlin"),
        (["--protocol", "ticket-2.6.25", "--mutant", "missing-fence"], "has no mutant missing-fence"),
        (["--protocol", "ticket-2.6.25", "--slots", "2"], "do not park on slots"),
    ],
)
def test_numbers_and_names_that_make_no_sense_are_refused(arguments: list[str], why: str) -> None:
    assert why in trouble("lock", "check", *arguments)


def test_every_mutant_of_a_protocol_is_among_its_cases() -> None:
    for protocol, mutants in protocols().items():
        assert {case.mutant for case in cases(protocol)} == {None, *mutants}
    assert not set(uncatchable()) & {mutant for mutants in protocols().values() for mutant in mutants}
    with pytest.raises(LockError):
        cases("pv-ticket", "ticket-wrap")


def test_expectations() -> None:
    case = Check("pv-ticket", None, "plain", 2, 1, None)
    assert not case.as_expected


def test_ctrl_c_ends_a_long_search() -> None:
    command = [sys.executable, "-m", "pvops", "lock", "check", "--protocol", "pv-hybrid", "--mutant", "none"]
    command += ["--threads", "5", "--slots", "4"]
    with interruptible(command) as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT
