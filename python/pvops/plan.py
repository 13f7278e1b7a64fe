"""Plans: what a kernel writes to its own text under a backend, write by write, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pvops import _core, nops
from pvops.errors import OpsError
from pvops.patching import core_rules, core_slot

if TYPE_CHECKING:
    from pvops.backends.backend import Backend, Slot
    from pvops.kernel import Kernel
    from pvops.machine import Machine
    from pvops.nops import NopChoice
    from pvops.ops.patching import PatchFunction
    from pvops.rules import ParavirtRules


#: Why a slot holds what it holds where no backend changed it.
NATIVE = "the image's own pv_ops holds it"


class Write(NamedTuple):
    """One write of one pass.

    Attributes:
        address: where, as linked.
        table: the pass's table, ``"paravirt"``.
        row: the row of that table that asks for it.
        bytes: what is written.
        used: how many of them the patch function used; the rest are nops.
        kind: ``inlined``, ``called``, ``jumped``, ``nopped``, ``moved`` (an identity function), ``trapped`` (ud2),
            ``bug-called`` or ``kept`` (the indirect call stays).
        reason: why, in words.
        source: where the kernel says so: version and file.
        op: the op whose site it is.
        function: what the op's slot holds; None for NULL.
    """

    address: int
    table: str
    row: int
    bytes: bytes
    used: int
    kind: str
    reason: str
    source: str
    op: str
    function: str | None


class Plan:
    """The ordered writes of one boot. Make one with `Kernel.plan`."""

    def __init__(
        self,
        kernel: Kernel,
        table: _core.ParavirtSites,
        backend: Backend,
        machine: Machine | None,
        rules: ParavirtRules | None,
    ) -> None:
        self.kernel = kernel
        self.backend = backend
        self.machine = machine
        self.rules, self.rules_from = (rules, "as asked") if rules else kernel.rules
        self.slots, self.patch_function, self._jumps = filled(kernel, backend, machine, self.rules)
        self.nops = self._nops()
        self._core = _core.Plan.paravirt(kernel.image, table, self._template(), self._core_rules())

    def _nops(self) -> NopChoice:
        if self.rules.era not in nops.BY_CPU:
            return nops.fixed(self.kernel.bits)
        machine = self.machine
        if machine is None or machine.vendor is None:
            return nops.NopChoice("p6", "assumed: no machine says which CPU; most since 2010 take these")
        vendor = {"GenuineIntel": "intel", "AuthenticAMD": "amd", "HygonGenuine": "hygon"}.get(
            machine.vendor, machine.vendor
        )
        family, model = machine.family or 0, machine.model or 0
        features = nops.features_of(vendor, family) | frozenset(machine.flags or ())
        return nops.choose(self.rules.era, self.kernel.bits, nops.Cpu(vendor, family, model, features))

    def _core_rules(self) -> _core.Rules:
        null_call = None
        if self.rules.null != "ud2" and any(not slot.address for slot in self.slots.values()):
            null_call = self._required(self.rules.null, "what a NULL op becomes a call to")
        call_clobbers = None
        if self.rules.clobbers:
            from pvops import ops

            call_clobbers = ops.era(self.rules.era).clobbers(self.kernel.bits)["CLBR_ANY"]
        return core_rules(
            self.rules, self.kernel.bits, self.nops.table, call_clobbers=call_clobbers, null_call=null_call
        )

    def _required(self, symbol: str, role: str) -> int:
        address = self.kernel.address_of(symbol)
        if address is None:
            raise OpsError(f"{self.kernel.name}: no symbol {symbol}, {role}", file=self.kernel.name)
        return address

    def _template(self) -> list[_core.Slot]:
        """The flat template: slot by slot, what it holds and what the patch function does with its type."""
        rules = self.rules
        nop = self.kernel.address_of(rules.nop)
        known = ((self.kernel.address_of(name), bits) for name, bits in rules.identities.items())
        identities = {address: f"ident{bits}" for address, bits in known if address}
        template = []
        for op in self.kernel.ops.names:
            address = self.slots[op].address or 0
            if not address:
                pointer = "null"
            elif address == nop:
                pointer = "nop"
            else:
                pointer = identities.get(address, "function")
            template.append(
                core_slot(
                    op,
                    pointer,
                    address,
                    jump=op in self._jumps,
                    patch=self.patch_function,
                    resolve=lambda symbol: self._required(symbol, "which the patch function names"),
                )
            )
        return template

    def __len__(self) -> int:
        return len(self._core)

    def __iter__(self) -> Iterator[Write]:
        return map(self._write, self._core.writes())

    def at(self, address: int) -> list[Write]:
        """The writes that touch an address, in order; the last one is what runs."""
        return [self._write(w) for w in self._core.writes(address)]

    def by_kind(self) -> list[tuple[str, int]]:
        """(kind, number of writes), most first."""
        return self._core.by_kind()

    def _write(self, write: tuple[int, str, int, bytes, str, str, int]) -> Write:
        address, table, row, code, kind, reason, used = write
        op = self._ops_by_row[row]
        source = self.rules.source
        if self.patch_function and kind == "inlined":
            source = self.patch_function.source
        return Write(address, table, row, code, used, kind, reason, source, op, self.slots[op].symbol)

    @cached_property
    def _ops_by_row(self) -> Sequence[str]:
        return [site.op for site in self.kernel.sites]

    def explain(self, address: int) -> str:
        """What a site becomes and why, as text."""
        from pvops.explain import explanation

        return explanation(self.kernel, [self], address).text()

    def apply(self) -> bytes:
        """``.text`` after the writes, in the buffer protocol's terms: ``numpy.frombuffer(plan.apply(), "u1")``."""
        return self._core.text()

    def image(self) -> bytes:
        """The whole unpacked image, an ELF file, after the writes."""
        return self._core.patched_bytes("elf")

    def save(self, path: str | os.PathLike[str], format: str = "elf") -> None:
        """Writes the patched image to a file, whole or not at all.

        Args:
            path: where.
            format: ``"elf"``, or ``"text"`` for the raw bytes of ``.text``.
        """
        self._core.save(os.fspath(path), format)


def filled(
    kernel: Kernel, backend: Backend, machine: Machine | None, rules: ParavirtRules
) -> tuple[Mapping[str, Slot], PatchFunction | None, frozenset[str]]:
    """What a backend puts into the slots of an image; the patch function, where it is more than the default rules;
    and the ops whose sites jump.

    Raises:
        OpsError: the backend does not fit this kernel.
    """
    from pvops import ops
    from pvops.backends.backend import Fill
    from pvops.backends.backend import Slot as Filled

    era = ops.era(rules.era)
    config = kernel.ops.config or era.default_config(kernel.bits)
    source = f"pv_ops at {kernel.ops.address:#x}"
    native = {op: Filled(op, held.symbol, held.address, NATIVE, source) for op, held in kernel.ops.native.items()}
    fill = Fill(rules.era, kernel.bits, config, kernel.ops.names, native, kernel, machine)
    slots = backend.fill(fill)
    native_patch = era.patch_function(config)
    inlines = native_patch is not None and backend.patcher(fill) == native_patch.name
    jumps = frozenset(op.name for op in era.template(config) if op.op.jump) if rules.jumps else frozenset()
    return slots, native_patch if inlines else None, jumps
