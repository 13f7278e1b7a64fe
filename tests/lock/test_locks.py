"""``pvops.TicketLock`` and ``pvops.HybridLock``: the protocol of ``threading.Lock``, waiters, counters."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest

import pvops
from lock.kinds import WAITERS, Lock
from pvops.errors import LockError, OpsError


def test_it_is_a_context_manager_that_lets_go_on_an_exception(make: type[Lock]) -> None:
    lock = make()

    def fail() -> None:
        with lock:
            assert lock.locked()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not lock.locked()
    with lock as held:
        assert held is True


def test_it_refuses_what_threading_refuses_and_in_its_words(make: type[Lock]) -> None:
    for arguments in ((False, 1.0), (True, -2.0), (True, float("nan")), (True, 1e30), (True, float("inf"))):
        with pytest.raises((ValueError, OverflowError)) as theirs:
            threading.Lock().acquire(*arguments)
        with pytest.raises(theirs.type):
            make().acquire(*arguments)
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        make().release()


def test_a_held_lock_refuses_at_once_or_after_the_timeout(make: type[Lock]) -> None:
    lock = make()
    assert lock.acquire()
    assert not lock.acquire(False)
    start = time.monotonic()
    assert not lock.acquire(timeout=0.12)
    assert time.monotonic() - start >= 0.12
    lock.release()
    assert lock.acquire(timeout=0.12)


def test_it_takes_what_threading_takes(make: type[Lock]) -> None:
    lock = make()
    assert lock.acquire(1)
    assert not lock.acquire(0)
    assert not lock.acquire(blocking=[])
    lock.release()
    assert lock.acquire(timeout=threading.TIMEOUT_MAX)
    with pytest.raises(OverflowError):
        make().acquire(timeout=threading.TIMEOUT_MAX + 1024)
    alive = weakref.ref(lock)
    assert alive() is lock
    del lock
    gc.collect()
    assert alive() is None


def test_it_is_shown_as_threading_shows_its_own(make: type[Lock]) -> None:
    lock = make()
    pattern = rf"<{{}} pvops\.{make.__name__} object at 0x[0-9a-f]+>"
    assert re.fullmatch(pattern.format("unlocked"), repr(lock))
    with lock:
        assert re.fullmatch(pattern.format("locked"), repr(lock))


def test_a_condition_stands_on_it(make: type[Lock]) -> None:
    condition, ready = threading.Condition(make()), []  # type: ignore[arg-type]

    def produce() -> None:
        for number in range(20):
            with condition:
                ready.append(number)
                condition.notify()

    threading.Thread(target=produce).start()
    with condition:
        assert condition.wait_for(lambda: len(ready) == 20, timeout=20)
        assert not condition.wait(timeout=0.01)
    assert ready == list(range(20))


def test_a_waiter_with_a_timeout_gets_its_turn(make: type[Lock]) -> None:
    """Two threads hold the lock by turns, half a millisecond each: it is never free for longer than a moment."""
    lock, stop = make(), threading.Event()

    def hold() -> None:
        while not stop.is_set():
            with lock:
                time.sleep(0.0005)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert lock.acquire(timeout=10)
            lock.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_nobody_waits_for_those_who_left(make: type[Lock]) -> None:
    """A holder, waiters that give up, and behind each of them one that stays: all of those get it, in any mixture."""
    lock = make()
    lock.acquire()
    left: list[bool] = []
    stayed: list[int] = []

    def leave() -> None:
        left.append(lock.acquire(timeout=0.1))

    def stay(number: int) -> None:
        with lock:
            stayed.append(number)

    threads = []
    for number in range(6):
        for thread in (threading.Thread(target=leave), threading.Thread(target=stay, args=[number])):
            thread.start()
            threads.append(thread)
            time.sleep(0.01)
    for thread in threads[::2]:
        thread.join(20)
    assert left == [False] * 6
    lock.release()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert sorted(stayed) == list(range(6))
    if make is pvops.TicketLock:
        assert stayed == sorted(stayed), "in the order of arrival"
    assert not lock.locked()
    assert lock.acquire(False)


def test_a_thread_that_waits_lets_others_run_and_gets_it(make: type[Lock]) -> None:
    lock, got = make(), threading.Event()
    lock.acquire()

    def wait() -> None:
        with lock:
            got.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not got.wait(0.05)
    lock.release()
    assert got.wait(10)


@pytest.mark.parametrize("waiter", WAITERS)
def test_threads_exclude_each_other_whatever_the_waiter(make: type[Lock], waiter: str) -> None:
    # Who only spins has the CPU taken away once a time slice.
    lock, count, each = make(waiter=waiter), [0], 20 if waiter == "native" else 200

    def work() -> None:
        for _ in range(each):
            with lock:
                seen = count[0]
                if seen % 10 == 0:
                    time.sleep(0)
                count[0] = seen + 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == [4 * each]


def held_until_parked(lock: Lock, parked: Callable[[], bool]) -> None:
    """Holds a lock until a second thread waits for it in earnest, then lets it have it."""
    lock.acquire()

    def wait() -> None:
        with lock:
            pass

    thread = threading.Thread(target=wait)
    thread.start()
    deadline = time.monotonic() + 10
    while not parked():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    lock.release()
    thread.join(10)
    assert not thread.is_alive()


def test_counters_count_the_slow_path_and_nothing_else(make: type[Lock]) -> None:
    # All locks of a process share the slots of waiters: what another test left there would be kicked too.
    script = f"""
