"""The locks beside signals and ``fork``: each test has a process of its own, for that of the tests has threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lock.kinds import WAITERS, Lock


@pytest.mark.parametrize("waiter", WAITERS)
@pytest.mark.parametrize("how", ["lock.acquire()", "lock.acquire(timeout=60)", "lock.__enter__()"])
def test_a_signal_ends_the_wait(make: type[Lock], waiter: str, how: str) -> None:
    """As `threading.Lock`: KeyboardInterrupt at once, the lock as it was, and the next one gets it."""
    script = f"""
import os, signal, threading, time
import pvops
# What a shell starts in the background ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
lock = pvops.{make.__name__}(waiter={waiter!r})
lock.acquire()
def interrupt():
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
start = time.monotonic()
try:
    {how}
except KeyboardInterrupt:
    assert 0.2 < time.monotonic() - start < 5
else:
    raise SystemExit("not interrupted")
assert lock.locked()
lock.release()
assert not lock.locked() and lock.acquire(timeout=5)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_handler_that_returns_does_not_end_the_wait(make: type[Lock]) -> None:
    script = f"""
import signal, threading, time
import pvops
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
lock = pvops.{make.__name__}()
lock.acquire()
threading.Timer(0.4, lock.release).start()
assert lock.acquire()
signal.setitimer(signal.ITIMER_REAL, 0)
assert len(seen) >= 3, seen
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_child_of_fork_makes_it_free_again(make: type[Lock]) -> None:
    script = f"""
import os, threading, pvops
lock = pvops.{make.__name__}()
lock.acquire()
child = os.fork()
if child == 0:
    lock._at_fork_reinit()
    right = not lock.locked() and lock.acquire(timeout=5) and not lock.acquire(timeout=0.01)
    lock.release()
    os._exit(0 if right else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert lock.locked()
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_signal_ends_the_wait_in_ops_written_in_python(make: type[Lock]) -> None:
    script = f"""
import os, signal, threading, time
import pvops
# What a shell starts in the background ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Ops:
    def lock_spinning(self, lock, ticket, unkicked):
        while unkicked():
            time.sleep(0.01)
    def unlock_kick(self, lock, ticket):
        pass
lock = pvops.{make.__name__}(waiter=Ops())
lock.acquire()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    lock.acquire()
except KeyboardInterrupt:
    lock.release()
    assert lock.acquire(timeout=5)
else:
    raise SystemExit("not interrupted")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_child_of_fork_finds_a_held_lock_held_and_a_free_one_free(make: type[Lock]) -> None:
    script = f"""
import os, pvops
held, free = pvops.{make.__name__}(), pvops.{make.__name__}()
held.acquire()
child = os.fork()
if child == 0:
    right = not held.acquire(timeout=0.05) and free.acquire(timeout=5)
    os._exit(0 if right else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
held.release()
assert held.acquire(False)
"""
    # In a process of its own: pytest's has threads.
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
