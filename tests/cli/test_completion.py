"""`pvops --completion`: scripts that the shells take, which complete what the grammar has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pvops.cli import main

COMPLETED = """\
{script}
complete_words() {{
    COMP_WORDS=("$@"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
    $(complete -p pvops | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    echo "${{COMPREPLY[*]}}"
}}
complete_words pvops ver
complete_words pvops lock ''
complete_words pvops explain --backend xen-
complete_words pvops verify --save
complete_words pvops lock check --protocol pv-ticket-s
complete_words pvops lock simulate --protocol pv-h
complete_words pvops explain image --machine intel-hasw
complete_words pvops explain image --machine guest.f
complete_words pvops diff image kv
complete_words pvops diff image kvm guest.f
"""


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["--completion", shell])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_bash_completes_commands_options_names_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "guest.facts").touch()
    text = COMPLETED.format(script=script("bash", capsys))
    done = subprocess.run(["bash", "--norc", "-c", text], text=True, capture_output=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "verify",
        "bench check simulate",
        "xen-hvm",
        "--save-machine",
        "pv-ticket-sym",
        "pv-hybrid",
        "intel-haswell",
        "guest.facts",
        "kvm",
        "guest.facts",
    ]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert "show a function as it runs" in text
    if path := shutil.which(shell):
        subprocess.run([path, "-n"], input=text, text=True, check=True)


def test_a_shell_that_is_not_known_is_told_which_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--completion", "rc"])
    assert ended.value.code == 2
    assert "no completion for rc: there are bash, zsh" in capsys.readouterr().err
