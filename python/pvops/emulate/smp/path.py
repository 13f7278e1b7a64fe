"""What one CPU alone executes to take a lock and to give it back."""

from __future__ import annotations

from pvops.emulate.smp.setting import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.smp.machine import Machine


def fast_path(machine: Machine) -> list[str]:
    """The instructions, out of the guest's memory, of a machine with one virtual CPU."""
    address = machine.image.address
    machine.begin(Setting(pcpus=1, turns=1, think=0, hold=0))
    cpu, out, shown = machine.cpus[0], [], False
    edges = {address("cpu_acquire"): True, address("cpu_enter"): False}
    edges |= {address("cpu_release"): True, address("cpu_done"): False}
    while cpu.get("pc") != address("exit") and cpu.stopped is None:
        shown = edges.get(cpu.get("pc"), shown)
        if shown:
            out.append(machine.instruction(cpu.get("pc")))
        cpu.step(1, address("exit"))
    return out
