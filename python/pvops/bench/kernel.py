"""What the forms cost a kernel: how many sites of which op it has, what each becomes, times what that costs here.

What is counted is the way to an op, not the op's own work: a `cli` or a hypercall costs the same however it is reached.

| site becomes | costs |
|---|---|
| nops | ``nop6`` |
| the op's own instructions | nothing: they are the op's work |
| a call | ``direct_call`` |
| a call of a function that keeps all registers (``__raw_callee_save_*``) | ``save_thunk_8`` |
| what was built | ``indirect_call``; with what such a function adds to ``direct_call``, where it calls one |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

from pvops.bench.paths import PATHS, Path
from pvops.display import show
from pvops.errors import OpsError, TableError, there_are
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.bench.measurement import Measurement
    from pvops.kernel import Kernel
    from pvops.machine.machine import Machine
    from pvops.plan.plan import Plan

#: The backends compared.
BACKENDS = ("native", "kvm", "xen")

ASSUMPTIONS = (
    "what is counted is the way to an op; the op's own work, a hypercall for instance, is the same on every way",
    "every site of a function runs once: loops are not taken twice, and no branch is left out",
    "a call costs what it costs with a predictor full of other branches, or in a loop; a kernel lies between",
    "of returns, alternatives, static keys and locks only what ops make of them is counted",
    "measured in user mode: no other mitigation than those of the forms, and nothing of the kernel's own on entry",
)

_KEEPS = "__raw_callee_save_"


class Cost(NamedTuple):
    """Core cycles of sites.

    Attributes:
        loop: where everything is predicted.
        kernel: among thousands of distinct sites, with a predictor full of other branches.
    """

    loop: float
    kernel: float

    def plus(self, other: Cost, times: float = 1) -> Cost:
        """The sum of this cost and ``times`` times another."""
        return Cost(self.loop + times * other.loop, self.kernel + times * other.kernel)


NOTHING = Cost(0.0, 0.0)


class OpEstimate(NamedTuple):
    """One op of a kernel.

    Attributes:
        op: ``pv_irq_ops.irq_enable``.
        sites: how many call it.
        forms: backend → form → how many sites become that.
        patched: backend → mean cost of one call.
        unpatched: backend → cost of one call where nothing is patched.
    """

    op: str
    sites: int
    forms: Mapping[str, Mapping[str, int]]
    patched: Mapping[str, Cost]
    unpatched: Mapping[str, Cost]


class PathEstimate(NamedTuple):
    """One path.

    Attributes:
        path: its name in `PATHS`.
        what: what it is.
        sites: op → how many sites of it the path passes.
        missing: functions and ops of the path that this kernel has no sites in.
        patched: backend → cost of all.
        unpatched: backend → cost of all where nothing is patched.
    """

    path: str
    what: str
    sites: Mapping[str, int]
    missing: tuple[str, ...]
    patched: Mapping[str, Cost]
    unpatched: Mapping[str, Cost]


class _Site(NamedTuple):
    """A site: the function it lies in, its op, and backend → (form patched, form unpatched)."""

    function: str
    op: str
    forms: Mapping[str, tuple[str, str]]


class KernelEstimate:
    """What a kernel's call sites cost on a CPU. Make one with `estimate`.

    Attributes:
        kernel: whose sites they are.
        measurement: what the forms cost.
        backends: those it has.
    """

    def __init__(self, kernel: Kernel, measurement: Measurement, plans: Mapping[str, Plan]) -> None:
        self.kernel = kernel
        self.measurement = measurement
        self.backends = tuple(plans)
        self._plans = plans
        self._prices = _prices(measurement)

    @cached_property
    def _sites(self) -> list[_Site]:
        forms = {name: dict(_forms(plan)) for name, plan in self._plans.items()}
        first = next(iter(forms.values()), {})
        out = []
        for address, (op, _, _) in first.items():
            place = self.kernel.place(address) or ""
            by_backend = {name: found[address][1:] for name, found in forms.items()}
            out.append(_Site(place.partition("+")[0], op, by_backend))
        return out

    @cached_property
    def ops(self) -> list[OpEstimate]:
        """Every op that has sites, those with most sites first."""
        by_op: dict[str, list[_Site]] = {}
        for site in self._sites:
            by_op.setdefault(site.op, []).append(site)
        return [
            OpEstimate(
                op,
                len(sites),
                {b: dict(Counter(s.forms[b][0] for s in sites).most_common()) for b in self.backends},
                {b: self._sum(sites, b, 0, 1 / len(sites)) for b in self.backends},
                {b: self._sum(sites, b, 1, 1 / len(sites)) for b in self.backends},
            )
            for op, sites in sorted(by_op.items(), key=lambda item: (-len(item[1]), item[0]))
        ]

    @cached_property
    def paths(self) -> list[PathEstimate]:
        """Every path of `PATHS`."""
        return [self._path(name, path) for name, path in PATHS.items()]

    def path(self, name: str) -> PathEstimate:
        """One path.

        Raises:
            OpsError: there is no such path.
        """
        found = next((path for path in self.paths if path.path == name), None)
        if found is None:
            raise OpsError(f"no path {name}{there_are(name, PATHS)}")
        return found

    def _path(self, name: str, path: Path) -> PathEstimate:
        # A compiler's clone (`__schedule.constprop.0`, `finish_task_switch.isra.0`) is the function.
        of_function: dict[str, list[_Site]] = {}
        for site in self._sites:
            of_function.setdefault(site.function.partition(".")[0], []).append(site)
        of_op = {found.op: found for found in self.ops}
        sites = [site for function in path.functions for site in of_function.get(function, ())]
        missing = [f for f in path.functions if f not in of_function] + [op for op in path.ops if op not in of_op]
        counts = Counter(site.op for site in sites)
        costs: list[dict[str, Cost]] = []
        for which in (0, 1):
            total = {b: self._sum(sites, b, which) for b in self.backends}
            for op in path.ops:
                if op in of_op:
                    one = of_op[op].unpatched if which else of_op[op].patched
                    total = {b: cost.plus(one[b]) for b, cost in total.items()}
            costs.append(total)
        counts.update(op for op in path.ops if op in of_op)
        return PathEstimate(name, path.what, dict(counts), tuple(missing), costs[0], costs[1])

    def _sum(self, sites: list[_Site], backend: str, which: int, times: float = 1) -> Cost:
        total = NOTHING
        for form, count in Counter(site.forms[backend][which] for site in sites).items():
            total = total.plus(self._prices[form], count * times)
        return total

    def document(self) -> dict[str, object]:
        """What the JSON document has under ``kernel``."""

        def costs(found: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
            return {b: {"loop": round(c.loop, 2), "kernel": round(c.kernel, 2)} for b, c in found.items()}

        return {
            "name": self.kernel.name,
            "release": self.kernel.release,
            "backends": list(self.backends),
            "assumptions": list(ASSUMPTIONS),
            "ops": [
                {**op._asdict(), "patched": costs(op.patched), "unpatched": costs(op.unpatched)} for op in self.ops
            ],
            "paths": [
                {
                    **path._asdict(),
                    "missing": list(path.missing),
                    "patched": costs(path.patched),
                    "unpatched": costs(path.unpatched),
                }
                for path in self.paths
            ],
        }

    def _repr_html_(self) -> str:
        return show(self, "fragment")

    def __repr__(self) -> str:
        return f"<KernelEstimate of {self.kernel.release or self.kernel.name}>"


def estimate(kernel: Kernel, measurement: Measurement, *, machine: Machine | str | None = None) -> KernelEstimate:
    """What a kernel's call sites cost on the CPU measured: native, under KVM and under Xen.

    Args:
        kernel: an opened kernel. A backend that it is built without is left out.
        measurement: what the forms cost.
        machine: what it boots on, as `Kernel.plan` takes it.

    Raises:
        TableError: the kernel has no ops, or no site that calls one.
        OpsError: nothing tells how it patches.
    """
    kernel.ops.require()
    _ = kernel.rules  # what no backend can do without is an error of the kernel's
    plans: dict[str, Plan] = {}
    for backend in BACKENDS:
        try:
            plans[backend] = kernel.plan(backend, machine=machine)
        except OpsError:
            if backend == "native":
                raise
    found = KernelEstimate(kernel, measurement, plans)
    if not found.ops:
        why = "no site calls an op: there is nothing to estimate"
        raise TableError(f"{kernel.name}: {why}", reason=why, file=kernel.name)
    return found


#: What a plan's last write at a site makes of it, in the words of `Write.kind`.
_BECOMES = {"nopped": "nop6", "inlined": "inlined", "moved": "inlined", "called": "called", "jumped": "called"}


def _forms(plan: Plan) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """(address, (op, form patched, form unpatched)) of every site of an op."""
    ops: dict[int, str] = {}
    last: dict[int, str] = {}
    for raw in plan.raw():
        address, code, kind = raw[0], raw[3], raw[4]
        op = plan.op_of(raw)
        if op is not None:
            ops[address] = op
        if code:
            last[address] = kind
    for address, op in ops.items():
        function = plan.slots[op].symbol if op in plan.slots else None
        keeps = function is not None and function.startswith(_KEEPS)
        unpatched = "indirect_kept" if keeps else "indirect"
        becomes = _BECOMES.get(last.get(address, ""), unpatched)
        if becomes == "called" and keeps:
            becomes = "called_kept"
        yield address, (op, becomes, unpatched)


def _prices(measurement: Measurement) -> Mapping[str, Cost]:
    def price(form: str) -> Cost:
        found = measurement[form]
        return Cost(max(found.cycles, 0.0), max(found.distinct_sites_cycles, 0.0))

    direct, kept = price("direct_call"), price("save_thunk_8")
    return {
        "nop6": price("nop6"),
        "inlined": NOTHING,
        "called": direct,
        "called_kept": kept,
        "indirect": price("indirect_call"),
        "indirect_kept": price("indirect_call").plus(kept).plus(direct, -1),
    }
