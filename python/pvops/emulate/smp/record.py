"""What happens on virtual CPUs, in order: for traces, pictures, and runs of the checker's model."""

from __future__ import annotations

from collections.abc import Sequence

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.locks.kernel import LockImage
    from pvops.emulate.smp.memory import Memory
    from pvops.emulate.smp.stores import StoreBuffer
    from pvops.emulate.smp.vcpu import Vcpu


#: What happens when the oldest store in a buffer drains, as the checker has it.
DRAIN = "(drain)"


class Event(NamedTuple):
    """Something that happens.

    Attributes:
        at: cycles.
        vcpu: whose.
        pc: the instruction.
        kind: ``step`` (a line of the checker's model), ``mark``, ``call`` (a hypercall), ``wake``, ``drain`` (a store
            of the CPU's is seen by all).
        what: in words.
        variables: the model's variables before it, those that each CPU has as ``T0.w.want``.
    """

    at: int
    vcpu: int
    pc: int
    kind: str
    what: str
    variables: dict[str, int]


class Span(NamedTuple):
    """A stretch of a virtual CPU in one state, on a physical CPU or none."""

    vcpu: int
    pcpu: int | None
    state: str
    start: int
    end: int
    pc: int


class Recorder:
    """Notes everything, of the latest run."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.spans: list[Span] = []

    def begin(
        self, image: LockImage, memory: Memory, cpus: Sequence[Vcpu], pcpus: int, buffers: Sequence[StoreBuffer] = ()
    ) -> None:
        """A run begins, with the first virtual CPUs on the physical ones of their number."""
        self.events, self.spans = [], []
        self._image, self._memory, self._cpus, self._buffers = image, memory, cpus, buffers
        self._open: list[tuple[str, int]] = [("idle", 0)] * len(cpus)
        self._on: list[int | None] = [v if v < pcpus else None for v in range(len(cpus))]

    def event(self, cpu: Vcpu, at: int, kind: str, what: str, *, known: bool = True) -> None:
        """Something happens. `known`: memory is as it was before it; not so for the second line of one instruction."""
        held = {}
        if known and self._buffers:
            with self._buffers[cpu.number].hidden():
                held = self.variables()
        elif known:
            held = self.variables()
        self.events.append(Event(at, cpu.number, cpu.get("pc"), kind, what, held))

    def state(self, vcpu: int, state: str, at: int) -> None:
        """A virtual CPU is in another state."""
        held, since = self._open[vcpu]
        if at > since:
            pcpu = None if held in ("idle", "blocked") else self._on[vcpu]
            self.spans.append(Span(vcpu, pcpu, held, since, at, self._cpus[vcpu].get("pc")))
        self._open[vcpu] = state, at

    def put(self, vcpu: int, pcpu: int, at: int) -> None:
        """A virtual CPU comes to a physical one."""
        self._on[vcpu] = pcpu

    def end(self, at: int) -> None:
        """Ends the state of each virtual CPU when the run is over."""
        for vcpu in range(len(self._open)):
            self.state(vcpu, "", at)

    def variables(self) -> dict[str, int]:
        """The model's variables as all CPUs see them."""
        image, memory = self._image, self._memory
        nested = image.address("irq_lock")
        out = {}
        for name, variable in image.protocol.variables.items():
            if not variable.own:
                raw = memory.number(image.address("the_lock") + variable.offset, variable.size)
                out[name] = variable.of(raw)
                continue
            for cpu in range(len(self._cpus)):
                raw = memory.number(image.per_cpu(cpu) + variable.offset, variable.size)
                out[f"T{cpu}.{name}"] = variable.of(raw, nested & (1 << 8 * variable.size) - 1)
        return out
