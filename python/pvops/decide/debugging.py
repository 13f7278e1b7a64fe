"""Which debug messages a boot prints: ``dyndbg=`` turns their keys on or off (lib/dynamic_debug.c, since 4.8 by keys).

Each ``pr_debug()`` has a ``struct _ddebug {modname, function, filename, format, lineno:18, class_id:6, flags:8, key}``;
``class_id`` since 6.1 (ca90fca7f7b5). A query names some of them: ``file drivers/usb/* +p; func acpi_init -p``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from pvops.image.uses import string_at
from pvops.machine.cmdline import options
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.decide.answers import Facts
    from pvops.image.kernel_image import KernelImage

_WORD = r"\"([^\"]*)\"?|'([^']*)'?|(\S+)"
_FLAGS = r"([-+=])([a-z_]*)$"
_KEYWORDS = ("func", "file", "module", "format", "line", "class")
#: ``_DPRINTK_CLASS_DFLT``: in no class.
_NO_CLASS = 63
#: Bytes that are read for a string, less where it stands near a section's end.
_SIZES = (64, 512, 16, 4)


class _Query(NamedTuple):
    """What ``ddebug_change()`` looks for, and whether those print then."""

    module: str | None
    function: str | None
    file: str | None
    format: str | None
    lines: tuple[int, int] | None
    prints: bool


class _Message(NamedTuple):
    module: str
    function: str
    file: str
    format: str
    line: int
    class_id: int


def printed(kernel: KernelImage, facts: Facts, keys: Iterable[int]) -> Mapping[int, bool]:
    """Key → whether its message is printed, for those that the command line asks about.

    Args:
        kernel: the kernel.
        facts: the machine.
        keys: all static keys.
    """
    queries = list(_queries(facts.machine.cmdline or ""))
    if not queries:
        return {}
    classes = facts.version >= (6, 1)
    found = {}
    for key in keys:
        message = _message(kernel, key, classes)
        if message is None:
            continue
        for query in queries:
            if _asked(query, message):
                found[key] = query.prints
    return found


def _queries(cmdline: str) -> Iterator[_Query]:
    """``ddebug_dyndbg_boot_param_cb()``, ``ddebug_exec_queries()``: those of ``dyndbg=`` and ``MODULE.dyndbg=``."""
    for name, value in options(cmdline):
        module, _, option = name.rpartition(".")
        if option != "dyndbg":
            continue
        for text in re.split(r"[;\n]", "+p" if value is None else value):
            query = _parsed(text, module or None)
            if query is not None:
                yield query


def _parsed(text: str, module: str | None) -> _Query | None:
    """``ddebug_exec_query()``; None where it refuses the query, or where that changes no printing."""
    words = [next(part for part in match.groups() if part is not None) for match in re.finditer(_WORD, text)]
    flags = re.match(_FLAGS, words[-1]) if words and not words[0].startswith("#") else None
    if flags is None or len(words) % 2 == 0 or (flags[1] != "=" and "p" not in flags[2]):
        return None
    asked = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
    if not asked.keys() <= frozenset(_KEYWORDS) or "class" in asked or (module and "module" in asked):
        return None
    file, _, place = asked.get("file", "").partition(":")
    function, lines = asked.get("func"), asked.get("line")
    if place and (place[0].isalpha() or place[0] in "*?"):
        function = place
    elif place:
        lines = place
    return _Query(
        module=asked.get("module", module),
        function=function,
        file=file or None,
        format=asked.get("format"),
        lines=_range(lines),
        prints=flags[1] != "-" and "p" in flags[2],
    )


def _range(lines: str | None) -> tuple[int, int] | None:
    """``parse_linerange()``: ``10``, ``10-``, ``-20``, ``10-20``; all where it is none of these."""
    match = re.fullmatch(r"(\d*)(-?)(\d*)", lines or "")
    if match is None or not lines:
        return None
    first = int(match[1] or 0)
    return (first, int(match[3] or 1 << 18)) if match[2] else (first, first)


def _asked(query: _Query, message: _Message) -> bool:
    """``ddebug_change()``."""
    if message.class_id != _NO_CLASS:
        return False
    names = (message.file, message.file.rpartition("/")[2])
    if query.file is not None and not any(_like(query.file, name) for name in names):
        return False
    if query.format is not None:
        anchored = query.format.startswith("^")
        if not (message.format.startswith(query.format[1:]) if anchored else query.format in message.format):
            return False
    return (
        (query.module is None or _like(query.module, message.module))
        and (query.function is None or _like(query.function, message.function))
        and (query.lines is None or query.lines[0] <= message.line <= query.lines[1])
    )


def _like(pattern: str, text: str) -> bool:
    """``match_wildcard()`` of lib/glob.c's kin: ``*`` is any text, ``?`` any character."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None


def _message(kernel: KernelImage, key: int, classes: bool) -> _Message | None:
    """The message whose key this is, by the four strings before it; None where there are none."""
    word = kernel.word
    # The line, the class and the flags take a word, with what aligns the key behind them.
    start = key - 5 * word
    strings = []
    for index in range(4):
        text = string_at(kernel, kernel.read_word(start + index * word), *_SIZES)
        if not text and index < 3:
            return None
        strings.append(text.decode("latin-1"))
    module, function, file, format_ = strings
    bits = int.from_bytes(kernel.image.read(start + 4 * word, 4) or b"", "little")
    if re.fullmatch(r"[\w.]+", function) is None or re.fullmatch(r"[\w./+-]+\.[chS]\w*", file) is None:
        return None
    return _Message(module, function, file, format_, bits & 0x3FFFF, bits >> 18 & 63 if classes else _NO_CLASS)
