"""Settings that chance draws: whatever they are, a sound lock keeps its promises and its guest ends in one state."""

from __future__ import annotations

import random

import pytest

from emulate.test_locks import image
from emulate.test_locks_interrupts import NOT_NESTABLE
from pvops.emulate.guest import locks
from pvops.emulate.smp.machine import Machine
from pvops.emulate.smp.setting import Setting


def setting(draw: random.Random, vcpus: int, *, nests: bool, wide: bool) -> Setting:
    """Any setting in which a guest of so many CPUs gets on: ticks are longer than what follows a handler's end."""
    tick = draw.choice((0, 40, 60, 150, 1000)) if nests else 0
    return Setting(
        pcpus=draw.randint(1, vcpus),
        seed=draw.getrandbits(40),
        scheduler=draw.choice(("credit", "round-robin")),
        turns=draw.choice((1, 3, 5)),
        think=draw.choice((0, 1, 20)),
        hold=draw.choice((0, 1, 20)),
        quantum=draw.choice((1, 2, 6, 30, 100)),
        slice=draw.choice((7, 30, 100, 1000)),
        switch=draw.choice((0, 10, 60)),
        exit=draw.choice((0, 30)),
        kick=draw.choice((0, 20)),
        tick=tick,
        tick_sleepers=tick > 0 and draw.random() < 0.4,
        ticket=draw.choice((0, 1, 250, 254, 255)),
        buffers=draw.random() < 0.5,
        user=wide and not tick and draw.random() < 0.3,
    )


@pytest.mark.parametrize("name", locks.NAMES)
def test_every_setting_ends_in_the_state_of_all_others(name: str) -> None:
    draw = random.Random(name)
    ends: dict[tuple[int, int], set[str]] = {}
    for _ in range(6):
        bits, vcpus = draw.choice((32, 64)), draw.randint(1, 5)
        backend = draw.choice(list(locks.protocol(name).backends))
        patched = draw.random() < 0.7
        machine = Machine(image(name, bits, draw.choice((1, 3, 16))), backend, vcpus, patched=patched)
        nests = (name, backend) not in NOT_NESTABLE
        for _ in range(3):
            chosen = setting(draw, vcpus, nests=nests, wide=bits == 64)
            outcome = machine.run(chosen)
            assert outcome.ok, (backend, bits, vcpus, patched, chosen, outcome.stop, outcome.broken)
            assert outcome.acquisitions == (chosen.turns,) * vcpus
            ends.setdefault((vcpus, chosen.turns), set()).add(outcome.final_state)
    assert {len(states) for states in ends.values()} == {1}
