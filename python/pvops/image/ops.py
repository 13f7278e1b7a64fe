"""The ops of one kernel: names, numbers, and what its own ``pv_ops`` holds.

The image tells. BTF names every member of ``struct paravirt_patch_template`` where a kernel carries it; otherwise the
era whose table fits the image's own pointers is taken, and where none fits, types stay numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from pvops.errors import TableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pvops.eras.definition import Era
    from pvops.eras.structs import Config
    from pvops.eras.template import Template
    from pvops.image.view import KernelView

#: How many of an era's native pointers an image must hold for the era's names to be believed.
_AGREEMENT = 0.9


class Held:
    """What a slot of the image's own ``pv_ops`` holds: an address (0: NULL) and the function there, if named."""

    __slots__ = ("address", "symbol")

    def __init__(self, address: int, symbol: str | None) -> None:
        self.address = address
        self.symbol = symbol


class OpsArray:
    """One array of ops in an image: ``pv_ops``, and since 7.0 ``pv_ops_lock`` beside it; in 2.6 each structure."""

    __slots__ = ("address", "first", "structure", "symbol")

    def __init__(self, symbol: str, structure: str, address: int, first: int) -> None:
        self.symbol = symbol
        self.structure = structure
        self.address = address
        self.first = first


class KernelOps:
    """The ops of an opened kernel.

    Attributes:
        address: of ``pv_ops``: derived from the sites where they have a table of their own, else the symbol's; in 2.6
            of the first structure.
        kernel: whose they are.

    Args:
        kernel: the image.
        likely: gives the era whose rules it has, or None: the era whose table it most likely has.
    """

    def __init__(self, kernel: KernelView, likely: Callable[[], str | None]) -> None:
        self.kernel = kernel
        self._likely = likely
        self._last_type = -1
        #: Addresses of the structures by name, where each is a variable of its own.
        self._structures = _structures(kernel, likely)
        if kernel.paravirt is not None:
            self.address = self._structures.get("pv_init_ops") or kernel.paravirt.ops_address()
            self._last_type = max((type for type, _ in kernel.paravirt.by_type()), default=-1)
        else:
            address = kernel.address_of("pv_ops")
            if address is None:
                why = "no .parainstructions and no symbol pv_ops: the kernel is built without CONFIG_PARAVIRT"
                raise TableError(f"{kernel.name}: {why}", reason=why, file=kernel.name)
            self.address = address

    @cached_property
    def _lock_ops(self) -> int | None:
        """The address of ``pv_ops_lock``, which came after ``.parainstructions`` went: else none is looked up."""
        return None if self.kernel.paravirt is not None else self.kernel.address_of("pv_ops_lock")

    @cached_property
    def _by_btf(self) -> list[str] | None:
        """The names by type as BTF has them; None where it does not, or not for every site's type."""
        btf = self.kernel.image.btf_members("paravirt_patch_template")
        if not btf:
            return None
        by_type = {offset // self.kernel.word: _full_name(path) for path, offset in btf}
        names = [by_type.get(type, f"type {type}") for type in range(max(by_type) + 1)]
        if self._lock_ops is not None:
            lock = self.kernel.image.btf_members("pv_lock_ops") or []
            names += [f"pv_lock_ops.{path}" for path, _ in lock]
        return names if len(names) > self._last_type else None

    @cached_property
    def _by_era(self) -> tuple[Era, Config, str] | None:
        """The era and configuration whose table fits, and how well; asked only where BTF does not answer."""
        if self._by_btf:
            for era, config, _ in self._candidates():
                if [op.name for t in era.templates(config) for op in t] == self._by_btf:
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
        from pvops import eras as ops

        # The era the kernel patches by is most likely the one whose table it has, then the eras beside it; up to 4.19
        # the structures' names make it certain.
        likely = self._likely()
        names: Sequence[str] = ops.eras()[::-1]
        if self._structures:
            names = [likely] if likely is not None else []
        elif likely is not None:
            place = names.index(likely)
            names = sorted(names, key=lambda name: abs(ops.eras()[::-1].index(name) - place))
        for name in names:
            era = ops.era(name)
            if era.arrays[0].symbol != ("" if self._structures else "pv_ops"):
                continue
            seen = set()
            for config in era.possible_configs(self.kernel.bits):
                if self._structures and not self._has_structures_of(era, config):
                    continue
                template = era.template(config)
                if self._structures and self._calls_uncalled(template):
                    continue
                names = tuple(op.name for t in era.templates(config) for op in t)
                if len(names) > self._last_type and names not in seen:
                    seen.add(names)
                    yield era, config, template

    def _has_structures_of(self, era: Era, config: Config) -> bool:
        """Whether a configuration has the image's structures: much sooner told than its table is made."""
        return self._structures.keys() == {s.__name__ for s in era.structs if config.holds(s.config)}

    def _calls_uncalled(self, template: Template) -> bool:
        """Whether sites call what a configuration does not (pv_lock_ops without PARAVIRT_SPINLOCKS)."""
        uncalled = {s.__name__ for s in template.structs if not template.config.holds(s.called)}
        types = {type for type, _ in self.kernel.paravirt.by_type()} if self.kernel.paravirt else set()
        return any(op.type in types for op in template if op.struct in uncalled)

    def _agreement(self, era: Era, config: Config, template: Template) -> int:
        """How many pointers of the image are an era's native ones; -1 where the image does not hold as many."""
        try:
            held = self._read(self._slots(template))
        except TableError:
            return -1
        native = era.patch_template(config)
        if self._structures:
            # What the structures hold: the patcher does not see those that the kernel does not call.
            linked = [native.structs[op.struct][op.field] for op in template]
        else:
            linked = list(native.pointers().values())
        return sum(map(self._holds, held, linked))

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
        return self._by_era[0] if self._by_era else None

    @property
    def config(self) -> Config | None:
        """The configuration under which that era has this table, as far as the table tells; or None."""
        return self._by_era[1] if self._by_era else None

    @cached_property
    def native(self) -> Mapping[str, Held]:
        """What the image's own ``pv_ops`` holds before any backend: its native backend.

        Raises:
            TableError: the image has no bytes there.
        """
        return dict(zip(self.names, self._read(map(self.slot, range(len(self.names)))), strict=True))

    @cached_property
    def arrays(self) -> list[OpsArray]:
        """The arrays, in the order of `names`."""
        if self._structures and self._by_era:
            era, config, _ = self._by_era
            offsets = era.template(config).struct_offsets
            places = ((name, self._structures[name], offset // self.kernel.word) for name, offset in offsets.items())
            return [OpsArray(name, name, address, first) for name, address, first in places]
        arrays = [OpsArray("pv_ops", "paravirt_patch_template", self.address, 0)]
        lock = self._lock_ops
        if lock is not None:
            first = next((i for i, name in enumerate(self.names) if name.startswith("pv_lock_ops.")), len(self.names))
            arrays.append(OpsArray("pv_ops_lock", "pv_lock_ops", lock, first))
        return arrays

    @property
    def where(self) -> str:
        """Where the ops lie, in words: each array, or the first of many structures."""
        if len(self.arrays) > 2:
            return f"{len(self.arrays)} structures, {self.arrays[0].symbol} at {self.arrays[0].address:#x}"
        return ", ".join(f"{array.symbol} at {array.address:#x}" for array in self.arrays)

    def slot(self, index: int) -> int:
        """The address of the slot of an op, by its place in `names`."""
        array = next(array for array in reversed(self.arrays) if array.first <= index)
        return array.address + (index - array.first) * self.kernel.word

    @cached_property
    def by_slot(self) -> Mapping[int, int]:
        """Address of a slot → its place in `names`."""
        return {self.slot(index): index for index in range(len(self.names))}

    def _slots(self, template: Template) -> Iterator[int]:
        """Where the slots of a template would lie, before the names are known: no image without BTF has two arrays."""
        for op in template:
            start = self._structures.get(op.struct)
            if start is None:
                yield self.address + op.offset
            else:
                yield start + op.offset - template.struct_offsets[op.struct]

    def _read(self, slots: Iterable[int]) -> list[Held]:
        held = []
        for at in slots:
            address = self.kernel.read_word(at)
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


def _structures(kernel: KernelView, likely: Callable[[], str | None]) -> dict[str, int]:
    """The addresses of the ops structures of a kernel before 4.20, by name; nothing of later ones."""
    release = kernel.release or ""
    if release[:1].isdigit() and not release.startswith(("2.", "3.", "4.")):
        # The rules would say so too, but importing them takes as long as listing the sites.
        return {}
    from pvops import eras as ops

    name = likely()
    era = None if name is None else ops.era(name)
    if era is None or era.arrays[0].symbol:
        return {}
    found = ((struct.__name__, kernel.address_of(struct.__name__)) for struct in era.structs)
    return {name: address for name, address in found if address is not None}


def _full_name(path: str) -> str:
    """``irq.save_fl``, as BTF has it, by the structure's name: ``pv_irq_ops.save_fl``."""
    struct, _, member = path.partition(".")
    return f"pv_{struct}_ops.{member}" if member else path
