"""One kernel generation: all that is known of it, in one record.

An era is a value made once in its own file (``v6_1.py``, …), from data in the words of that kernel's headers; most are
written as what differs from the era before (`Era.then`). What depends on the configuration is a method that takes a
`Config`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from pvops.eras.records import OFFSET, InfoStruct, Option, Record
from pvops.eras.structs import Config, OpsStruct
from pvops.eras.template import Array, PatchTemplate, Template, conditions
from pvops.errors import OpsError, nearest
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.declared import Declared
    from pvops.eras.nops import NopPolicy
    from pvops.eras.patching import PatchFunction
    from pvops.eras.rules import ParavirtRules, Passes
    from pvops.eras.shape import Shape

#: Licences that may use EXPORT_SYMBOL_GPL (license_is_gpl_compatible(), include/linux/license.h).
GPL_COMPATIBLE = ("GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL")


class Era(NamedTuple):
    """One kernel generation, which lasts from the release it is named after to the next era's.

    Attributes:
        name: its first release, ``2.6.33``.
        source: tree and files that it was read from.
        arrays: the ops arrays: one, and since 7.0 another for the locks.
        configs: the configuration symbols that matter to the ops.
        native: the structures as linked into the kernel, for a configuration.
        info: ``pv_info`` as linked, "bare hardware".
        offsets: the paravirt lines of asm-offsets.
        records: ``paravirt_patch_site``, ``alt_instr``.
        clobbers: the ``CLBR_*`` constants for 32 or 64 bits.
        native_patch: ``native_patch`` for a configuration; None where calls are all that is patched by this road.
        paravirt: how ``apply_paravirt()`` decides; None where there is none.
        passes: how the other passes decide: the first whose sign an image shows, else the last.
        nops: which nops text is filled with.
        numbers: the feature numbers of its headers, oldest release first.
        marks: what an image of it has (True) or has not (False): a symbol, or a section (``.parainstructions``). What
            a configuration may leave out is missed by no one: only what is there against the mark counts.
        backends: the hypervisors whose code it has, by `pvops.backends` name.
        sites: how its sites are written; None where it has no ``.parainstructions``.
        functions: functions that its passes call or look for, beside those of the structures.
        bits: pointer sizes it exists in.
        aliases: other names.
        release: what images of it that are made here say they are.
        unknown_symbol: what the module loader says behind ``Unknown symbol NAME``.
    """

    name: str
    source: str
    arrays: tuple[Array, ...]
    configs: tuple[Option, ...]
    native: Callable[[Config], tuple[OpsStruct, ...]]
    info: InfoStruct
    offsets: tuple[OFFSET, ...]
    records: tuple[Record, ...]
    clobbers: Callable[[int], dict[str, int]]
    native_patch: Callable[[Config], PatchFunction] | None
    paravirt: ParavirtRules | None
    passes: tuple[Passes, ...]
    nops: NopPolicy
    numbers: tuple[Declared, ...]
    marks: Mapping[str, bool]
    backends: tuple[str, ...]
    sites: Shape | None
    functions: tuple[str, ...] = ()
    bits: tuple[int, ...] = (32, 64)
    aliases: tuple[str, ...] = ()
    unknown_symbol: str = ""
    release: str = ""

    def then(self, name: str, source: str, *, began: Iterable[str] = (), ended: Iterable[str] = ()) -> Era:
        """The next era, as far as it is like this one; what differs is said by ``_replace`` on top.

        Args:
            name: its first release.
            source: tree and files that it was read from.
            began: marks that its images have, and those before had not.
            ended: marks that its images have no more.
        """
        marks = {**self.marks, **dict.fromkeys(began, True), **dict.fromkeys(ended, False)}
        release = name if name.startswith("2.6.") else f"{name}.0"
        return self._replace(name=name, source=source, marks=marks, aliases=(), release=release)

    @property
    def structs(self) -> tuple[type[OpsStruct], ...]:
        """All structures in template order, array after array."""
        return tuple(struct for array in self.arrays for struct in array.structs)

    # Configurations

    def default_config(self, bits: int | None = None, **settings: bool) -> Config:
        """The era's default configuration with some symbols set (True) or not (False).

        Args:
            bits: 32 or 64; the era's widest if None.
            settings: ``X86_PAE=True``.

        Raises:
            OpsError: for a symbol that does not matter to this era, or that cannot be set together with the others.
        """
        bits = self.bits[-1] if bits is None else bits
        defaults = {option.symbol: option.default[bits == 64] for option in self.configs}
        for symbol in settings:
            if symbol not in defaults:
                raise OpsError(f"CONFIG_{symbol} means nothing to the ops of {self.name}{nearest(symbol, defaults)}")
        return self._checked(bits, (s for s, on in (defaults | settings).items() if on))

    def usual_config(self, bits: int) -> Config:
        """The default configuration; one without any ops for a pointer size whose kernels have none in this era."""
        return self.default_config(bits) if bits in self.bits else Config(*(("X86_64",) if bits == 64 else ()))

    def config(self, bits: int, symbols: Iterable[str]) -> Config:
        """The configuration with exactly these symbols set, every class of ops configured in, and patches as usual.

        Raises:
            OpsError: as `default_config`.
        """
        settings = {o.symbol: o.default[bits == 64] if o.patch else not o.released for o in self.configs}
        settings.update((symbol, True) for symbol in symbols if symbol != "X86_64")
        return self.default_config(bits, **settings)

    def possible_configs(
        self, bits: int, *, unreleased: bool = False, has: Callable[[str], bool] | None = None
    ) -> Iterator[Config]:
        """Every configuration the era's options allow for a pointer size, the default one first.

        Args:
            bits: pointer size.
            unreleased: also those with a class of ops configured out.
            has: whether the image has a function, where it names its functions: so patches are told.
        """
        from itertools import product

        told = [option for option in self.configs if option.function and has is not None]
        always = [option.symbol for option in self.configs if not (option.released or unreleased)]
        always += [option.symbol for option in told if has is not None and has(option.function)]
        options = [o for o in self.configs if (o.released or unreleased) and o not in told]
        defaults = [option.default[bits == 64] for option in options]
        for flips in sorted(product((False, True), repeat=len(options)), key=sum):
            on = (*always, *(o.symbol for o, d, flip in zip(options, defaults, flips, strict=True) if d != flip))
            try:
                yield self._checked(bits, on)
            except OpsError:
                continue  # a symbol without what it depends on

    def patches(self, config: Config) -> tuple[str, ...]:
        """What a configuration has that is a patch of distributions or stable releases: names of its options."""
        return tuple(option.symbol for option in self.configs if option.patch and option.symbol in config.symbols)

    def read_config(self, text: str) -> Config:
        """The configuration that a kernel's ``.config`` file describes; what does not matter here is passed over."""
        on = {line.partition("=")[0].strip() for line in text.splitlines() if line.rstrip().endswith("=y")}
        bits = 64 if "CONFIG_X86_64" in on else 32
        return self.config(bits, (o.symbol for o in self.configs if f"CONFIG_{o.symbol}" in on))

    def _checked(self, bits: int, symbols: Iterable[str]) -> Config:
        if bits not in self.bits:
            raise OpsError(f"{self.name} is a {self.bits[0]}-bit era, not a {bits}-bit one")
        config = Config(*symbols, *(("X86_64",) if bits == 64 else ()))
        for option in self.configs:
            if option.symbol in config.symbols and not config.holds(option.depends):
                raise OpsError(f"CONFIG_{option.symbol} depends on {option.depends} in {self.name}")
        return config

    # Numbers

    def decides(self, config: Config) -> tuple[bool, ...]:
        """Which conditions of the structures hold: configurations of which the same do have the same templates."""
        return tuple(map(config.holds, conditions(self.arrays)))

    def templates(self, config: Config) -> tuple[Template, ...]:
        """The template of each ops array that this configuration has; the first is the main one."""
        return tuple(
            a.template(config, f"struct {a.struct} of {self.name}") for a in self.arrays if config.holds(a.config)
        )

    def template(self, config: Config, symbol: str | None = None) -> Template:
        """The template of the main array, or of the one whose variable is ``symbol`` (``pv_ops_lock``).

        Raises:
            OpsError: if this configuration has no such array.
        """
        templates = self.templates(config)
        if symbol is None:
            return templates[0]
        for template in templates:
            if template.symbol == symbol:
                return template
        raise OpsError(f"{self.name} has no ops array {symbol} in this configuration")

    def patch_template(self, config: Config, *structs: OpsStruct, symbol: str | None = None) -> PatchTemplate:
        """A template with these structures in it (see `PatchTemplate`), or with the native ones if none are given."""
        return PatchTemplate(self.template(config, symbol), *(structs or self.native(config)))

    def patch_function(self, config: Config) -> PatchFunction | None:
        """What the kernel patches with on bare hardware, ``native_patch``; None where alternatives do all of it."""
        return None if self.native_patch is None else self.native_patch(config)

    def asm_offsets(self, config: Config) -> dict[str, int]:
        """The paravirt constants of asm-offsets, in bytes. Those of ops that are configured out are absent."""
        template = self.template(config)
        info = type(self.info).offsets(config)
        out: dict[str, int] = {}
        for line in self.offsets:
            if not config.holds(line.config):
                continue
            if line.struct == "pv_info":
                out[line.symbol] = info[line.member]
            elif line.struct == self.arrays[0].struct:
                out[line.symbol] = template.offsetof(line.member)
            elif f"{line.struct}.{line.member}" in template:
                op = template.op(f"{line.struct}.{line.member}")
                out[line.symbol] = op.offset - template.struct_offsets[line.struct]
        return out

    def layout(self, config: Config) -> dict[str, int]:
        """Sizes and offsets in bytes of the patch records and the template, and ``CLBR_ANY`` where there is one."""
        out: dict[str, int] = {}
        for record in self.records:
            out |= record.layout(config.bits // 8)
        array = self.arrays[0]
        out[f"sizeof_{array.struct}"] = self.template(config).size
        clobbers = self.clobbers(config.bits)
        if "CLBR_ANY" in clobbers:
            out["CLBR_ANY"] = clobbers["CLBR_ANY"]
        return out

    # Words and modules

    def doc(self, op: str) -> str:
        """What an op does, in a few words; empty where this era's header has none (see `pvops.eras.doc`)."""
        struct, _, field = op.partition(".")
        for candidate in self.structs:
            if candidate.__name__ == struct and field in candidate.ops:
                return candidate.ops[field].doc
        raise OpsError(f"no op {op} in {self.name}")

    @property
    def exports(self) -> Mapping[str, str]:
        """Variables that modules can see, and by which macro: ``{"pv_irq_ops": "EXPORT_SYMBOL", …}``."""
        out = {struct.__name__: struct.export for struct in self.structs if struct.export}
        out |= {array.symbol: array.export for array in self.arrays if array.export}
        return out | ({type(self.info).__name__: self.info.export} if self.info.export else {})

    def symbol_for_module(self, symbol: str, *, license: str, module: str = "module") -> str:
        """Resolve a symbol for a module as the kernel's loader does.

        Args:
            symbol: the variable the module refers to.
            license: its ``MODULE_LICENSE``.
            module: its name, for the message.

        Returns:
            ``EXPORT_SYMBOL`` or ``EXPORT_SYMBOL_GPL``, whichever lets it in.

        Raises:
            OpsError: in the loader's words if the module may not see it: ``lg: Unknown symbol pv_info``.
        """
        export = self.exports.get(symbol)
        if export == "EXPORT_SYMBOL" or (export == "EXPORT_SYMBOL_GPL" and license in GPL_COMPATIBLE):
            return export
        said = f"{module}: Unknown symbol {symbol}"
        said += self.unknown_symbol
        if export is None:
            raise OpsError(f"{said}: not exported", reason=f"{symbol} is not exported to modules")
        raise OpsError(f"{said}: GPL only, and the licence is {license}", reason=f"{symbol} is exported GPL only")

    def __repr__(self) -> str:
        return f"<Era {self.name}>"
