"""What the words of a command alone tell is told before the kernel is opened."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.run import pvops
from pvops.cli import main
from pvops.cli.grammar import COMMANDS, overview, whole
from pvops.render import terminal


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


def test_sentences_fit_the_terminal_and_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    style = terminal.Style("always")
    line = "  " + style.bold("one two") + "  three " + "four five six seven " * 5 + "x" * 60
    monkeypatch.setenv("COLUMNS", "40")
    rows = terminal.fitted(line)
    assert rows[0].startswith("  " + style.bold("one two") + "  three four")
    assert "".join(row.removeprefix("    ") + " " for row in rows).split() == line.split()
    assert all(len(row.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= 40 for row in rows[:-1])
    assert rows[-1] == "    " + "x" * 60


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_machine_and_a_report_fit_the_terminal(
    width: int, sample_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    (tmp_path / "m.toml").write_text(f'cmdline = "{"quiet " * 99}"\n')
    monkeypatch.chdir(tmp_path)
    assert main(["patch", str(sample_kernel), "--format", "text", "-o", "text"]) == 0
    capsys.readouterr()
    for words in (["machine", "--presets"], ["machine", "--from", "m.toml"]):
        assert main(words) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= width
    assert main(["verify", str(sample_kernel), "text"]) == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines() if line.startswith(("not", "    "))) <= width


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "words",
    [
        ["sites", "KERNEL"],
        ["ops", "KERNEL", "--backend", "kvm"],
        ["ops", "--era", "seed"],
        ["diff", "KERNEL", "native", "kvm"],
        ["disasm", "KERNEL", "sample_lock", "--backend", "native", "--backend", "kvm"],
        ["lock", "check", "--protocol", "pv-ticket"],
        ["lock", "simulate", "--protocol", "pv-ticket"],
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_lists_and_tables_fit_a_terminal_and_lose_nothing(
    words: list[str],
    width: int,
    sample_kernel: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(sample_kernel) if word == "KERNEL" else word for word in words]
    status = main(words)
    piped = capsys.readouterr().out
    assert max(map(len, piped.splitlines())) > width  # a row is a line where it is piped
    on_a_terminal(monkeypatch, width)
    assert main([*words, "--color", "never"]) == status
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    assert sorted(shown.split()) == sorted(piped.split())


def test_columns_without_room_stand_below_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("n", "name", "what"), ("7", "x" * 30, "a word " * 3), ("12", "y", "")]
    assert terminal.table(rows, right=[0])[1] == " 7  " + "x" * 30 + "  a word a word a word"
    on_a_terminal(monkeypatch, 40)
    assert terminal.table(rows, right=[0]) == [
        " n  name\n    what",
        " 7  " + "x" * 30 + "\n    a word a word a word",
        "12  y",
    ]
    assert list(terminal.folded(["label   " + "one two three " * 4])) == [
        "label   one two three one two three one",
        "        two three one two three",
    ]
    assert list(terminal.folded(["ab  " + "z" * 50])) == ["ab", "z" * 40, "z" * 10]
    assert list(terminal.folded(["    " + "z" * 38 + ":", " " * 60 + "z"])) == [" " + "z" * 38 + ":", " " * 39 + "z"]
    assert list(terminal.folded([" " * 8 + "z" * 45])) == ["z" * 40, "z" * 5]
    red = "\x1b[31m"
    assert list(terminal.folded([f"ab  {red}" + "z" * 50 + "\x1b[0m c"])) == [
        "ab",
        red + "z" * 40,
        "z" * 10 + "\x1b[0m c",
    ]


def test_an_option_of_several_values_may_be_given_twice(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--protocol", "pv-ticket", "--protocol", "ticket-2.6.25", "--vcpus", "2", "--vcpus", "3", "--csv"]
    assert main(["lock", "simulate", *words, "--duration", "0.01"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 * 2