import pvops
lock = pvops.{make.__name__}(counters=True)
for _ in range(100):
    with lock:
        pass
assert lock.counts() == (0, 0, 0, 0), lock.counts()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    lock = make(counters=True)
    held_until_parked(lock, lambda: (lock.counts() or (0,))[-1] > 0)
    spins, slow_paths, kicks, waits = lock.counts() or (0, 0, 0, 0)
    assert slow_paths == 1
    assert waits >= 1
    assert kicks >= 1
    assert spins >= 1
    assert make().counts() is None


class Teacher:
    """Ops written in Python: waits on a condition, and writes down what it is asked."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.calls: list[tuple[str, int]] = []

    def lock_spinning(self, lock: int, ticket: int, unkicked: Callable[[], bool]) -> None:
        with self.condition:
            self.calls.append(("lock_spinning", ticket))
            while unkicked():
                self.condition.wait()

    def unlock_kick(self, lock: int, ticket: int) -> None:
        with self.condition:
            self.calls.append(("unlock_kick", ticket))
            self.condition.notify_all()


def test_the_ops_may_be_written_in_python(make: type[Lock]) -> None:
    teacher = Teacher()
    lock = make(waiter=teacher)
    held_until_parked(lock, lambda: bool(teacher.calls))
    ticket = 1 if make is pvops.TicketLock else 0  # the hybrid gives tickets to those who queue, only
    assert teacher.calls[0] == ("lock_spinning", ticket)
    assert ("unlock_kick", ticket) in teacher.calls


def test_ops_that_raise_make_a_lock_that_spins(make: type[Lock]) -> None:
    raised: list[object] = []

    class Broken:
        def lock_spinning(self, *_: object) -> None:
            raise ZeroDivisionError

        def unlock_kick(self, *_: object) -> None:
            raise ZeroDivisionError

    hook, sys.unraisablehook = sys.unraisablehook, lambda unraisable: raised.append(unraisable.exc_type)
    try:
        held_until_parked(make(waiter=Broken()), lambda: bool(raised))
    finally:
        sys.unraisablehook = hook
    assert set(raised) == {ZeroDivisionError}


def test_a_waiter_that_is_none_is_refused(make: type[Lock]) -> None:
    with pytest.raises(OpsError, match='no waiter is named "fuutex": native, park, futex, event-channel, halt'):
        make(waiter="fuutex")
    with pytest.raises(OpsError, match="needs an op lock_spinning, which this <class 'int'> lacks"):
        make(waiter=3)


def test_pairs_shows_the_cost_of_the_lock_and_not_of_the_call(make: type[Lock]) -> None:
    lock = make()
    inside = min(lock.pairs(20_000) for _ in range(20))

    def called() -> float:
        start = time.perf_counter_ns()
        for _ in range(2000):
            lock.acquire()
            lock.release()
        return (time.perf_counter_ns() - start) / 2000

    assert 0 < inside < min(called() for _ in range(20))
    with pytest.raises(LockError, match="pairs: at least one is needed"):
        lock.pairs(0)


def test_another_thread_may_release_it(make: type[Lock]) -> None:
    lock = make()
    lock.acquire()
    other = threading.Thread(target=lock.release)
    other.start()
    other.join()
    assert not lock.locked()
