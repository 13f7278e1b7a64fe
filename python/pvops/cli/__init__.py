"""The command line: ``pvops``, ``python -m pvops``.

Data goes to stdout, all else to stderr. Exit status: 0 as asked, 1 a difference or something unexplained found,
2 trouble, with one line on stderr saying what, where and why.

Every command lives in its own module and is imported when it is asked for: ``pvops --help`` loads none of them.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pvops.cli import streams

TROUBLE = 2
#: As shells say it: 128, and the number of SIGINT.
_INTERRUPTED = 130

#: How many objects a command makes between two searches for garbage. A kernel's rows and names stay until it ends:
#: with CPython's 700, an eighth of ``explain`` goes into searches that find nothing.
_OBJECTS = 50_000


def main(argv: list[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    import gc

    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    from pvops.cli import streams
    from pvops.cli.grammar import overview, parse

    with streams.checked() as stream:
        try:
            words = sys.argv[1:] if argv is None else argv
            if not words:
                print(overview())
                return stream.flushed(0)
            try:
                args = parse(words)
                args.words = words
            except SystemExit:  # help, the version or a usage error has been printed
                stream.flushed(0)
                raise
        except OSError as error:
            return _trouble(None, streams.error_of(error))
        return _run(args, stream)


def command() -> int:
    """As `main`, for a process that ends with it.

    An interrupt ends it at once, whatever it waits for or computes, as one that shells see: a loop of theirs ends too.
    """
    # `signal` is this and enumerations of its names, and takes a twentieth of the start to load.
    import _signal  # type: ignore[import-not-found]
    import gc

    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    status = main()
    # Python looks for garbage once more at its end, where the system takes all memory back anyway.
    gc.freeze()
    return status


def _run(args: argparse.Namespace, stream: streams.Stream) -> int:
    from pvops.cli import streams
    from pvops.errors import Error, UsageError

    try:
        from importlib import import_module

        from pvops.cli.output import apart, drop, release
        from pvops.progress import Waiting

        drop()
        apart(args)
        with Waiting(f"pvops {args.command.replace('_', ' ')}"):
            status: int = import_module(f"pvops.cli.{args.command}").run(args)
        status = stream.flushed(status)
        release()
        return status
    except Error as error:
        return _trouble(args, error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        return _trouble(args, streams.error_of(error))
    except UnicodeEncodeError as error:  # of an argument that is no path, which the core takes as text
        return _trouble(args, UsageError(f"{error.object}: is not text in UTF-8"))
    except OverflowError as error:  # of a number, which the core takes in so many bits
        about = next(iter(getattr(error, "__notes__", [])), "").removeprefix("while processing ")
        return _trouble(args, UsageError(f"a number is out of range{about and f': {about}'} ({error})"))
    except BaseException as error:
        from pvops._core import PanicException
        from pvops.errors import InternalError

        if not isinstance(error, PanicException):
            raise
        return _trouble(args, InternalError(f"a fault of pvops, please report it: {error}"))


def _trouble(args: argparse.Namespace | None, error: Exception) -> int:
    from pvops.cli.output import drop, note

    drop()
    note(str(error))
    if getattr(args, "format_", None) == "json":
        import contextlib

        from pvops.cli.output import error_document, print_json

        with contextlib.suppress(OSError):  # it is standard output that is the trouble, and that has been said
            print_json(error_document(error))
            sys.stdout.flush()
    return TROUBLE
