"""The fast paths of ``pv-ticket`` under Armv8's axioms: the orderings of ``src/lock`` as a compiler maps them.

A litmus test of the lock: two threads that acquire once, and each thing that they can do by Armv8's rules. On Arm a
release has a fence of its own (``src/lock/fence.rs``). The usual litmus tests hold the axioms to what is known of them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from lock.armv8 import Do, Thread, executions

#: Of a slot: somebody is parked, and what a kick adds.
PARKED, EPOCH = 1, 16


def litmus(*steps: str) -> Thread:
    """``Wx`` stores 1 there, ``Rx`` loads, ``F`` is a fence; ``.L``, ``.Q``, ``.A``: orders. Ends with what it read."""

    def thread() -> Generator[Do, int, str]:
        read = ""
        for step in steps:
            what, _, order = step.partition(".")
            if what == "F":
                yield Do("fence")
            elif what[0] == "W":
                yield Do("write", what[1], 1, order)
            else:
                read += str((yield Do("read", what[1], 0, order)))
        return read

    return thread


@pytest.mark.parametrize(
    ("threads", "ends", "allowed"),
    [
        ([["Wx", "Wy"], ["Ry", "Rx"]], ("", "10"), True),
        ([["Wx", "Wy.L"], ["Ry.Q", "Rx"]], ("", "10"), False),
        ([["Wx", "Wy.L"], ["Ry", "Rx"]], ("", "10"), True),
        ([["Wx", "Ry"], ["Wy", "Rx"]], ("0", "0"), True),
        ([["Wx", "F", "Ry"], ["Wy", "Rx"]], ("0", "0"), True),
        ([["Wx", "F", "Ry"], ["Wy", "F", "Rx"]], ("0", "0"), False),
        ([["Wx.L", "Ry.A"], ["Wy.L", "Rx.A"]], ("0", "0"), False),
        ([["Wx.L", "Ry.Q"], ["Wy.L", "Rx.Q"]], ("0", "0"), True),
        ([["Wx"], ["Wy"], ["Rx", "Ry"], ["Ry", "Rx"]], ("", "", "10", "10"), True),
        ([["Wx"], ["Wy"], ["Rx.Q", "Ry"], ["Ry.Q", "Rx"]], ("", "", "10", "10"), False),
        ([["Wx"], ["Rx", "Rx"]], ("", "10"), False),
    ],
)
def test_the_axioms_allow_what_armv8_does_and_forbid_what_it_does_not(
    threads: list[list[str]], ends: tuple[str, ...], allowed: bool
) -> None:
    found = executions([litmus(*steps) for steps in threads], {"x": (0, 1), "y": (0, 1)})
    assert (ends in {tuple(run.end for run in runs) for runs, _ in found}) is allowed


def pv_ticket(bug: str = "") -> Thread:
    """One acquisition, and a count that the lock protects: `PvTicketLock::acquire`, `release`, `parking`."""
    acquire, release = "" if bug == "relaxed-look" else "Q", "" if bug == "relaxed-release" else "L"

    def cleared(seen: int) -> Callable[[int], int | None]:
        return lambda now: seen - PARKED + EPOCH if now == seen else None

    def announce() -> Generator[Do, int, None]:
        if not (yield Do("read", "waited")):
            yield Do("update", "waited", lambda _: 1)

    def thread() -> Generator[Do, int, str]:
        ticket = yield Do("update", "tail", lambda tail: tail + 1, "A")
        head = yield Do("read", "head", order=acquire)
        for _ in range(2):
            if head == ticket:
                break
            if bug == "publish-after-look" and (yield Do("read", "head", order=acquire)) == ticket:
                break
            if bug != "announce-after-look":
                yield from announce()
            seen = (yield Do("update", "slot", lambda slot: slot | PARKED, "AL")) | PARKED
            if bug != "missing-fence":
                yield Do("fence")
            if bug not in ("publish-after-look", "no-look-after-publish"):
                head = yield Do("read", "head", order=acquire)
                if head == ticket:
                    break
            if bug == "announce-after-look":
                yield from announce()
            # FUTEX_WAIT: a full barrier, and it compares; a kick changes the slot before it wakes.
            yield Do("fence")
            if (yield Do("read", "slot")) == seen and (yield Do("read", "slot")) == seen:
                return f"sleeps {seen}"
            head = yield Do("read", "head", order=acquire)
        else:
            return "impossible"  # searched no further
        count = yield Do("read", "count")
        yield Do("write", "count", count + 1)
        yield Do("write", "head", ticket + 1, release)
        if bug != "missing-fence":
            yield Do("fence")
        if (yield Do("read", "waited")):
            slot = yield Do("read", "slot")
            for _ in range(2):
                if not slot & PARKED:
                    break
                found = yield Do("update", "slot", cleared(slot), "AL")
                slot = 0 if found == slot else found
        return "done"

    return thread


VALUES = {
    "tail": (0, 1),
    "head": (0, 1, 2),
    "waited": (0, 1),
    "slot": (0, PARKED, EPOCH, EPOCH | PARKED),
    "count": (0, 1),
}


def broken(bug: str = "") -> tuple[int, set[str]]:
    """How many executions of two threads there are, and which promises are broken in some of them."""
    total, found = 0, set()
    for runs, last in executions([pv_ticket(bug)] * 2, VALUES):
        total += 1
        ends: list[Any] = [run.end for run in runs]
        # A kick begins another epoch of the slot: in the old one nobody has woken who sleeps there.
        if f"sleeps {last.get('slot', 0)}" in ends:
            found.add("lost-kick")
        if last["count"] != ends.count("done"):
            found.add("lost-update")
    return total, found


def test_two_threads_exclude_each_other_and_no_kick_is_lost() -> None:
    total, found = broken()
    assert found == set()
    assert total > 10


@pytest.mark.parametrize(
    ("bug", "breaks"),
    [
        ("missing-fence", "lost-kick"),
        ("announce-after-look", "lost-kick"),
        ("publish-after-look", "lost-kick"),
        ("no-look-after-publish", "lost-kick"),
        ("relaxed-look", "lost-update"),
        ("relaxed-release", "lost-update"),
    ],
)
def test_each_bug_breaks_a_promise(bug: str, breaks: str) -> None:
    assert breaks in broken(bug)[1]
