"""The ops of one kernel: names, numbers, and what its own ``pv_ops`` holds.

The image tells. BTF names every member of ``struct paravirt_patch_template`` where a kernel carries it; otherwise the
era whose table fits the image's own pointers is taken, and where none fits, types stay numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from pvops.errors import TableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.kernel import Kernel
    from pvops.ops.era import Era
    from pvops.ops.structs import Config, Template

#: Eras whose pv_ops is one structure and whose sites have a table of their own, newest first.
_ERAS = ("6.1", "5.10")

#: How many of an era's native pointers an image must hold for the era's names to be believed.
_AGREEMENT = 0.9


class Held:
    """What a slot of the image's own ``pv_ops`` holds: an address (0: NULL) and the function there, if named."""

    __slots__ = ("address", "symbol")

    def __init__(self, address: int, symbol: str | None) -> None:
        self.address = address
        self.symbol = symbol


class KernelOps:
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
    def _by_btf(self) -> list[str] | None:
        """The names by type as BTF has them; None where it does not, or not for every site's type."""
        btf = self.kernel.image.btf_members("paravirt_patch_template")
        if not btf:
            return None
        by_type = {offset // self.kernel.word: _full_name(path) for path, offset in btf}
        names = [by_type.get(type, f"type {type}") for type in range(max(by_type) + 1)]
        return names if len(names) > self._last_type else None

    @cached_property
    def _by_era(self) -> tuple[Era, Config, str] | None:
        """The era and configuration whose table fits, and how well; asked only where BTF does not answer."""
        if self._by_btf:
            for era, config, template in self._candidates():
                if [op.name for op in template] == self._by_btf:
                    return era, config, "the same names in the same order"
            return None
        best: tuple[int, Era, Config, Template] | None = None
        for era, config, template in self._candidates():
            agree = self._agreement(era, config, template)
            if agree >= _AGREEMENT * len(template) and (best is None or agree > best[0]):
                best = (agree, era, config, template)
        if best is None:
            return None
        agree, era, config, template = best
        return era, config, f"{agree} of {len(template)} pointers as its native ones"

    def _candidates(self) -> Iterator[tuple[Era, Config, Template]]:
        """Every table an image with sites of its own can have, as far as the eras know; usual ones first."""
        from pvops import ops

        for name in _ERAS:
            era = ops.era(name)
            seen = set()
            for config in era.possible_configs(self.kernel.bits):
                template = era.template(config)
                names = tuple(op.name for op in template)
                if len(names) > self._last_type and names not in seen:
                    seen.add(names)
                    yield era, config, template

    def _agreement(self, era: Era, config: Config, template: Template) -> int:
        """How many pointers of the image are an era's native ones; -1 where the image does not hold as many."""
        try:
            held = self._read(len(template))
        except TableError:
            return -1
        native = era.patch_template(config).pointers()
        return sum(self._holds(h, native[op.name]) for h, op in zip(held, template, strict=True))

    @cached_property
    def names(self) -> list[str]:
        """Op names by type; ``type N`` where nothing names it."""
        if self._by_btf:
            return self._by_btf
        if self._by_era:
            era, config, _ = self._by_era
            return [op.name for op in era.template(config)]
        return [f"type {type}" for type in range(self._last_type + 1)]

    @property
    def named_by(self) -> str:
        """What told the names."""
        if self._by_btf:
            return "BTF"
        if self._by_era:
            return f"era {self._by_era[0].name}, {self._by_era[2]}"
        return "nothing: no BTF, and no era's table fits"

    @property
    def era(self) -> Era | None:
        """The era whose table the names are, or None."""
        return self._by_era and self._by_era[0]

    @property
    def config(self) -> Config | None:
        """The configuration under which that era has this table, as far as the table tells; or None."""
        return self._by_era and self._by_era[1]

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
