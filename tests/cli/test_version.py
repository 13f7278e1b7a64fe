"""`--version`: one line for scripts; with -v what a report of a fault needs."""

from __future__ import annotations

from cli.run import pvops
from pvops import _core


def test_the_version_is_one_line_and_with_v_how_it_was_built() -> None:
    line = f"pvops {_core.__version__}"
    assert pvops("--version").stdout.decode() == f"{line}\n"
    for words in (("--version", "-v"), ("--verbose", "--version")):
        first, *facts = pvops(*words).stdout.decode().splitlines()
        assert first == line
        assert [fact.split()[0] for fact in facts] == ["core", "python", "extras", "at"]
        assert _core.__build__ in facts[0]
