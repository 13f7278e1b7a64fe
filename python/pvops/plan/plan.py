"""Plans: what a kernel writes to its own text at boot, write by write, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property

import pvops._core as _core
from pvops import display
from pvops.decide.boot import set_up
from pvops.errors import KernelBug, OpsError, wanted
from pvops.image.patched import refuse_patched
from pvops.image.places import Place
from pvops.plan.explained import Explained
from pvops.plan.writes import LONGEST, RawDifference, RawWrite, Undetermined, Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pvops.backends.backend import Backend, Slot
    from pvops.eras.nops import NopChoice
    from pvops.eras.rules import Rules
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine

#: No write touches the last address.
_LAST = (1 << 64) - 1
#: Where the kernel has each pass.
_SOURCES = {name: f"{file}: {function}" for name, _, file, function in _core.passes()}


class Plan:
    """The ordered writes of one boot, or those of them at some places. Make one with `Kernel.plan`.

    >>> plan = pvops.open("vmlinux-sample").plan("kvm", machine="intel-haswell")
    >>> plan
    <Plan of 6.1.0-pvops-sample under kvm on intel-haswell: 107 writes>
    >>> plan.by_pass()
    [('paravirt', 107)]
    >>> [write] = plan.at(0xffffffff81000453)
    >>> write.kind, write.function, write.source
    ('called', '__pv_queued_spin_lock_slowpath', 'arch/x86/kernel/paravirt.c: paravirt_patch()')
    >>> print(plan.explain("sample_idle+3"))
    ffffffff81000433  pv_irq_ops.irq_disable  type 31, 6 bytes, in sample_idle+0x3
      built         ff 15 3f fd 9f 00  call *pv_ops+0xf8(%rip)
      paravirt      e8 b8 fd ff ff 90  call pv_native_irq_disable; nop   <- runs
      ...
    >>> len(plan.apply())
    2016
    """

    def __init__(
        self,
        kernel: KernelImage,
        backend: Backend,
        machine: Machine | None,
        rules: Rules,
        places: Sequence[Place] | None = None,
    ) -> None:
        for place in places or ():
            wanted(place, Place, "a place as `Kernel.places` gives it")
        self.kernel = kernel
        self.backend = backend
        self.machine = machine
        self.rules = rules
        self.setup = set_up(kernel, backend, machine, rules)
        self.places = places
        # An instruction may begin before the place that lies in it.
        around = None if places is None else [(max(place.address - LONGEST, 0), place.end) for place in places]
        try:
            self._core = _core.Plan.boot(kernel.tables, self.setup.core, rules.passes, around)
        except KernelBug:
            refuse_patched(kernel)
            raise

    def __repr__(self) -> str:
        machine = "no machine" if self.machine is None else self.machine.name
        name = self.kernel.release or self.kernel.name
        return f"<Plan of {name} under {self.backend.name} on {machine}: {len(self)} writes>"

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")

    def __reduce__(self) -> tuple[object, ...]:
        from pvops import backends

        known = self.backend.name in backends.names()
        backend = self.backend.name if known else self.backend
        return _planned, (self.kernel, backend, self.machine, self.rules, self.places)

    def _whole(self, what: str) -> _core.Plan:
        """The core's plan, of which something is asked that a plan of some places does not know."""
        if self.places is not None:
            raise OpsError(f"{self.kernel.name}: a plan of some places {what}")
        return self._core

    @property
    def slots(self) -> Mapping[str, Slot]:
        """What each op holds under the backend, and why."""
        return self.setup.slots

    @property
    def nops(self) -> NopChoice:
        """The nop table, and why."""
        return self.setup.nops

    def __len__(self) -> int:
        return len(self._core)

    def __iter__(self) -> Iterator[Write]:
        return map(self._write, self._core.writes())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The writes for pyarrow, polars, duckdb: a stream of one batch, with the core's short reasons. Another schema
        than its own is not made."""
        return self._core.arrow()

    def raw(self, low: int = 0, high: int | None = None) -> list[RawWrite]:
        """Every write, or those that touch the addresses from ``low`` up to but not including ``high``, as the core has
        it: much faster to walk than the plan itself. `write` makes one a `Write`."""
        low, high = max(low, 0), None if high is None else min(high, _LAST)
        return self._core.writes(low, high) if low < (_LAST if high is None else high) else []

    def write(self, raw: RawWrite) -> Write:
        """A write of `raw` with its reason."""
        return self._write(raw)

    def op_of(self, raw: RawWrite) -> str | None:
        """The op whose call a write of `raw` changes, or None."""
        return self._op(raw[1], raw[2], raw[0])

    def at(self, address: int) -> list[Write]:
        """The writes that touch an address, in order, rows that change nothing among them."""
        return [self._write(w) for w in self.raw(address, address + 1)]

    def by_kind(self) -> list[tuple[str, int]]:
        """(kind, number of writes), most first."""
        return self._core.by_kind()

    def by_pass(self) -> list[tuple[str, int]]:
        """(table of the pass, number of writes that change something), in the order of the passes."""
        return self._core.by_pass()

    @cached_property
    def undetermined_bytes(self) -> _core.UndeterminedBytes:
        """The bytes that are a first guess, as the core has them."""
        words, otherwise = self.setup.words, self.setup.otherwise
        if otherwise is None or words is None:
            return self._core.undetermined(self.kernel.tables)
        unknown = [feature.name.number for feature in words.unknown()]
        other = (self.setup.core, otherwise(), self.rules.passes, unknown)
        return self._core.undetermined(self.kernel.tables, other)

    @property
    def undetermined(self) -> list[Undetermined]:
        """The bytes that are a first guess, by address: what depends on a static key or call, a constant, or a feature
        that the machine does not tell."""
        return [Undetermined.of(open_) for open_ in self.undetermined_bytes.sites()]

    def undetermined_at(self, low: int, high: int) -> list[Undetermined]:
        """Those that touch the addresses from ``low`` up to but not including ``high``."""
        return [Undetermined.of(open_) for open_ in self.undetermined_bytes.touching(low, high)]

    def differences(self, other: Plan) -> list[RawDifference]:
        """Where another plan of the kernel leaves other bytes, as the core has it, by address."""
        wanted(other, Plan, "a plan")
        why = "is compared with no other"
        return self._whole(why).differences(other._whole(why))

    def tables(self) -> list[str]:
        """The tables of all passes that have a row in the plan, in the order of their first."""
        return self._core.tables()

    def _write(self, write: RawWrite) -> Write:
        address, table, row, code, kind, reason, used, feature = write
        op = self._op(table, row, address)
        source = _SOURCES[table]
        if table == "paravirt" and self.rules.paravirt is not None:
            inlined = kind == "inlined" and self.setup.patch_function is not None
            source = (
                self.setup.patch_function.source
                if inlined and self.setup.patch_function
                else self.rules.paravirt.source
            )
        if feature is not None and self.setup.words is not None:
            reason = self._feature(*feature)
        function = self.slots[op].symbol if op is not None and op in self.slots else None
        return Write(address, table, row, code, used, kind, reason, source, op, function, feature and feature[0])

    def _feature(self, number: int, inverted: bool, present: bool) -> str:
        assert self.setup.words is not None
        feature = self.setup.words[number]
        state = "is set" if present else "is not set"
        taken = "taken" if present != inverted else "not taken"
        return f"{'!' if inverted else ''}X86_FEATURE_{feature.name.name}: {taken}, it {state} ({feature.source})"

    def _op(self, table: str, row: int, address: int) -> str | None:
        if table == "paravirt":
            return self._ops_by_row[row]
        if table == "alternatives" and self.rules.paravirt is None:
            from pvops.image.sites import direct_op

            found = direct_op(self.kernel, self.kernel.ops, address)
            return found[1] if found else None
        return None

    def key_of(self, table: str, row: int) -> int | None:
        """The address of the key that a row of ``jump_labels`` or ``static_calls`` names; None of other tables."""
        return self.kernel.tables.key(table, row)

    @cached_property
    def _ops_by_row(self) -> list[str]:
        names, paravirt = self.kernel.ops.names, self.kernel.paravirt
        rows = paravirt.rows() if paravirt is not None else []
        return [names[type] if type < len(names) else f"type {type}" for _, _, type, _, _, _ in rows]

    def explain(self, address: int | str) -> Explained:
        """What a place becomes and why, as text: an address, or what the command line takes (``"do_syscall_64+58"``).
        A notebook shows it as a table.

        Raises:
            ImageError: there is no such symbol, or the address lies outside the image.
            TableError: no code is there.
        """
        return Explained.of(self, address)

    def apply(self) -> bytes:
        """``.text`` after the writes, in the buffer protocol's terms: ``numpy.frombuffer(plan.apply(), "u1")``."""
        return self._whole("has no text").text()

    def image(self, format: str = "elf") -> bytes:
        """The whole unpacked image after the writes, an ELF file; ``format`` as that of [save][pvops.Plan.save]."""
        return self._whole("has no image").patched_bytes(format)

    def save(self, path: str | os.PathLike[str], format: str = "elf") -> None:
        """Writes the patched image to a file, whole or not at all.

        Args:
            path: where.
            format: ``"elf"``, ``"text"`` for the raw bytes of ``.text``, or ``"kcore"``, a core file as
                ``/proc/kcore`` is one, which perf takes.
        """
        self._whole("has no image").save(os.fspath(path), format)


def _planned(
    kernel: KernelImage, backend: Backend | str, machine: Machine | None, rules: Rules, places: Sequence[Place] | None
) -> Plan:
    """A plan from what crossed to another process: planning again takes less than carrying the writes."""
    from pvops import backends

    if isinstance(backend, str):
        backend = backends.get(backend, rules.era)
    return Plan(kernel, backend, machine, rules, places)
