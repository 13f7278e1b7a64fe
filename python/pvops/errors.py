"""The one hierarchy of errors, shared by Python and the Rust core.

Every error says what, where and why: ``str(error)`` is one line, and the parts of the place are attributes, so that a
program need not parse the message.

>>> issubclass(pvops.errors.ImageError, pvops.Error)
True
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import UnionType


class Error(Exception):
    """Base of all errors of this package.

    >>> try:
    ...     pvops.open("vmlinux-sample").sites_of("sample_lok")
    ... except pvops.Error as error:
    ...     print(error.file, "-", error.reason)
    vmlinux-sample - no symbol sample_lok (did you mean sample_lock?)

    Attributes:
        reason: why, in words, without the place.
        file: the input as the user named it, or None.
        section: ELF section or part of the container, or None.
        row: index of the row in that section's table, or None.
        address: address in the kernel as linked, or None.
        offset: offset in bytes in the file (in the unpacked image where there is one), or None.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        file: str | None = None,
        section: str | None = None,
        row: int | None = None,
        address: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason
        self.file = file
        self.section = section
        self.row = row
        self.address = address
        self.offset = offset


class InputError(Error):
    """A file could not be read or written."""


class ImageError(Error):
    """The image cannot be opened: container, compression, ELF, or what is embedded in it (symbols, BTF, config)."""


class TableError(Error):
    """A table of sites in the image is malformed, or its rows disagree."""


class OpsError(Error):
    """Ops, templates, backends or rules that make no sense: misspelt, missing, unknown or contradictory."""


class DumpError(Error):
    """A memory dump cannot be read, or does not hold the kernel asked for."""


class KernelBug(Error):
    """The kernel itself would have stopped here: a ``BUG()`` in its patching code."""


class AssemblyError(Error):
    """A guest that cannot be assembled: an undefined label, an operand that no instruction takes, a branch too far."""


class MachineError(Error):
    """The description of a machine (a facts bundle, TOML or JSON) is malformed or incomplete."""


class ExecutionError(Error):
    """This machine does not let code that was made here run, or cannot run it."""


class UsageError(Error):
    """A command line that the command does not take."""


class RunError(Error):
    """A guest cannot be run: no emulator, no such guest, or one that is not made to run under this backend."""


class LockError(Error):
    """What was asked of a lock, of its checker or of its simulator makes no sense."""


class InternalError(Error):
    """A fault of this package, not of its input; please report it."""


def wanted(value: object, kind: type | UnionType, what: str) -> None:
    """Refuses a value of another type: what is wanted comes first, ``a backend's name``.

    Raises:
        TypeError: it is of another type.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{what} is wanted, not {type(value).__name__}")


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean …?)`` for a message, or nothing if no known name is like this one; case does not matter."""
    import difflib

    wanted(name, str, "a name")
    # The dashes of options are no likeness.
    by_case = {one.casefold().lstrip("-"): one for one in known}
    near = difflib.get_close_matches(name.casefold().lstrip("-"), by_case, n=1)
    return f" (did you mean {by_case[near[0]]}?)" if near else ""


def there_are(name: str, known: Iterable[str]) -> str:
    """`` (there are …)`` for a message about an unknown name; with `nearest` before it, where one is like it."""
    names = list(known)
    near = nearest(name, names).removesuffix(")")
    return f"{near} There are {', '.join(names)})" if near else f" (there are {', '.join(names)})"
