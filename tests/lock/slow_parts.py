"""What the slow model of the simulation consists of: its numbers, and the state of virtual CPUs and locks."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from pvops.lock.simulate import Distribution

GAMMA = 0x9E3779B97F4A7C15
WORD = 2**64
ENDLESS = 10**30


def mix(z: int) -> int:
    """SplitMix64's finalizer."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def stream(seed: int, number: int) -> Iterator[int]:
    """Random 64-bit numbers."""
    state = mix((mix(seed) + GAMMA * (number + 1)) % WORD)
    while True:
        state = (state + GAMMA) % WORD
        yield mix(state)


def ps(us: float) -> int:
    """A time in µs as whole ps."""
    return round(us * 1e6)


def drawn(distribution: Distribution, numbers: Iterator[int]) -> int:
    """A time, in ps."""
    mean = ps(distribution.mean_us)
    if distribution.kind == "constant":
        return mean
    u = ((next(numbers) >> 11) + 1) / 2**53
    if distribution.kind == "uniform":
        return int(2.0 * mean * u)
    return int(mean * -math.log(u) + 0.5)


@dataclass(eq=False)
class Code:
    """A program or a handler, and where it stands."""

    steps: Generator[tuple[str, int], None, None]
    does: str = "think"
    lock: int = -1
    left: int = 0
    threshold_left: int = 0
    waited: int = 0
    handed: bool = False


@dataclass(eq=False)
class Cpu:
    """A virtual CPU. `place` is guest, switch, exit, yield, kick (all on a physical CPU), ready or asleep."""

    number: int
    machine: int
    numbers: Iterator[int]
    interrupts: Iterator[int]
    codes: list[Code] = field(default_factory=list)
    place: str = "ready"
    pcpu: int | None = None
    overhead_left: int = 0
    slice_left: int = ENDLESS
    stretch_left: int = ENDLESS
    interrupt_left: int = ENDLESS
    published: bool = False
    kick_under_way: bool = False
    kick_remembered: bool = False
    boosted: bool = False
    credit: int = 0
    kicks: Cpu | None = None
    acquisitions: int = 0
    spent: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("useful", "spin", "blocked", "overhead", "idle"), 0)
    )

    @property
    def code(self) -> Code:
        return self.codes[-1]

    @property
    def state(self) -> str:
        if self.place == "guest":
            return "spin" if self.code.does == "spin" else "useful"
        return {"ready": "idle", "asleep": "blocked"}.get(self.place, "overhead")


@dataclass(eq=False)
class Lock:
    """A lock: who waits, in the order of asking, as (virtual CPU, its code)."""

    held: bool = False
    waiting: list[tuple[Cpu, Code]] = field(default_factory=list)
