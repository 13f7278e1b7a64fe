"""A kernel's command line, cut and searched as the kernel does.

Sources: 6.1 lib/cmdline.c next_arg(), get_option(), lib/vsprintf.c simple_strtoull(), kernel/params.c parameq(),
arch/x86/lib/cmdline.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pvops.errors import wanted

#: (name, value or None).
Option = tuple[str, str | None]


def has(options: Sequence[Option], name: str) -> bool:
    """Whether an option is given, with or without a value; ``-`` and ``_`` are the same in names (parameq)."""
    name = _plain(name)
    return any(given.replace("-", "_") == name for given, _ in options)


def value(options: Sequence[Option], name: str) -> str | None:
    """The last value given to an option, or None."""
    name = _plain(name)
    return next((v for given, v in reversed(options) if given.replace("-", "_") == name), None)


def values(options: Sequence[Option], name: str) -> list[str]:
    """Every value given to an option, in order: an option that is given again is parsed again."""
    name = _plain(name)
    return [v for given, v in options if given.replace("-", "_") == name and v is not None]


def _plain(name: str) -> str:
    wanted(name, str, "an option's name")
    return name.replace("-", "_")


def found(cmdline: str, name: str) -> str | None:
    """The last value of an option as cmdline_find_option() of arch/x86/lib/cmdline.c finds it; "" where it has none.

    It knows neither quotes nor ``--``, and takes ``-`` and ``_`` for what they are.
    """
    words = [word for word in cmdline.split() if word == name or word.startswith(f"{name}=")]
    return words[-1].partition("=")[2] if words else None


def number(text: str) -> int | None:
    """The number that a text begins with, as simple_strtoull() reads it with base 0; None where it begins with none."""
    found = re.match(r"0[xX]([0-9a-fA-F]{1,16})|(0[0-7]{0,22})|([1-9][0-9]{0,19})", text)
    if found is None:
        return None
    hexadecimal, octal, decimal = found.groups()
    return int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)


def options(cmdline: str) -> Iterator[Option]:
    """The kernel's own options in order, up to ``--``: 6.1 lib/cmdline.c next_arg()."""
    args = cmdline.lstrip()
    while args:
        quoted = args[0] == '"'
        if quoted:
            args = args[1:]
        in_quote, equals, end = quoted, 0, len(args)
        for i, c in enumerate(args):
            if c.isspace() and not in_quote:
                end = i
                break
            if c == "=" and not equals:
                equals = i
            if c == '"':
                in_quote = not in_quote
        word, args = args[:end], args[end + 1 :].lstrip()
        name, value = (word[:equals], word[equals + 1 :]) if equals else (word, None)
        if value is not None and value.startswith('"'):
            value = value[1:].removesuffix('"')
        elif quoted:
            name, value = (name, value.removesuffix('"')) if value is not None else (name.removesuffix('"'), None)
        if name == "--" and value is None:
            return
        yield name, value
