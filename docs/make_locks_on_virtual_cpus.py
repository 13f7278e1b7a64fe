"""Write the tables of locks-on-virtual-cpus.md from guests that run: ``python docs/make_locks_on_virtual_cpus.py``.

A test checks that the page is what this would write.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from marks import filled

from pvops.emulate.guest import locks
from pvops.emulate.guest.locks.kernel import LockImage
from pvops.emulate.smp.job import LockJob, LockResult, run
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.path import fast_path
from pvops.emulate.smp.setting import Setting
from pvops.lock.simulate import Case, Distribution, simulate

PAGE = Path(__file__).with_name("locks-on-virtual-cpus.md")

#: Instructions between two acquisitions and in one, as the guest's loops make them.
THINK, HOLD = 2 * 200 + 25, 2 * 10 + 12
#: Looks before a waiter blocks, and instructions of one look.
THRESHOLD, LOOK = 40, 7
SETTING = Setting(turns=40, think=200, hold=10, quantum=60, slice=6000, switch=60, exit=60, kick=200)
#: The simulator has one byte lock and one of each kind of ticket lock; cycles are its nanoseconds.
SIMULATED = ("ticket-2.6.25", "pv-ticket-3.12", "pv-ticket-4.0")
#: Below what, where not below Xen alone.
BELOW = {"pv-ticket-4.0": ("kvm", "xen", "hyperv")}


@cache
def ran(name: str, backend: str, vcpus: int, turns: int) -> LockResult:
    """One lock on four physical CPUs."""
    image = LockImage(locks.protocol(name), 64, threshold=THRESHOLD)
    job = LockJob(vcpus=vcpus, setting=SETTING._replace(pcpus=4, turns=turns))
    return run(image, backend, job, patched=True)


def _rate(result: LockResult) -> float:
    return 1000 * result.acquisitions / result.first.cycles


def overcommitted() -> list[str]:
    """Each lock with as many virtual CPUs as physical ones, and twice as many."""
    heads = ("lock", "below", "1x: acquired in 1,000 cycles", "2x", "2x to 1x", "spinning at 2x", "slow paths", "kicks")
    out = [f"| {' | '.join(heads)} | longest wait |"]
    out.append("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for name in locks.NAMES:
        for backend in BELOW.get(name, ("xen",)):
            turns = SETTING.turns if locks.protocol(name).blocks(backend) else 20
            alone, twice = ran(name, backend, 4, turns), ran(name, backend, 8, turns)
            busy = sum(twice.parts[part] for part in ("useful", "spin", "overhead"))
            cells = (f"{_rate(alone):.2f}", f"{_rate(twice):.2f}", f"{_rate(twice) / _rate(alone):.2f}")
            more = (
                f"{twice.parts['spin'] / busy:.0%}",
                f"{twice.slow_paths:,}",
                f"{twice.kicks:,}",
                f"{twice.waits[-1]:,}",
            )
            out.append(f"| `{name}` | {backend} | " + " | ".join((*cells, *more)) + " |")
    return out


def simulator_case(name: str, vcpus: int, cycles: int) -> Case:
    """What `ran` executes, as the simulator takes it."""
    return Case(
        name,
        threshold_us=None if name == "ticket-2.6.25" else THRESHOLD * LOOK / 1000,
        vcpus=vcpus,
        pcpus=4,
        duration=cycles * 1e-9,
        think=Distribution("constant", THINK / 1000),
        hold=Distribution("constant", HOLD / 1000),
        slice_us=SETTING.slice / 1000,
        switch_us=SETTING.switch / 1000,
        kick_us=SETTING.kick / 1000,
        exit_us=SETTING.exit / 1000,
    )


def simulated() -> list[str]:
    """The same in the simulator."""
    heads = (
        "lock",
        "virtual CPUs",
        "acquired in 1,000 cycles, executed",
        "simulated",
        "kicks an acquisition, executed",
    )
    out = [f"| {' | '.join(heads)} | simulated |"]
    out.append("|---|--:|--:|--:|--:|--:|")
    for name in SIMULATED:
        turns = 20 if name == "ticket-2.6.25" else 120
        for vcpus in (4, 8):
            result = ran(name, "kvm", vcpus, turns)
            other = simulate(simulator_case(name, vcpus, result.first.cycles))
            acquired = sum(other.acquisitions)
            rates = f"{_rate(result):.2f} | {1000 * acquired / result.first.cycles:.2f}"
            kicks = f"{result.kicks / result.acquisitions:.2f} | {other.counters['kicks'] / acquired:.2f}"
            out.append(f"| `{name}` | {vcpus} | {rates} | {kicks} |")
    return out


#: Whose code is shown: from its first instruction to the critical section, and its release.
SHOWN = ("ticket-2.6.25", "pv-ticket-4.0", "ticket-callout-2010", "xen-byte-2.6.27")


def fast_paths() -> list[str]:
    """What an uncontended acquisition and release execute, in the guest's memory after patching."""
    out = [
        "| lock | below | instructions | calls | locked | taking it and giving it back |",
        "|---|---|--:|--:|--:|---|",
    ]
    for name in SHOWN:
        for backend in ("native", "xen"):
            machine = Machine(LockImage(locks.protocol(name), 64), backend, 1)
            path = fast_path(machine)
            calls, locked = (
                sum("call" in i for i in path),
                sum(i.startswith(("lock", "xchg")) and "(" in i for i in path),
            )
            shown = [i.replace("xchg %ax,%ax", "nop") for i in path[:14]]
            text = "; ".join(shown) + ("; …" if len(path) > 14 else "")
            out.append(f"| `{name}` | {backend} | {len(path)} | {calls} | {locked} | `{text}` |")
    return out


TABLES = {"overcommitted": overcommitted, "simulated": simulated, "fast paths": fast_paths}


def current(page: str) -> str:
    """The page with its tables as they should be."""
    return filled(page, {name: table() for name, table in TABLES.items()})


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
