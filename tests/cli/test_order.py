"""Words and options of a command come in any order."""

from __future__ import annotations

import itertools

import pytest

from pvops.cli.grammar import parse

#: Words of a command, options with their values, and what comes of all of them.
LINES = [
    ("verify", ["kernel", "dump"], ["--json"], {"kernel": "kernel", "memory": ["dump"], "format_": "json"}),
    (
        "verify",
        ["kernel", "a", "b"],
        ["--allow=ftrace", "-v"],
        {"kernel": "kernel", "memory": ["a", "b"], "allow": ["ftrace"]},
    ),
    ("run", ["boot", "switch"], ["--era=seed", "--lazy"], {"guest": ["boot", "switch"], "era": ["seed"]}),
    ("explain", ["kernel", "place"], ["--backend=xen", "--json"], {"kernel": "kernel", "where": "place"}),
    ("diff", ["kernel", "a", "b"], ["--json", "--color=never"], {"kernel": "kernel", "a": "a", "b": "b"}),
]


@pytest.mark.parametrize(("command", "words", "options", "means"), LINES)
def test_words_may_stand_before_between_and_behind_options(
    command: str, words: list[str], options: list[str], means: dict[str, object]
) -> None:
    for places in itertools.permutations(range(len(words) + len(options)), len(options)):
        line = [*words]
        for place, option in sorted(zip(places, options, strict=True)):
            line.insert(place, option)
        args = parse([command, *line])
        assert {name: getattr(args, name) for name in means} == means, line


def test_what_no_command_knows_is_said_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["verify", "kernel", "--jsn", "dump"], ["explain", "kernel", "--json", "place", "more"]):
        with pytest.raises(SystemExit, match="2"):
            parse(line)
        assert "unknown argument" in capsys.readouterr().err
