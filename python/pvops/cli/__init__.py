"""The command line: ``pvops``, ``python -m pvops``.

Data goes to stdout, all else to stderr. Exit status: 0 as asked, 1 a difference or something unexplained found,
2 trouble, with one line on stderr saying what, where and why.

Every command lives in its own module and is imported when it is asked for: ``pvops --help`` loads none of them.
"""

from __future__ import annotations

import os
import sys

TROUBLE = 2


def main(argv: list[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    from pvops.cli.grammar import parse

    args = parse(sys.argv[1:] if argv is None else argv)
    from pvops.errors import Error

    try:
        from importlib import import_module

        status: int = import_module(f"pvops.cli.{args.command}").run(args)
        sys.stdout.flush()
        return status
    except Error as error:
        return _trouble(args, error)
    except BrokenPipeError:
        # The reader had enough (`pvops sites … | head`): nothing is wrong, and nothing more is to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        from pvops.errors import InputError

        return _trouble(args, InputError(f"{error.filename or 'output'}: {error.strerror or error}"))


def _trouble(args: object, error: Exception) -> int:
    print(f"pvops: {error}", file=sys.stderr)
    if getattr(args, "format_", None) == "json":
        from pvops.cli.output import error_document, print_json

        print_json(error_document(error))
    return TROUBLE
