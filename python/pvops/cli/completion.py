"""`pvops --completion SHELL`: what a shell completes, made from the grammar by shtab (the extra `completion`)."""

from __future__ import annotations

import argparse

from pvops.errors import UsageError

#: What stands for the names of files in the grammar.
_FILES = frozenset({"FACTS", "FILE", "FILE.ko", "KERNEL", "MEMORY", "DUMP", "GUEST"})


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
    _say_more(parser, shtab.FILE)
    text: str = shtab.complete(parser, shell)
    return text


def _say_more(parser: argparse.ArgumentParser, files: object) -> None:
    """Names that the grammar does not list, because a command looks for them when it runs."""
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
                _say_more(command, files)
        elif option in named:
            action.choices = list(named[option])
        elif action.metavar in _FILES:
            setattr(action, "complete", files)  # noqa: B010 (what shtab looks for)
