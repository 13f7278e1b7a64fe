"""What the words of a command alone tell is told before the kernel is opened."""

from __future__ import annotations

import pytest

from cli.run import pvops
from pvops.cli import main


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


def test_help_says_nothing_that_nobody_wrote() -> None:
    assert "None" not in pvops("--help").stdout.decode()
    assert "None" not in pvops("lock", "--help").stdout.decode()
