"""The ops of one kernel: names, numbers, and what its own ``pv_ops`` holds.

The image tells. BTF names every member of ``struct paravirt_patch_template`` where a kernel carries it; otherwise the
era is taken whose table fits what the image's own slots hold: functions of these names, or, where the image names none,
functions that begin with the instructions that ``native_patch()`` inlines for them. Where no table fits, the functions
name single slots, and the other types stay numbers. A kernel without CONFIG_PARAVIRT has no ops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from pvops.errors import TableError
from pvops.image import functions, slots
from pvops.image import ops_variables as variables
from pvops.image.ops_arrays import OpsArray, SlotContent, full_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    import pvops._core as _core
    from pvops.eras.definition import Era
    from pvops.eras.structs import Config
    from pvops.eras.template import Template, TemplateOp
    from pvops.image.view import KernelView

#: How many of an era's native pointers an image must hold for the era's names to be believed, of those that can be
#: compared; and how many that must be.
_AGREEMENT = 0.9
_COMPARED = 5
#: So many pointers that are all an era's native ones leave no doubt.
_SURE = 40


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
        self._structures = variables.structures(kernel, likely)
        #: Type → the slot that its sites call through, where structures are named.
        self._through = slots.of_types(kernel) if self._structures else {}
        #: Slots by type, where each structure is a variable and the image names none.
        self._called: dict[int, int] = {}
        self.address = 0
        self._symbol, self._numbered = variables.kind(likely)
        if kernel.paravirt is not None:
            self._last_type = max((type for type, _ in kernel.paravirt.by_type()), default=-1)
            self.address = self._structures.get("pv_init_ops") or self._of_sites(kernel.paravirt)
        else:
            address = kernel.address_of("pv_ops")
            direct = [] if address is not None else slots.of_direct_calls(kernel)
            if direct:
                address = direct[0]
                self._last_type = (direct[-1] - direct[0]) // kernel.word
            self.address = address or 0

    def __reduce__(self) -> tuple[object, ...]:
        return KernelOps, (self.kernel, self._likely)

    def _of_sites(self, paravirt: _core.ParavirtSites) -> int:
        """The address that the sites agree on; where structures lie apart, that of the first called slot."""
        if self._numbered:
            self._called = slots.of_types(self.kernel)
            return self.kernel.address_of(self._symbol) or min(self._called.values(), default=0)
        try:
            return paravirt.ops_address()
        except TableError:
            found = slots.of_types(self.kernel) if variables.apart(self._likely) else {}
            if not slots.are_structures(found, self.kernel.word):
                raise
        self._called = found
        return min(found.values())

    def __repr__(self) -> str:
        where = f"{len(self.names)} at {self.address:#x}, named by {self.named_by}" if self.address else "none"
        return f"<Ops of {self.kernel.release or self.kernel.name}: {where}>"

    def require(self) -> None:
        """Raises `TableError` where the kernel has no ops."""
        if not self.address:
            why = "no .parainstructions and no symbol pv_ops: the kernel is built without CONFIG_PARAVIRT"
            raise TableError(f"{self.kernel.name}: {why}", reason=why, file=self.kernel.name)

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
        by_type = {offset // self.kernel.word: full_name(path) for path, offset in btf}
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
        best: tuple[int, int, Era, Config] | None = None
        for era, config, template in self._candidates() if self.address else ():
            if best is not None and best[2] is not era and best[0] == best[1] >= _SURE:
                break  # that era's own table, to the last pointer: eras further off have no better one
            agree, compared = self._agreement(era, config, template)
            fits = compared >= min(_COMPARED, len(template)) and agree >= _AGREEMENT * compared
            if fits and (best is None or agree > best[0]):
                best = (agree, compared, era, config)
        if best is None:
            return None
        agree, compared, era, config = best
        return era, config, f"{agree} of {compared} pointers as its native ones"

    def _candidates(self) -> Iterator[tuple[Era, Config, Template]]:
        """Every table an image with sites of its own can have, as far as the eras know; usual ones first."""
        from pvops import eras as ops

        # The era the kernel patches by is most likely the one whose table it has, then the eras beside it; up to 4.19
        # the structures' names make it certain.
        likely = self._likely()
        names: Sequence[str] = ops.eras()[::-1]
        apart = bool(self._structures or self._called)
        wanted = (self._symbol, True) if self._numbered else ("" if apart else self._symbol or "pv_ops", False)
        if likely is not None:
            place = names.index(likely)
            names = sorted(names, key=lambda name: abs(ops.eras()[::-1].index(name) - place))
        named = self.kernel.address_of
        has = (lambda function: named(function) is not None) if named("native_patch") is not None else None
        for name in names:
            era = ops.era(name)
            if (era.arrays[0].symbol, era.arrays[0].numbered) != wanted:
                continue
            seen = set()
            for config in era.possible_configs(self.kernel.bits, unreleased=bool(self._structures), has=has):
                if self._structures and not self._has_structures_of(era, config):
                    continue
                looks = era.decides(config)
                if looks in seen:
                    continue
                seen.add(looks)
                template = era.template(config)
                if apart and self._calls_otherwise(template):
                    continue
                if self._through and slots.differ(self._through, self._places(template), template):
                    continue
                if sum(map(len, era.templates(config))) > self._last_type:
                    yield era, config, template

    def _has_structures_of(self, era: Era, config: Config) -> bool:
        """Whether a configuration has the image's structures: much sooner told than its table is made.

        One that is in the template always and called under a condition (pv_lock_ops) need be no variable without it.
        """
        held = {s.__name__: config.holds(s.called) for s in era.structs if config.holds(s.config)}
        return {name for name, called in held.items() if called} <= self._structures.keys() <= held.keys()

    def _calls_otherwise(self, template: Template) -> bool:
        """Whether sites call what a configuration does not (locks without PARAVIRT_SPINLOCKS), or the opposite."""
        types = {type for type, _ in self.kernel.paravirt.by_type()} if self.kernel.paravirt else set()
        called = {op.struct for op in template if op.type in types}
        hangs = {s.__name__: template.config.holds(s.called) for s in template.structs if s.called}
        return any((name in called) != holds for name, holds in hangs.items())

    def _agreement(self, era: Era, config: Config, template: Template) -> tuple[int, int]:
        """How many pointers of the image are an era's native ones, of how many that can be compared."""
        places = self._places(template)
        native, apart = era.patch_template(config), bool(self._structures or self._called)
        # What the structures hold: the patcher does not see those that the kernel does not call.
        linked = native.pointers()
        patch = era.patch_function(config)
        inlined = {
            op: code for op, rule in (patch.switch if patch else {}).items() if (code := getattr(rule, "code", b""))
        }
        agree = compared = 0
        for op in template:
            place = places.get(op.name)
            if place is None or op.op.data:
                continue
            word = self.kernel.read_word(place)
            if word is None:
                return 0, 0
            function = native.structs[op.struct][op.field] if apart else linked[op.name]
            same = self._holds(word, function, inlined.get(op.name, b""))
            agree += bool(same)
            compared += same is not None
        return agree, compared

    def _holds(self, word: int, function: str | None, code: bytes) -> bool | None:
        """Whether a pointer is a function; None where neither its name nor its instructions tell."""
        if function is None or not word:
            return function is None and not word
        symbol = self.kernel.symbol_at(word)
        # One address may have several names: compare addresses where the names differ.
        if symbol is not None:
            return symbol == function or self.kernel.address_of(function) == word
        if code:
            saved = function.startswith("__raw_callee_save_")
            called = functions.behind_thunk(self.kernel, word) if saved else word
            return None if called is None else functions.begins_with(self.kernel, called, code)
        does = functions.NAMED.get(function)
        if does is None:
            return None
        # On i386 an argument is returned by doing nothing.
        return functions.does(self.kernel, word) == ("nop" if self.kernel.bits == 32 else does)

    @cached_property
    def names(self) -> list[str]:
        """Op names by type; ``type N`` where nothing names it."""
        if self._by_btf:
            return self._by_btf
        if self._by_era:
            era, config, _ = self._by_era
            locks = era.template(config, "pv_ops_lock") if self._lock_ops is not None else ()
            return [op.name for op in (*era.template(config), *locks)]
        return self._by_functions

    @cached_property
    def _by_functions(self) -> list[str]:
        """Names by the functions that slots hold, where no table fits; ``type N`` where a function tells no one op."""
        ops_of: dict[str, set[str]] = {}
        from pvops import eras

        for era in map(eras.era, eras.eras()) if self._last_type >= 0 else ():
            for bits in era.bits:
                for op, function in era.patch_template(era.default_config(bits)).pointers().items():
                    if function is not None and function not in functions.NAMED:
                        ops_of.setdefault(function, set()).add(op)
        names: list[str] = []
        for type in range(self._last_type + 1):
            place = self._called.get(type, 0) if self._called else self.address + type * self.kernel.word
            word = self.kernel.read_word(place) if place else None
            ops = ops_of.get((self.kernel.symbol_at(word) if word else None) or "", set())
            name = next(iter(ops)) if len(ops) == 1 else ""
            names.append(name if name and name not in names else f"type {type}")
        return names

    @property
    def unnamed(self) -> list[int]:
        """The types that sites call and nothing names."""
        types = sorted({type for type, _ in self.kernel.paravirt.by_type()}) if self.kernel.paravirt else []
        return [type for type in types if type >= len(self.names) or self.names[type] == f"type {type}"]

    @property
    def named_by(self) -> str:
        """Where the names are from."""
        if self._by_btf:
            return "BTF"
        if self._by_era:
            era, config, fits = self._by_era
            return f"era {' with '.join((era.name, *era.patches(config)))}, {fits}"
        if any(not name.startswith("type ") for name in self.names):
            return "the functions that its slots hold: no BTF, and no era's table fits"
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
    def native(self) -> Mapping[str, SlotContent]:
        """What the image's own ``pv_ops`` holds before any backend: its native backend.

        Raises:
            TableError: the image has no bytes there.
        """
        return {name: self._held(index) for index, name in enumerate(self.names)}

    def _held(self, index: int) -> SlotContent:
        place = self.slot(index)
        if not place and not self._by_era and self._called:
            return SlotContent(0, None)  # a type that no site has
        if not place and self._by_era:
            # A structure that nothing calls and the image does not name: it holds what the era's holds.
            era, config, _ = self._by_era
            struct, _, field = self.names[index].partition(".")
            function = era.patch_template(config).structs[struct][field]
            return SlotContent(self.kernel.address_of(function) or 0 if function else 0, function)
        address = self.kernel.read_word(place)
        if address is None:
            raise TableError(
                f"{self.kernel.name}: pv_ops would lie at {self.address:#x}, where the image has no bytes",
                file=self.kernel.name,
                address=self.address,
            )
        return SlotContent(address, self.kernel.symbol_at(address) if address else None)

    @cached_property
    def arrays(self) -> list[OpsArray]:
        """The arrays, in the order of `names`."""
        if not self.address:
            return []
        if self._symbol == "paravirt_ops":
            return [OpsArray(self._symbol, self._symbol, self.address, 0)]
        if (self._structures or self._called) and self._by_era:
            era, config, _ = self._by_era
            template = era.template(config)
            starts = self._starts(template)
            offsets = template.struct_offsets.items()
            places = ((name, starts[name], offset // self.kernel.word) for name, offset in offsets if name in starts)
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
        if not self.arrays:
            return "no ops: built without CONFIG_PARAVIRT"
        if len(self.arrays) > 2:
            return f"{len(self.arrays)} structures, {self.arrays[0].symbol} at {self.arrays[0].address:#x}"
        return ", ".join(f"{array.symbol} at {array.address:#x}" for array in self.arrays)

    def slot(self, index: int) -> int:
        """The address of the slot of an op, by its place in `names`; 0 where it has no site and nothing tells."""
        return self._slots[index]

    @cached_property
    def _slots(self) -> list[int]:
        if (self._structures or self._called) and self._by_era:
            era, config, _ = self._by_era
            template = era.template(config)
            places = self._places(template)
            return [places.get(op.name, 0) for op in template]
        if self._called:
            return [self._called.get(type, 0) for type in range(len(self.names))]
        arrays = [next(a for a in reversed(self.arrays) if a.first <= i) for i in range(len(self.names))]
        return [array.address + (i - array.first) * self.kernel.word for i, array in enumerate(arrays)]

    @cached_property
    def by_slot(self) -> Mapping[int, int]:
        """Address of a slot → its place in `names`."""
        return {place: index for index, place in enumerate(self._slots) if place}

    def _starts(self, template: Template) -> dict[str, int]:
        """Where each structure of a template would start; nothing where the sites contradict it."""
        if self._structures:
            return self._structures
        if not self._called:
            return {name: self.address + offset for name, offset in template.struct_offsets.items()}
        starts: dict[str, int] = {}
        for op in template:
            if op.type in self._called:
                start = self._called[op.type] - self._within(template, op)
                if starts.setdefault(op.struct, start) != start:
                    return {}
        return starts if self._called.keys() <= {op.type for op in template} else {}

    @staticmethod
    def _within(template: Template, op: TemplateOp) -> int:
        return op.offset - template.struct_offsets[op.struct]

    def _places(self, template: Template) -> dict[str, int]:
        """Where the slots of a template would lie, before the names are known: no image without BTF has two arrays."""
        if self._numbered:
            # A site of two calls (save_fl, irq_disable) has no slot of its own.
            own: dict[int, str] = {}
            for op in template:
                own.setdefault(self._called.get(op.type, 0), op.name)
            return {name: place for place, name in own.items() if place}
        starts = self._starts(template)
        return {op.name: starts[op.struct] + self._within(template, op) for op in template if op.struct in starts}

    def __len__(self) -> int:
        return len(self.names)
