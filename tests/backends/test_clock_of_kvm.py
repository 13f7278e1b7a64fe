"""Which function reads the clock in a KVM guest: the one of its time that the image has."""

from __future__ import annotations

import pytest

import pvops
from pvops import sample
from pvops.machine.machine import Machine


def clock(functions: set[str], log: str) -> str | None:
    names = {*sample.backend_functions("4.2", ("native", "kvm"))} - {"kvm_clock_read", "kvm_sched_clock_read"}
    kernel = pvops.open(sample.build("4.2", 64, functions=sorted(names | functions), tables=True).elf)
    machine = Machine.from_dict({"hypervisor": "kvm", "online_cpus": 2, "dmesg": log})
    return kernel.plan("kvm", machine=machine).slots["pv_time_ops.sched_clock"].symbol


STABLE = "Linux version 4.2.0\nkvm-clock: using sched offset of 1 cycles\n"


@pytest.mark.parametrize("log", ["", STABLE])
def test_4_2_has_one_reader_whether_or_not_the_clock_is_stable(log: str) -> None:
    assert clock({"kvm_clock_read"}, log) == "kvm_clock_read"


def test_4_4_has_another_where_the_clock_is_stable() -> None:
    both = {"kvm_clock_read", "kvm_sched_clock_read"}
    assert clock(both, STABLE) == "kvm_sched_clock_read"
