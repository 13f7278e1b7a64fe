"""The page about guests says what happens: its blocks are run, one after the other, and what they print is compared."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from cli.run import pvops

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-guest.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_is_run_and_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    printed = ""
    kinds: list[str] = []
    for kind, text in BLOCK.findall(PAGE.read_text()):
        kinds.append(kind)
        if kind == "python":
            assert not printed, f"the page does not show {printed!r}"
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, str(PAGE), "exec"), names)
            printed = out.getvalue()
        elif kind == "text":
            assert printed == text
            printed = ""
        else:
            command, _, said = text.partition("\n")
            done = pvops(*shlex.split(command.removeprefix("$ pvops ")))
            assert done.returncode == 0, done.stderr.decode()
            assert done.stdout.decode() == said
    assert not printed
    assert kinds.count("python") >= 6
