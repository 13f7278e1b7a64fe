"""What the words of a command alone tell is told before the kernel is opened."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from cli.run import pvops
from pvops.cli import main
from pvops.cli.grammar import COMMANDS, overview, whole


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain", "/no/kernel", "schedule", "--backend", "kmv"], "no backend kmv (did you mean kvm?)"),
        (["patch", "/no/kernel", "-o", "/no/out", "--backend", "kmv"], "no backend kmv"),
        (["disasm", "/no/kernel", "schedule", "--machine", "/no/machine"], "/no/machine: "),
        (["diff", "/no/kernel", "native", "nobody"], "nobody: no such file, no backend"),
        (["sites", "/no/kernel"], "/no/kernel: "),
    ],
)
def test_trouble_with_the_words_comes_first(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(f"pvops: {said}")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from parsers(command)


def test_help_fits_a_terminal_of_80_columns_and_has_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    helps = {parser.prog: parser.format_help().splitlines() for parser in parsers(whole())}
    assert len(helps) >= 15
    assert not [(name, line) for name, lines in helps.items() for line in lines if len(line) > 80]
    assert not [name for name, lines in helps.items() if not any(line.startswith(f"  {name}") for line in lines)]


def test_help_says_nothing_that_nobody_wrote() -> None:
    assert "None" not in pvops("--help").stdout.decode()
    assert "None" not in pvops("lock", "--help").stdout.decode()


def test_the_overview_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = overview().splitlines()
    assert not [line for line in lines if len(line) > 80]
    assert [line for line in lines if line.startswith("  pvops ")] == [
        f"  {example}" for _, example in COMMANDS.values()
    ]
