"""What emulation costs: instructions a second with the guest's hooks beside bare Unicorn, and microseconds a trap.

    python benches/run.py

A trap-free stretch (a loop without a call of an op) runs in turns on a bare ``Uc`` and on the machine that guests run
on, all its hooks installed, in one process: processor time, the least of rounds. The third line is the machine while
it counts instructions, block by block in the core. Then guests that do nothing but trap, per kind of trap.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from support.given import module
from support.rounds import OURS, PEER, Job, compare

from pvops.assembler import Local, addr, label
from pvops.assembler.operands import eax, ecx, edx
from pvops.assembler.statements import Body
from pvops.assembler.x86 import addl, clts, decl, int_, jne, movl, shrl, xorl
from pvops.emulate import GuestImage, Limits, Program, Session, hosts
from pvops.emulate.emulator import unicorn
from pvops.emulate.guest.program import Call, Loop, Raw

ROUNDS = 7
TURNS, BODY = 200_000, 250
#: Instructions of the stretch: so many that starting the clock of a run, some milliseconds, does not count.
INSTRUCTIONS = TURNS * (4 * BODY + 2)
TRAPS = 1000
BARE = "bare Unicorn"


def stretch() -> tuple[Body, ...]:
    """The loop: arithmetic alone."""
    again = Local("again")
    body = [(addl(3, eax), xorl(eax, edx), shrl(1, edx), addl(edx, eax)) for _ in range(BODY)]
    return (movl(TURNS, ecx), label(again), *body, decl(ecx), jne(addr(again)))


def stretch_image() -> GuestImage:
    """A guest of nothing else; both sides run the very same bytes at the same place."""
    steps = (Raw((label("stretch"), *stretch(), label("stretched"))),)
    return GuestImage(Program("stretch", "", steps), "seed")


def bare(image: GuestImage) -> Callable[[], None]:
    """The stretch on Unicorn alone."""
    base, code = image.built.sections[".text"]
    _, _, uc = unicorn()
    uc.mem_map(base, (len(code) + 0xFFF) & -0x1000)
    uc.mem_write(base, code)
    return lambda: uc.emu_start(image.address("stretch"), image.address("stretched"))


def guest(image: GuestImage, count: bool) -> Callable[[], None]:
    """The same as a guest below lguest's host, in ring 1, with everything hooked that a guest has hooked."""
    limits = Limits(instructions=1 << 62, seconds=600)
    session = Session(image, hosts.of("lguest", "seed")(image), count=count, limits=limits)
    session.boot()
    session.patch()

    def run() -> None:
        session.cpu.set("eip", image.address("stretch"))
        stop = session.cpu.run(image.address("stretched"))
        assert stop.kind == "done", stop.why

    return run


def jobs(_: Path) -> Iterator[Job]:
    """The stretch; nothing, said, where there is no emulator."""
    if module("unicorn") is None:
        return
    image = stretch_image()
    runs = {
        BARE: bare(image),
        "a guest's machine": guest(image, False),
        "the same, counting": guest(image, True),
    }
    yield Job(f"emulate {INSTRUCTIONS:,} instructions", runs, {name: PEER if name == BARE else OURS for name in runs})


def per_trap(backend: str, era: str, step: Raw | Call) -> float:
    """Seconds a trap of a guest that does nothing else, less what the loop costs."""

    def seconds(*steps: Raw | Call) -> float:
        image = GuestImage(Program("traps", "", (Loop(TRAPS, steps),)), era)
        least = float("inf")
        for _ in range(3):
            session = Session(image, hosts.of(backend, era)(image), count=False, limits=Limits(seconds=60))
            session.boot()
            session.patch()
            began = time.perf_counter()
            stop = session.run()
            least = min(least, time.perf_counter() - began)
            assert stop.kind == "done", stop.why
        return least

    return (seconds(step) - seconds(Raw((xorl(edx, edx),)))) / TRAPS


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs(Path(folder)):
            for name, seconds in compare(job, ROUNDS).items():
                print(f"  {name:<20} {INSTRUCTIONS / seconds / 1e6:10,.0f} million instructions/s")
            traps()


def traps() -> None:
    """Measures and prints a trap of each kind."""
    print(f"a trap, from {TRAPS:,} of each")
    kinds: dict[str, tuple[str, str, Raw | Call]] = {
        "lguest: int $0x1f": ("lguest", "seed", Raw((movl(0, eax), int_(0x1F)))),
        "Xen: int $0x82": ("xen", "seed", Call("pv_irq_ops.safe_halt")),
        "KVM: vmcall": ("kvm", "2.6.33", Call("pv_mmu_ops.flush_tlb_user")),
        "Xen: clts, emulated": ("xen", "seed", Raw((clts(),))),
    }
    for name, (backend, era, step) in kinds.items():
        print(f"  {name:<20} {per_trap(backend, era, step) * 1e6:10,.1f} µs")


if __name__ == "__main__":
    main()
