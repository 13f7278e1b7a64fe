"""Long work says on a terminal how far it is, and leaves nothing behind; elsewhere nothing is drawn."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import pytest

import pvops
from pvops import progress
from pvops.plan.diff import compare
from pvops.progress import Bar, Waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0)
    monkeypatch.setattr(progress, "_EVERY", 0)


@pytest.mark.usefixtures("impatient")
def test_a_bar_says_how_far_work_is_and_goes() -> None:
    with redirect_stderr(Terminal()) as terminal:
        assert list(Bar("counting").of("abcd", 4)) == list("abcd")
    drawn = terminal.getvalue().split("\r")[1:]
    assert [line.split()[-1] for line in drawn[:-1]] == ["0%", "25%", "50%", "75%"]
    assert drawn[-1] == "\x1b[K"


@pytest.mark.usefixtures("impatient")
def test_of_what_nobody_knows_the_number_of_is_counted() -> None:
    with redirect_stderr(Terminal()) as terminal:
        assert list(Bar("runs done:").of(iter("ab"))) == ["a", "b"]
    assert terminal.getvalue() == "\rruns done: 0\rruns done: 1\r\x1b[K"


@pytest.mark.usefixtures("impatient")
def test_work_that_fails_leaves_no_bar() -> None:
    def fails() -> Iterator[int]:
        yield 1
        yield 1 // 0

    with redirect_stderr(Terminal()) as terminal, pytest.raises(ZeroDivisionError):
        list(Bar("dividing").of(fails(), 2))
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_what_takes_less_than_a_second_draws_nothing() -> None:
    with redirect_stderr(Terminal()) as terminal:
        assert list(Bar("counting").of("abcd", 4)) == list("abcd")
    assert not terminal.getvalue()


@pytest.mark.usefixtures("impatient")
def test_elsewhere_than_on_a_terminal_nothing_is_drawn() -> None:
    with redirect_stderr(io.StringIO()) as file:
        assert list(Bar("counting").of("abcd", 4)) == list("abcd")
    assert not file.getvalue()


def test_a_comparison_tells_how_many_sites_are_compared_of_those_that_differ(sample_kernel: Path) -> None:
    told: list[tuple[int, int]] = []
    kernel = pvops.open(sample_kernel)
    found = compare(kernel.plan("native"), kernel.plan("kvm"), progress=lambda done, total: told.append((done, total)))
    assert told == []
    assert len(found.sites) > 0
    assert told == [(0, len(found.sites))]


@contextmanager
def terminal() -> Iterator[int]:
    """What reads a terminal that standard error is."""
    reads, writes = os.openpty()
    os.set_blocking(reads, False)
    with os.fdopen(writes, "w", buffering=1) as error, redirect_stderr(error):
        yield reads
    os.close(reads)


def awaited(reads: int) -> str:
    """What a terminal gets, waited for."""
    end = time.monotonic() + 30
    while not (text := shown(reads)):
        assert time.monotonic() < end, "nothing was drawn"
        time.sleep(0.01)
    return text


def shown(reads: int) -> str:
    """What a terminal has got since it was read."""
    text = b""
    while True:
        try:
            text += os.read(reads, 65536)
        except BlockingIOError:
            return text.decode()


def test_work_of_unknown_length_says_how_long_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.01)
    with terminal() as reads, Waiting("pvops explain") as waiting:
        assert awaited(reads).startswith("\rpvops explain … 0 s")
        waiting.pause()
        assert shown(reads).endswith("\r\x1b[K")
        time.sleep(0.1)
        assert not shown(reads)
        waiting.resume()
        assert awaited(reads).startswith("\rpvops explain … ")
        waiting.end()
        assert shown(reads).endswith("\r\x1b[K")
        time.sleep(0.1)
        assert not shown(reads)


def test_a_bar_is_drawn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.01)
    with terminal() as reads, Waiting("pvops diff"), Bar("comparing") as bar:
        awaited(reads)
        time.sleep(0.1)
        bar(1, 2)
        assert shown(reads).endswith("\r\x1b[K\rcomparing ███████████████···············  50%")
        time.sleep(0.1)
        assert not shown(reads)


def test_elsewhere_than_on_a_terminal_no_command_waits() -> None:
    with redirect_stderr(io.StringIO()), Waiting("pvops explain"):
        assert Waiting.current is None
