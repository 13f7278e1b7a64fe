"""Kernels of x86-64 that go to user space and come back: ``sysretq``, and below Xen hypercalls and a callback."""

from __future__ import annotations

from functools import partial

import pytest

from emulate.test_locks import TIGHT, image
from pvops.emulate.guest import locks
from pvops.emulate.smp.machine import Machine
from pvops.errors import RunError

USER = TIGHT._replace(user=True, turns=3)
SYSRET = "pv_cpu_ops.usergs_sysret64"


@pytest.mark.parametrize("patched", [False, True])
@pytest.mark.parametrize("name", locks.NAMES)
def test_each_turn_goes_out_by_sysret_and_comes_in_by_a_system_call(name: str, patched: bool) -> None:
    states = set()
    for backend in locks.protocol(name).backends:
        machine = Machine(image(name, 64), backend, 3, patched=patched)
        outcome = machine.run(USER)
        assert outcome.ok, outcome.stop
        states.add(outcome.final_state)
        # Once out, and once more behind each turn.
        out = 3 * (USER.turns + 1)
        assert machine.counts.ops[SYSRET] == out
        forms = machine.forms()
        if backend == "xen":
            assert outcome.calls["iret"] == outcome.calls["(system call)"] == out
            assert (forms[SYSRET], forms["pv_cpu_ops.swapgs"]) == (("jmp", "nop") if patched else ("indirect",) * 2)
        else:
            assert "iret" not in outcome.calls
            assert forms[SYSRET] == ("inlined" if patched else "indirect")
        # The same program without user space.
        assert machine.run(USER._replace(user=False)).final_state == outcome.final_state
    assert len(states) == 1


@pytest.mark.parametrize("backend", ["native", "kvm", "xen"])
def test_user_space_is_in_ring_3_with_its_own_gs(backend: str) -> None:
    machine = Machine(image("pv-ticket-4.0", 64), backend, 2)
    seen = set()
    program, kernel = (machine.image.address(at) for at in ("user_program", "sys_turn"))

    def at(where: str, number: int, pc: int) -> None:
        cpu = machine.cpus[number]
        seen.add((where, cpu.get("cs") & 3, cpu.get("gs_base") == cpu.per_cpu))

    for n, cpu in enumerate(machine.cpus):
        cpu.watch({program: partial(at, "user", n), kernel: partial(at, "kernel", n)})
    assert machine.run(USER).ok
    # Below Xen both are in ring 3, and Xen changes gs, which here only the kernel uses.
    expected = (
        {("user", 3, True), ("kernel", 3, True)} if backend == "xen" else {("user", 3, False), ("kernel", 0, True)}
    )
    assert seen == expected


def test_what_user_space_cannot_have_is_refused() -> None:
    with pytest.raises(RunError, match="no user space with them"):
        Machine(image("ticket-2.6.25", 64), "native", 2).run(USER._replace(tick=100))
    with pytest.raises(RunError, match="of x86-64"):
        Machine(image("ticket-2.6.25", 32), "native", 2).run(USER)
