"""A kernel in several packings: a bzImage, its payload alone, and the command that unpacks that."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from support.given import PAYLOAD_OFFSET, SETUP_SECTS, payload, unpacked

#: Codec → how a kernel build packs with it, and who unpacks. A build's level of zstd is 22, which takes minutes, and
#: unpacking costs about the same.
_PACK = {"lz4": ["lz4", "-l", "-9", "-c"], "zstd": ["zstd", "-q", "-9", "-c"]}
_UNPACK = {"xz": ["xz", "-dc"], "zstd": ["zstd", "-dcq"], "lz4": ["lz4", "-dcq"]}
_MAGIC = {b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}


class Packed(NamedTuple):
    """A packed kernel.

    Attributes:
        path: the bzImage.
        codec: ``xz``, ``zstd`` or ``lz4``.
        alone: its payload as a file, without the size behind it.
        unpack: the command that unpacks that to standard output.
        size: of what it unpacks to, in bytes.
    """

    path: Path
    codec: str
    alone: Path
    unpack: list[str]
    size: int


def as_it_is(path: Path, folder: Path) -> Packed:
    """A kernel as it was distributed."""
    packed = payload(path.read_bytes())
    codec = next((name for magic, name in _MAGIC.items() if packed.startswith(magic)), None)
    if codec is None:
        raise SystemExit(f"{path.name}: neither an xz, a zstd nor an lz4 kernel")
    return _packed(path, codec, packed[:-4], struct.unpack("<I", packed[-4:])[0], folder)


def repacked(path: Path, codec: str, folder: Path) -> Packed:
    """The same kernel with its payload packed by another codec."""
    image = bytearray(path.read_bytes())
    raw = unpacked(payload(bytes(image)))
    packed = subprocess.run(_PACK[codec], input=raw, stdout=subprocess.PIPE, check=True).stdout
    # A payload ends with the size of what it unpacks to. This one goes behind all that was there.
    start, length = (image[SETUP_SECTS] + 1) * 512, struct.pack("<I", len(raw))
    struct.pack_into("<II", image, PAYLOAD_OFFSET, len(image) - start, len(packed) + len(length))
    whole = folder / f"{path.name}-{codec}"
    whole.write_bytes(image + packed + length)
    return _packed(whole, codec, packed, len(raw), folder)


def _packed(path: Path, codec: str, packed: bytes, size: int, folder: Path) -> Packed:
    alone = folder / f"{path.name}.{codec}"
    alone.write_bytes(packed)
    return Packed(path, codec, alone, [*_UNPACK[codec], str(alone)], size)
