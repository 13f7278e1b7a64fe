"""A backend: how the init code of one hypervisor fills ``pv_ops``, as data.

The native slots stand in the image (the static contents of ``pv_ops``). A backend changes some, in the order in which
its init code does: it copies a structure whole from a static table of its own, which stands in the image too and is
read there (`Copy`), or assigns a function under conditions (`Assign`). What holds when ``alternative_instructions()``
runs is what call sites are patched to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvops.backends.conditions import Condition, Verdict, always
from pvops.eras import eras
from pvops.eras.structs import Config, Unchanging
from pvops.errors import OpsError
from pvops.tuples import NamedTuple
from pvops.types_only import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction
    from pvops.machine.machine import Machine


class ImageView(Protocol):
    """What a backend needs of an opened image; addresses as linked, words of ``word`` bytes."""

    @property
    def bits(self) -> int:
        """Pointer size in bits."""

    @property
    def word(self) -> int:
        """Pointer size in bytes."""

    def address_of(self, symbol: str) -> int | None:
        """Address of a symbol, or None if the image has none of that name."""

    def symbol_at(self, address: int) -> str | None:
        """Name of the function that starts exactly here, or None."""

    def read_word(self, address: int) -> int | None:
        """The pointer-sized word that the file holds at an address, or None where it holds nothing."""

    def find_words(self, words: Mapping[int, int]) -> int | None:
        """Where data have most of these words, by offset in bytes; None where nowhere, or at several places."""


class Slot(NamedTuple):
    """What one op points to.

    Attributes:
        op: its full name, ``pv_irq_ops.irq_enable``.
        symbol: the function, or None for NULL (or where the address has no name).
        address: the function's address as linked; None or 0 is NULL.
        why: one sentence.
        source: kernel file, function and version; for the native slots, where in the image.
        assumed: whether it hangs on what the machine does not tell.
    """

    op: str
    symbol: str | None
    address: int | None
    why: str
    source: str
    assumed: bool = False

    def __repr__(self) -> str:
        where = f" at {self.address:#x}" if self.address else ""
        return f"<{self.op} = {self.symbol or ('' if where else 'NULL')}{where}>"


class Fill(NamedTuple):
    """What a backend is asked to fill.

    Attributes:
        era: whose init code ran: "5.10".
        bits: 32 or 64.
        config: configuration symbols known to be set; may be partial.
        ops: full op names in template order.
        native: the static contents of ``pv_ops`` by op, every op of ``ops``.
        image: symbols and static data.
        machine: None for a usual guest, whose properties are then assumed.
        otherwise: whether what the machine does not tell is taken the other way.
    """

    era: str
    bits: int
    config: Config
    ops: Sequence[str]
    native: Mapping[str, Slot]
    image: ImageView
    machine: Machine | None = None
    otherwise: bool = False


class Assign(NamedTuple):
    """``pv_ops.OP = FUNCTION`` under a condition; skipped where the kernel has no such op.

    Attributes:
        op: full name.
        symbol: the function, or several names that it had, separated by ``|``; the first that the image has counts.
        when: the condition.
        source: file and function.
        config: the ``#ifdef`` around it. Only where this is not known to hold may the function be missing.
        beside: a function below the same ``#ifdef CONFIG_SMP``: a kernel for one CPU without it is without this.
    """

    op: str
    symbol: str
    when: Condition = always
    source: str = ""
    config: str = ""
    beside: str = ""


class Copy(NamedTuple):
    """``pv_ops.STRUCT = TABLE``: all ops of one structure, NULL included, from a static table in the image.

    Attributes:
        struct: ``pv_cpu_ops``.
        table: the table's symbol.
        source: file and function.
        whole: the table has the type of ``pv_ops`` (6.1), so that an op stands where it does there; or that of the
            structure (5.10).
        when: the condition.
        otherwise: field → function for images without the table's symbol: the compiler makes instructions of a small
            table, and may leave a large one unnamed. What is not in it is NULL, or replaced by a later step; so is what
            ends in ``|`` where the image has no such function.
    """

    struct: str
    table: str
    source: str
    whole: bool
    when: Condition = always
    otherwise: Mapping[str, str] | None = None


Step = Assign | Copy


class Backend(Unchanging):
    """One backend.

    >>> pvops.backends.kvm, pvops.backends.get("xen-hvm").title
    (<Backend kvm>, 'Xen HVM guest support')

    Args:
        name: as on the command line.
        title: as people call it: "Xen PV".
        hypervisor: which `Machine.hypervisor` it is for.
        eras: era → steps, in the order of the kernel's code; they hold for the eras after it too, up to the next one
            that is named. None: it is gone.
        needs: a symbol without which the kernel was built without this backend, or several separated by ``|``.
        detected: condition for its init code to run at all.
    """

    name: str
    title: str
    hypervisor: str
    eras: Mapping[str, Sequence[Step] | None]
    needs: str
    detected: Condition

    _renewed = "Backend"

    def __init__(
        self,
        name: str,
        title: str,
        hypervisor: str,
        eras: Mapping[str, Sequence[Step] | None],
        *,
        needs: str = "",
        detected: Condition = always,
    ) -> None:
        vars(self).update(name=name, title=title, hypervisor=hypervisor, eras=eras, needs=needs, detected=detected)

    def __repr__(self) -> str:
        return f"<Backend {self.name}>"

    def fill(self, fill: Fill) -> dict[str, Slot]:
        """What every op points to when the kernel patches itself.

        Raises:
            OpsError: the backend has no rules for this era, the kernel was built without it, or the image lacks a
                function or a table that the rules name.
        """
        steps = self._steps(fill)
        slots = {op: fill.native[op] for op in fill.ops}
        runs = self.detected(fill.machine, self.hypervisor)
        for step in steps:
            when = step.when(fill.machine, self.hypervisor) if runs.holds else runs
            if fill.otherwise and runs.holds and when.assumed:
                when = when._replace(holds=not when.holds)
            if isinstance(step, Copy):
                if when.holds:
                    slots.update(self._copy(step, fill, when))
            elif step.op in slots:
                slot = self._assign(step, fill, when, slots[step.op])
                # Where the step does not come, what is there may hang on an assumption of an earlier one.
                slots[step.op] = slot._replace(assumed=when.assumed or (not when.holds and slot.assumed))
        return slots

    def possible(self, fill: Fill) -> dict[str, set[int]]:
        """Every function (0: NULL) that each op may come to hold, whatever the machine; without ops that stay as built.

        Raises:
            OpsError: as `fill`.
        """
        found: dict[str, set[int]] = {}
        for step in self._steps(fill):
            if isinstance(step, Copy):
                for op, slot in self._copy(step, fill, step.when(fill.machine, self.hypervisor)).items():
                    found.setdefault(op, set()).add(slot.address or 0)
            elif step.op in fill.native:
                addresses = (fill.image.address_of(symbol) for symbol in step.symbol.split("|"))
                address = next((a for a in addresses if a is not None), None)
                if address is not None:
                    found.setdefault(step.op, set()).add(address)
        return found

    def patcher(self, fill: Fill) -> str:
        """The function that patches paravirt sites.

        To 5.10 the one in ``pv_init_ops.patch``, before 2.6.24 in ``paravirt_ops.patch`` (to 2.6.21 the native one:
        it is none of the ops that have numbers); in 6.1 ``paravirt_patch``; later calls of ops are alternatives:
        ``apply_alternatives``.
        """
        op = next((op for op in ("pv_init_ops.patch", "paravirt_ops.patch") if op in fill.ops), "")
        if not op and "paravirt_ops.save_fl" in fill.ops:
            return "native_patch"
        if op:
            slot = self.fill(fill)[op]
            if slot.symbol is None and slot.address == fill.native[op].address:
                return "native_patch"  # in an image that names no functions
            if slot.symbol is None:
                raise OpsError(f"backend {self.name}: no function in {op}")
            return slot.symbol
        return "paravirt_patch" if fill.era == "6.1" else "apply_alternatives"

    def patch_function(self, fill: Fill, native: PatchFunction | None) -> PatchFunction | None:
        """The patch function that inlines, where this backend has one; None for the default rules alone.

        Args:
            fill: what the backend fills.
            native: the era's ``native_patch``, where it inlines.
        """
        if native is None or self.patcher(fill) != native.name:
            return None
        flags = (fill.machine.flags if fill.machine is not None else None) or frozenset()
        left = {op: rule for op, rule in native.switch.items() if getattr(rule, "unless", "") not in flags}
        return native if len(left) == len(native.switch) else native._replace(switch=left)

    def steps(self, era: str) -> Sequence[Step] | None:
        """What its init code does in an era; None where it does not exist."""
        known = eras()
        if era not in known:
            return None
        found = [name for name in known[: known.index(era) + 1] if name in self.eras]
        return self.eras[found[-1]] if found else None

    def _steps(self, fill: Fill) -> Sequence[Step]:
        steps = self.steps(fill.era)
        if steps is None:
            raise OpsError(f"backend {self.name} has no rules for era {fill.era} (it has {', '.join(self.eras)})")
        if steps:
            self._built_in(fill)
        return steps

    def _built_in(self, fill: Fill) -> None:
        if not self.needs or any(fill.image.address_of(symbol) for symbol in self.needs.split("|")):
            return
        symbol = self.needs.partition("|")[0]
        # Every kernel has these: an image that names neither hides the others too.
        named = any(fill.image.address_of(name) is not None for name in ("start_kernel", "_stext"))
        what = "this kernel is built without" if named else "the image names no function of"
        raise OpsError(f"{what} {self.title} (no symbol {symbol})")

    def _assign(self, step: Assign, fill: Fill, when: Verdict, slot: Slot) -> Slot:
        name = step.symbol.partition("|")[0]
        if not when.holds:
            return slot._replace(why=f"{slot.why}; not {name}: {when.why}")
        if not _possible(step.config, fill.bits):
            return slot._replace(why=f"{slot.why}; not {name}: that needs {step.config}")
        if step.beside and _for_one_cpu(fill.image) and fill.image.address_of(step.beside) is None:
            return slot._replace(why=f"{slot.why}; not {name}: this kernel is built for one CPU")
        for symbol in step.symbol.split("|"):
            address = fill.image.address_of(symbol)
            if address is not None:
                source = f"{step.source}, {fill.era}" if step.source else fill.era
                return Slot(step.op, symbol, address, when.why or "its init code always sets it", source)
        config = fill.config.with_("X86_64") if fill.bits == 64 else fill.config
        if step.config and not config.holds(step.config):
            return slot._replace(why=f"{slot.why}; not {name}: this kernel is built without {step.config}")
        raise OpsError(f"backend {self.name}: {step.op} becomes {name}, but the image has no symbol of that name")

    def _copy(self, step: Copy, fill: Fill, when: Verdict) -> dict[str, Slot]:
        ops = [(i, op) for i, op in enumerate(fill.ops) if op.partition(".")[0] == step.struct]
        table = fill.image.address_of(step.table)
        if not ops:
            return {}
        if table is None and step.otherwise is not None:
            table = self._found(step, ops, fill)
        if table is None:
            return {op: self._unnamed(step, op, fill, when) for _, op in ops}
        first = 0 if step.whole else ops[0][0]
        slots = {}
        for i, op in ops:
            where = table + (i - first) * fill.image.word
            value = fill.image.read_word(where)
            symbol = fill.image.symbol_at(value) if value else None
            if value is None or (value and symbol is None):
                held = "nothing" if value is None else f"{value:#x}, which is no function"
                raise OpsError(f"backend {self.name}: {op} is read from {step.table} at {where:#x}, which holds {held}")
            why = f"{step.table} has {symbol or 'NULL'}"
            slots[op] = Slot(op, symbol, value or None, why, f"{step.source}, {fill.era}")
        return slots

    def _found(self, step: Copy, ops: Sequence[tuple[int, str]], fill: Fill) -> int | None:
        """A table that no symbol names (CONFIG_KALLSYMS_ALL=n), found by the functions of its backend that it has."""
        first = 0 if step.whole else ops[0][0]
        words = {}
        for i, op in ops:
            symbol = (step.otherwise or {}).get(op.partition(".")[2], "")
            address = fill.image.address_of(symbol) if symbol and "|" not in symbol else None
            if address is not None and symbol != fill.native[op].symbol:
                words[(i - first) * fill.image.word] = address
        return fill.image.find_words(words)

    def _unnamed(self, step: Copy, op: str, fill: Fill, when: Verdict) -> Slot:
        if step.otherwise is None:
            raise OpsError(f"backend {self.name}: {op} is copied from {step.table}, but the image has no such symbol")
        symbol = step.otherwise.get(op.partition(".")[2])
        if symbol is not None and symbol.endswith("|") and not any(map(fill.image.address_of, symbol.split("|")[:-1])):
            symbol = None
        null = Slot(op, None, None, f"{step.table} does not name it: NULL", f"{step.source}, {fill.era}")
        return null if symbol is None else self._assign(Assign(op, symbol, source=step.source), fill, when, null)


def _for_one_cpu(image: ImageView) -> bool:
    """Whether an image names its functions, and none of those that start further CPUs (arch/x86/kernel/smpboot.c)."""
    named = [
        image.address_of(name) is not None for name in ("start_kernel", "start_secondary", "native_smp_prepare_cpus")
    ]
    return named[0] and not any(named[1:])


def _possible(config: str, bits: int) -> bool:
    """Whether a condition can hold with pointers of this size, whatever else is configured."""
    symbols = (term.strip() for term in config.replace("|", "&").split("&"))
    return Config(*(s for s in symbols if s != "X86_64" or bits == 64)).holds(config)


def callee_save(name: str) -> str:
    """The thunk that ``PV_CALLEE_SAVE(name)`` points to: it saves the registers that a C function would clobber."""
    return f"__raw_callee_save_{name}"


def lock_ops(
    wait: str, kick: str, when: Condition, source: str, config: str = "PARAVIRT_SPINLOCKS"
) -> tuple[Step, ...]:
    """The four assignments with which KVM, Xen and Hyper-V put in the pv qspinlock; ``vcpu_is_preempted`` is apart."""
    functions = {
        "queued_spin_lock_slowpath": "__pv_queued_spin_lock_slowpath",
        "queued_spin_unlock": callee_save("__pv_queued_spin_unlock"),
        "wait": wait,
        "kick": kick,
    }
    return tuple(Assign(f"pv_lock_ops.{op}", symbol, when, source, config) for op, symbol in functions.items())
