"""One run of a guest: loaded, started under a backend, patched when its structures are filled, run to its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from pvops.emulate import patching
from pvops.emulate.cpu import Limits, Stop
from pvops.emulate.meter import Meter
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.built import BuiltGuest
    from pvops.emulate.hosts.host import Event, HostModel


class OpCall(NamedTuple):
    """A line of a trace: an op as it is called, with the first three words of its arguments."""

    op: str
    at: int
    words: tuple[int, int, int]


class Result(NamedTuple):
    """What came of a run.

    Attributes:
        guest, era, bits, backend: which.
        patched: sites were patched; else every op is an indirect call.
        lazy: the guest's lazy sections were lazy.
        instructions: executed, from the guest's entry on; those that trapped included.
        indirect_calls: calls and jumps through memory or a register, executed.
        hypercalls: traps by name of the call.
        queued: calls that came out of a batch, by name.
        batches: how often a batch was handed over.
        ops: op → how often it was called.
        forms: op → what its sites are, sorted, joined by ``+``; ``plain`` where it has none.
        final_state: digest of the host's model; empty where the run did not end well.
        stop: why it ended.
        traps: all traps, hypercalls and others.
        seconds: wall clock.
        events: the timeline of hypercalls.
        numbers: the numbers of hypercalls by name.
        trace: every call of an op, where asked for.
        patches: what became of each site.
    """

    guest: str
    era: str
    bits: int
    backend: str
    patched: bool
    lazy: bool
    instructions: int
    indirect_calls: int
    hypercalls: Mapping[str, int]
    queued: Mapping[str, int]
    batches: int
    ops: Mapping[str, int]
    forms: Mapping[str, str]
    final_state: str
    stop: Stop
    traps: int
    seconds: float
    events: tuple[Event, ...]
    numbers: Mapping[str, int]
    trace: tuple[OpCall, ...]
    patches: tuple[patching.Patch, ...]


class Session:
    """A guest on its machine.

    Args:
        image: the guest.
        host: what is below it.
        lazy: whether its lazy sections are lazy.
        count: count instructions and calls, and watch for jumps into sites.
        trace: note every call of an op.
        limits: what it may take.

    Raises:
        RunError: the emulator is missing, or the image has no entry for this host.
    """

    def __init__(
        self,
        image: BuiltGuest,
        host: HostModel,
        *,
        lazy: bool = True,
        count: bool = True,
        trace: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.image = image
        self.host = host
        self.lazy = lazy
        self.cpu = host.cpu(limits)
        self.patches: list[patching.Patch] = []
        self.trace: list[OpCall] = []
        image.load(self.cpu)
        host.attach(self.cpu)
        self.cpu.set_word(image.address("lazy_sections"), int(lazy))
        self.meter = Meter(self.cpu, image.sites(), image.plain, self.cpu.limits.instructions) if count else None
        if self.meter is not None:
            meter = self.meter
            host.clock = lambda: meter.instructions
        if trace:
            self._trace()
        self._watch()
        self.cpu.enter(image.address(host.entry), image.stack)

    def boot(self) -> Stop:
        """Runs the backend's init code and ``setup_arch()``, up to where the kernel patches itself."""
        return self.cpu.run(self.image.address("check_bugs"))

    def patch(self, nops: str = "k8", features: Iterable[int] = ()) -> list[patching.Patch]:
        """Patches the text for what the structures hold now."""
        if self.meter is not None:
            self.meter.patching()
        self.patches = patching.apply(self.image, self.cpu, nops, features)
        self._watch()
        return self.patches

    def hold(self, op: str, function: str | None) -> None:
        """Lets an op point to another function of the guest, or be NULL; it counts when the text is patched again."""
        found = self.image.pv.template.op(op)
        at = self.image.address(found.struct) + found.offset - self.image.pv.template.struct_offsets[found.struct]
        self.cpu.set_word(at, 0 if function is None else self.image.address(function))

    def run(self) -> Stop:
        """Runs the guest until it ends, and says why it did."""
        return self.cpu.run(self.image.exit)

    def result(self, stop: Stop, patched: bool, seconds: float) -> Result:
        """What came of it."""
        ops: dict[str, int] = {}
        instructions = indirect = 0
        if self.meter is not None:
            self.meter.finish()
            instructions, indirect = self.meter.instructions, self.meter.indirect_calls
            ops = {op: n for op, n in sorted(self.meter.ops.items()) if n}
        host = self.host
        return Result(
            guest=self.image.name,
            era=self.image.era,
            bits=self.image.bits,
            backend=host.name,
            patched=patched,
            lazy=self.lazy,
            instructions=instructions,
            indirect_calls=indirect,
            hypercalls=dict(sorted(host.hypercalls.items())),
            queued=dict(sorted(host.queued.items())),
            batches=host.batches,
            ops=ops,
            forms=self.forms(patched),
            final_state=host.digest(self.cpu) if stop.kind == "done" else "",
            stop=stop,
            traps=self.cpu.traps,
            seconds=seconds,
            events=tuple(host.events),
            numbers={name: number for number, name in host.calls.items()},
            trace=tuple(self.trace),
            patches=tuple(self.patches),
        )

    def forms(self, patched: bool) -> dict[str, str]:
        """Op → form of its sites."""
        found: dict[str, set[str]] = {}
        if patched:
            for patch in self.patches:
                found.setdefault(patch.op, set()).add(patch.form)
        else:
            for op, _ in self.image.sites().values():
                found.setdefault(op, set()).add("indirect")
        for op in self.image.plain.values():
            found.setdefault(op, set()).add("plain")
        return {op: "+".join(sorted(forms)) for op, forms in sorted(found.items())}

    def _watch(self) -> None:
        """Scripts every rdtsc that the text has now; and tells the CPU of every way out of the kernel."""
        import iced_x86

        address, raw = self.image.built.sections[".text"]
        text = self.cpu.read(address, len(raw))
        wide = self.cpu.bits == 64
        if b"\x0f\x31" not in text and not wide:
            self.cpu.watch_tsc(())
            return
        code = list(iced_x86.Decoder(self.cpu.bits, text, ip=address))
        self.cpu.watch_tsc([i.ip for i in code if i.mnemonic == iced_x86.Mnemonic.RDTSC])
        if wide:
            out = {iced_x86.Mnemonic.SYSRET, iced_x86.Mnemonic.SYSRETQ, iced_x86.Mnemonic.SYSEXIT}
            self.cpu.watch_returns([i.ip for i in code if i.mnemonic in out | {iced_x86.Mnemonic.IRETQ}])

    def _trace(self) -> None:
        from pvops.emulate.emulator import unicorn

        library, _, _ = unicorn()
        names = {address: op for address, (op, _) in self.image.sites().items()} | dict(self.image.plain)

        def called(uc: object, address: int, size: int, data: object) -> None:
            registers = ("rdi", "rsi", "rdx") if self.cpu.bits == 64 else ("eax", "edx", "ecx")
            words = tuple(self.cpu.get(register) for register in registers)
            self.trace.append(OpCall(names[address], address, (words[0], words[1], words[2])))

        for address in names:
            self.cpu.uc.hook_add(library.UC_HOOK_CODE, called, begin=address, end=address)


def run(
    image: BuiltGuest,
    host: HostModel,
    *,
    patched: bool = True,
    lazy: bool = True,
    nops: str = "k8",
    trace: bool = False,
    limits: Limits | None = None,
) -> Result:
    """Runs a guest from its entry to its end.

    Args:
        image: the guest.
        host: what is below it, new.
        patched: patch its sites when its structures are filled.
        lazy: let its lazy sections be lazy.
        nops: the nop table.
        trace: note every call of an op.
        limits: what it may take.
    """
    began = time.perf_counter()
    session = Session(image, host, lazy=lazy, trace=trace, limits=limits)
    stop = session.boot()
    if stop.kind == "done":
        if patched:
            session.patch(nops)
        stop = session.run()
    return session.result(stop, patched, time.perf_counter() - began)
