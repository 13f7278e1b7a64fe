"""Real kernels, what they held in memory after booting, and goldens: the folder ``PVOPS_KERNELS``.

``kernels/vmlinuz-RELEASE``, ``boots/RELEASE~MODE.{json,facts,runs.xz}``, the same in ``boots-hypervisors`` of guests
that ran under hypervisors, and ``goldens/*.jsonl.xz``; any of them may be absent. Nothing of it is part of the project.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import struct
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest


def required() -> bool:
    """Whether a test that needs real kernels must run (``PVOPS_REQUIRE_KERNELS=1``)."""
    return os.environ.get("PVOPS_REQUIRE_KERNELS") == "1"


def root() -> Path | None:
    """The folder, or None where none is given."""
    name = os.environ.get("PVOPS_KERNELS", "")
    return Path(name) if name else None


def given(part: str) -> Path:
    """A file or folder below ``PVOPS_KERNELS`` (``kernels``, ``boots``, ``goldens``, ``kernels/vmlinuz-…``).

    Skips the test where it is absent, or fails it with ``PVOPS_REQUIRE_KERNELS=1``.
    """
    folder = root()
    if folder is not None and (folder / part).exists():
        return folder / part
    why = "PVOPS_KERNELS is not set" if folder is None else f"PVOPS_KERNELS={folder}"
    if required():
        pytest.fail(f"no {part}: {why}")
    pytest.skip(f"no {part}: {why}")


class Boot:
    """One boot: which kernel, on what machine, and what ``.text`` held afterwards.

    Attributes:
        name: ``6.1.0-56-amd64~kvm-max-smp2``.
        release: of the kernel, ``6.1.0-56-amd64``.
        hypervisor: first word of the mode: ``native``, ``kvm``, ``xenpv``.
        facts: path of the facts bundle, as ``--machine`` takes it.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name.removesuffix(".json")
        self.release, _, mode = self.name.partition("~")
        self.hypervisor = mode.partition("-")[0]
        self.facts = path.with_name(f"{self.name}.facts")
        self._path = path

    @cached_property
    def json(self) -> dict[str, Any]:
        """What the boot says about itself: ``text_sha256``, ``pv_ops``, ``x86_capability``, …"""
        found: dict[str, Any] = json.loads(self._path.read_text())
        return found

    @property
    def backend(self) -> str:
        """The backend that its hypervisor means."""
        return {"xenpv": "xen", "xenhvm": "xen-hvm", "xenpvh": "xen-hvm"}.get(self.hypervisor, self.hypervisor)

    def text_in_memory(self, text: bytes, address: int) -> bytes:
        """``.text`` after the boot, from ``.text`` as linked at an address; its digest is checked."""
        out = bytearray(text)
        runs = lzma.decompress(self._path.with_name(f"{self.name}.runs.xz").read_bytes())
        at = 0
        while at < len(runs):
            start, length = struct.unpack_from("<QI", runs, at)
            at += 12
            out[start - address : start - address + length] = runs[at : at + length]
            at += length
        assert hashlib.sha256(out).hexdigest() == self.json["text_sha256"], self.name
        return bytes(out)

    def __repr__(self) -> str:
        return f"<Boot {self.name}>"


def boots(*prefixes: str, folder: str = "boots") -> list[Boot]:
    """The boots whose names begin with one of these, or all; none where no folder is given. For parametrising::

    @pytest.mark.parametrize("boot", boots("5.10.", "6.1."), ids=lambda boot: boot.name)
    """
    below = root()
    paths = sorted((below / folder).glob("*.json")) if below is not None else []
    return [Boot(path) for path in paths if path.name.startswith(prefixes or "")]
