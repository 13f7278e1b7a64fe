"""A banner that the image contradicts, and one newer than all that is known, are said by every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvops import sample
from pvops.cli import main
from pvops.eras import era
from pvops.errors import OpsError


def image(tmp_path: Path, release: str) -> str:
    """The path of a sample of 6.1 whose banner has another release, as long as its own."""
    built = sample.build("6.1").elf
    own = b"Linux version 6.1.0-pvops-sample "
    assert own in built
    path = tmp_path / "vmlinux"
    path.write_bytes(built.replace(own, f"Linux version {release}".ljust(len(own) - 1, "x").encode() + b" "))
    return str(path)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("9.1.0-", "9.1.0-xxxxxxxxxxxx, but the image has .parainstructions; rules and names of "),
        ("3.9.1-", "3.9.1-xxxxxxxxxxxx, but the image has "),
    ],
)
@pytest.mark.parametrize("command", [["sites"], ["explain", "sample_idle"]])
def test_it_is_said(
    command: list[str], release: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path, release)
    assert main([command[0], path, *command[1:]]) == 0
    told = capsys.readouterr().err
    assert f"{path}: release {said}" in told
    assert " are taken" in told


@pytest.mark.parametrize("command", [["sites"], ["explain", "sample_idle"]])
def test_a_release_before_all_known_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path, "2.4.20-")
    assert main([command[0], path, *command[1:]]) == 2
    assert capsys.readouterr().err == f"pvops: {path}: 2.4.20-xxxxxxxxxxx is not known: known are 2.6.20 and later\n"


def test_trouble_has_one_line_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = image(tmp_path, "9.1.0-")
    assert main(["explain", path, "nosuch"]) == 2
    assert capsys.readouterr().err == f"pvops: {path}: no symbol nosuch\n"
    assert main(["explain", path, "sample_idle"]) == 0
    assert " are taken" in capsys.readouterr().err


def test_a_release_newer_than_all_known_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(sample.build("7.2").elf.replace(b"Linux version 7.2", b"Linux version 9.1"))
    assert main(["sites", str(path)]) == 0
    said = "9.1.0-pvops-sample is newer than what was read, known are 2.6.20 to 7.3; rules and names of 7.2 are taken"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("release", ["6.1.0-", "6.2.16-", "5.19.0-"])
def test_the_era_beside_is_no_doubt(release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sites", image(tmp_path, release)]) == 0
    assert "are taken" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "covers"), [("6.2", "6.1"), ("4.15", "4.14"), ("6.1.0-57-amd64", "6.1"), ("2.6.29", "2.6.27")]
)
def test_the_era_of_a_release_is_suggested(asked: str, covers: str) -> None:
    with pytest.raises(OpsError, match=rf"^no era {asked} \(did you mean {covers}, which {asked} is of\?\)"):
        era(asked)


@pytest.mark.parametrize("asked", ["9.1", "2.4"])
def test_a_release_of_no_era_gets_none(asked: str) -> None:
    with pytest.raises(OpsError, match=rf"^no era {asked}"):
        era(asked)
