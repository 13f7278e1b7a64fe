"""`pvops --completion SHELL`: what a shell completes, made from the grammar by shtab (the extra `completion`)."""

from __future__ import annotations

import argparse

from pvops.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What stands for the names of files in the grammar, and for what has a name or is a file.
_FILES = frozenset({"FILE", "FILE.ko", "KERNEL", "MEMORY", "DUMP", "GUEST"})
_MACHINE, _SIDES = "FACTS", ("A", "B")

#: Functions of the shells that shtab writes scripts for: names first, and files.
_NAMES_OR_FILES = {
    "bash": """{function}() {{
  compgen -W "{names}" -- "$1"
  compgen -f -- "$1"
}}
""",
    "zsh": """{function}() {{
  _alternative 'names:name:({names})' 'files:file:_files'
}}
""",
    "fish": """function {function}
  printf '%s\\n' {names}
  __fish_complete_path (commandline -ct)
end
""",
}


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for one shell, of the parser of all commands.

    Raises:
        UsageError: shtab is not there, or knows no such shell.
    """
    try:
        import shtab
    except ImportError:
        raise UsageError("--completion needs shtab: the extra `completion`") from None
    if shell not in shtab.SUPPORTED_SHELLS:
        raise UsageError(f"no completion for {shell}: there are {', '.join(shtab.SUPPORTED_SHELLS)}")
    from pvops import backends
    from pvops.machine import cpus

    machines = ("baseline", *cpus.NAMES)
    machine, of_machines = _names_or_files("_pvops_machines", machines, shtab.FILE)
    side, of_sides = _names_or_files("_pvops_sides", (*backends.of_images(), *machines), shtab.FILE)
    _say_more(parser, dict.fromkeys(_FILES, shtab.FILE) | {_MACHINE: machine} | dict.fromkeys(_SIDES, side))
    text: str = shtab.complete(parser, shell, preamble=of_machines.get(shell, "") + of_sides.get(shell, ""))
    return text


def _names_or_files(
    function: str, names: Iterable[str], files: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, str]]:
    """What completes names and files, and by shell the function that it calls; a shell without one completes files."""
    written = {shell: text.format(function=function, names=" ".join(names)) for shell, text in _NAMES_OR_FILES.items()}
    called = {shell: f"({function})" if shell == "fish" else function for shell in written}
    return {**files, **called}, written


def _say_more(parser: argparse.ArgumentParser, completed: Mapping[str, object]) -> None:
    """Names that the grammar does not list, because a command looks for them when it runs.

    Args:
        parser: of a command, or of all.
        completed: what completes an argument, by what stands for it in the grammar.
    """
    from pvops import backends, eras
    from pvops.lock.check import protocols
    from pvops.lock.simulate import PROTOCOLS, SCHEDULERS

    named = {
        "--backend": backends.names(),
        "--era": eras.eras(),
        "--protocol": tuple(protocols()) if parser.prog.endswith("check") else PROTOCOLS,
        "--scheduler": SCHEDULERS,
    }
    for action in parser._actions:
        option = action.option_strings[-1] if action.option_strings else ""
        if isinstance(action, argparse._SubParsersAction):
            said = {choice.dest: choice.help for choice in action._choices_actions}
            for name, command in action.choices.items():
                command.description = said[name]  # what a shell shows beside the name
                _say_more(command, completed)
        elif option in named:
            action.choices = list(named[option])
        elif action.metavar in completed:
            setattr(action, "complete", completed[str(action.metavar)])  # noqa: B010 (what shtab looks for)
