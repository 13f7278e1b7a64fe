"""What a boot left in memory: ``.text``, as the files of a boot have it.

``NAME~MODE.text`` is all of it; ``.runs.xz`` is where it differs from the kernel's file: a sequence of ``u64 address,
u32 length, bytes``, little endian, compressed by xz. ``.json`` has the digest of all of it as ``text_sha256``.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import struct

from pvops.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.corpus.files import BootFiles

_HEAD = struct.Struct("<QI")
#: A document, or the runs of a boot, beyond this is none: so much memory is used at most.
_LARGEST = 1 << 28


def text_in_memory(boot: BootFiles, text: bytes, address: int) -> bytes:
    """``.text`` after a boot.

    Args:
        boot: its files.
        text: ``.text`` as built.
        address: where it is linked.

    Raises:
        InputError: a file is missing, cut, or says something about other bytes than ``.text``; the message names file,
            offset and reason.
    """
    whole = boot.beside(".text")
    if whole is not None:
        held = _read(whole)
        if len(held) != len(text):
            raise _wrong(whole, f"has {len(held)} bytes, and .text has {len(text)}")
    else:
        runs = boot.beside(".runs.xz")
        if runs is None:
            raise _wrong(boot.document, "beside it is neither .runs.xz nor .text")
        held = _replayed(runs, text, address)
    digest = _document(boot).get("text_sha256")
    if digest is not None and hashlib.sha256(held).hexdigest() != digest:
        raise _wrong(boot.document, "its text_sha256 is of other bytes: the boot is of another build of this kernel")
    return held


def _document(boot: BootFiles) -> dict[str, object]:
    try:
        found = json.loads(_read(boot.document))
    except ValueError as error:
        raise _wrong(boot.document, f"is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise _wrong(boot.document, "is no JSON object")
    return found


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            held = file.read(_LARGEST + 1)
    except OSError as error:
        raise _wrong(path, str(error.strerror)) from None
    if len(held) > _LARGEST:
        raise _wrong(path, f"has more than {_LARGEST} bytes")
    return held


def _replayed(path: str, text: bytes, address: int) -> bytes:
    unpack = lzma.LZMADecompressor(memlimit=_LARGEST)
    try:
        runs = unpack.decompress(_read(path), max_length=_LARGEST)
    except lzma.LZMAError as error:
        raise _wrong(path, f"is no xz: {error}") from None
    if not unpack.eof:
        raise _wrong(path, f"is cut, or more than {_LARGEST} bytes unpacked")
    held, at = bytearray(text), 0
    while at < len(runs):
        if at + _HEAD.size > len(runs):
            raise _wrong(path, "the last run is cut", at)
        start, length = _HEAD.unpack_from(runs, at)
        bytes_ = runs[at + _HEAD.size : at + _HEAD.size + length]
        low = start - address
        if len(bytes_) < length or not 0 <= low <= len(held) - length:
            raise _wrong(path, f"a run of {length} bytes at {start:#x} is cut, or lies outside .text", at)
        held[low : low + length] = bytes_
        at += _HEAD.size + length
    return bytes(held)


def _wrong(path: str, reason: str, offset: int | None = None) -> InputError:
    where = "" if offset is None else f"offset {offset:#x} of what it unpacks to: "
    return InputError(f"{path}: {where}{reason}", reason=reason, file=path, offset=offset)
