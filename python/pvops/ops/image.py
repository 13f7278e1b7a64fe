"""The ops of one image: names, numbers, and what its own ``pv_ops`` holds.

The image tells. BTF names every member of ``struct paravirt_patch_template`` where a kernel carries it; otherwise the
era whose table fits the image's own pointers is taken, and where none fits, types stay numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pvops.errors import TableError

if TYPE_CHECKING:
    from pvops.kernel import Kernel
    from pvops.ops.structs import Template

#: Eras whose pv_ops is one structure, newest first: those an image's ops can be of.
_ERAS = ("7.2", "6.12", "6.1", "5.10")

#: How many of an era's native pointers an image must hold for the era's names to be believed.
_AGREEMENT = 0.9


class Held(NamedTuple):
    """What a slot of the image's own ``pv_ops`` holds: an address (0: NULL) and the function there, if named."""

    address: int
    symbol: str | None


class ImageOps:
    """The ops of an opened kernel.

    Attributes:
        address: of ``pv_ops``, derived from the sites.
        kernel: whose they are.
    """

    def __init__(self, kernel: Kernel, address: int, types: Sequence[int]) -> None:
        self.kernel = kernel
        self.address = address
        self._last_type = max(types, default=-1)

    @cached_property
    def _named(self) -> tuple[list[str], str]:
        """The names by type, and what told."""
        btf = self.kernel.image.btf_members("paravirt_patch_template")
        if btf:
            by_type = {offset // self.kernel.word: _full_name(path) for path, offset in btf}
            if max(by_type) >= self._last_type:
                return [by_type.get(type, f"type {type}") for type in range(max(by_type) + 1)], "BTF"
        best = self._best_era()
        if best:
            template, era, agree = best
            return [op.name for op in template], f"era {era}, {agree} of {len(template)} pointers as its native ones"
        return [f"type {type}" for type in range(self._last_type + 1)], "nothing: no BTF, and no era's table fits"

    def _best_era(self) -> tuple[Template, str, int] | None:
        from pvops import ops

        best: tuple[float, Template, str, int] | None = None
        for name in _ERAS:
            era = ops.era(name)
            for config in era.image_configs(self.kernel.bits):
                template = era.template(config)
                if len(template) <= self._last_type:
                    continue
                native = era.native_pointers(config)
                held = self._read(len(template))
                agree = sum(self._holds(h, native[op.name]) for h, op in zip(held, template, strict=True))
                share = agree / len(template)
                if share >= _AGREEMENT and (best is None or share > best[0]):
                    best = (share, template, name, agree)
        return best and best[1:]

    @property
    def names(self) -> list[str]:
        """Op names by type; ``type N`` where nothing names it."""
        return self._named[0]

    @property
    def named_by(self) -> str:
        """What told the names."""
        return self._named[1]

    @cached_property
    def native(self) -> Mapping[str, Held]:
        """What the image's own ``pv_ops`` holds before any backend: its native backend.

        Raises:
            TableError: the image has no bytes there.
        """
        return dict(zip(self.names, self._read(len(self.names)), strict=True))

    def _read(self, count: int) -> list[Held]:
        held = []
        for type in range(count):
            address = self.kernel.read_word(self.address + type * self.kernel.word)
            if address is None:
                raise TableError(
                    f"{self.kernel.name}: pv_ops would lie at {self.address:#x}, where the image has no bytes",
                    file=self.kernel.name,
                    address=self.address,
                )
            held.append(Held(address, self.kernel.symbol_at(address) if address else None))
        return held

    def _holds(self, held: Held, function: str | None) -> bool:
        if function is None:
            return held.address == 0
        # One address may have several names: compare addresses where the names differ.
        return held.symbol == function or self.kernel.address_of(function) == held.address

    def __len__(self) -> int:
        return len(self.names)


def _full_name(path: str) -> str:
    """``irq.save_fl``, as BTF has it, by the structure's name: ``pv_irq_ops.save_fl``."""
    struct, _, member = path.partition(".")
    return f"pv_{struct}_ops.{member}" if member else path
