"""What the forms mean for a kernel: counts times costs, by the plan that patches the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pvops
from pvops import bench
from pvops.errors import OpsError, TableError
from pvops.kernel import Kernel

#: Costs that tell which form was counted: (in a loop, among 4,096 sites).
PRICES = {
    "nop6": (1.0, 2.0),
    "direct_call": (10.0, 20.0),
    "indirect_call": (100.0, 200.0),
    "save_thunk_8": (15.0, 35.0),
}


def made_up() -> bench.Measurement:
    """A measurement with the costs above."""

    def form(name: str, loop: float, kernel: float) -> dict[str, object]:
        def flat(value: float) -> dict[str, float]:
            return dict.fromkeys(("median", "minimum", "low", "high"), value)

        ways = {way: flat(kernel if way == "distinct" else loop) for way in bench.WAYS}
        return {"form": name, "site": "90", "text": "nop", "inlines": None, "native": None, "stand_in": None, **ways}

    found: dict[str, object] = dict.fromkeys(("cycles_per_tsc", "tsc_hz"), 1.0)
    found |= {"forms": [form(name, *costs) for name, costs in PRICES.items()], "checks": [], "clock": "made up"}
    return bench.Measurement.of(found | {"clock_why": None, "cpu": 0, "rounds": 1, "disturbed": 0}, "no CPU")


def of(kernel: Kernel) -> bench.KernelEstimate:
    """A kernel at those costs."""
    return bench.estimate(kernel, made_up())


def op_of(found: bench.KernelEstimate, op: str) -> bench.OpEstimate:
    """One op."""
    return next(one for one in found.ops if one.op == op)


def test_an_op_costs_what_its_sites_become_under_each_backend(sample_kernel: Path) -> None:
    found = of(pvops.open(sample_kernel))
    assert {"native", "kvm"} <= set(found.backends)
    # Nothing inlines in the sample, which has no alternatives: its ops are called, through a thunk where they keep all.
    delay = op_of(found, "pv_cpu_ops.io_delay")
    assert delay.forms["native"] == {"called": delay.sites}
    assert delay.patched["native"] == bench.Cost(10, 20)
    assert delay.unpatched["native"] == bench.Cost(100, 200)
    switch = op_of(found, "pv_cpu_ops.start_context_switch")
    assert switch.forms["native"] == {"nop6": switch.sites}
    assert switch.patched["native"] == bench.Cost(1, 2)


def test_a_function_that_keeps_all_registers_costs_what_its_thunk_adds(sample_kernel: Path) -> None:
    unlock = op_of(of(pvops.open(sample_kernel)), "pv_lock_ops.queued_spin_unlock")
    assert unlock.forms["kvm"] == {"called_kept": unlock.sites}
    assert unlock.patched["kvm"] == bench.Cost(15, 35)
    assert unlock.unpatched["kvm"] == bench.Cost(100 + 15 - 10, 200 + 35 - 20)


def test_a_path_sums_its_functions_and_says_what_the_kernel_has_not(sample_kernel: Path) -> None:
    found = of(pvops.open(sample_kernel))
    save = found.path("local_irq_save")
    assert save.sites == {"pv_irq_ops.save_fl": 1, "pv_irq_ops.irq_disable": 1}
    assert save.unpatched["native"] == bench.Cost(200, 400)
    assert save.missing == ()
    switch = found.path("context_switch")
    assert switch.sites == {}
    assert "__switch_to" in switch.missing
    assert switch.patched["native"] == bench.Cost(0, 0)
    with pytest.raises(OpsError, match="no path brew_tea"):
        found.path("brew_tea")


def test_a_kernel_without_ops_is_an_error() -> None:
    from pvops import sample

    with pytest.raises((TableError, OpsError)):
        of(pvops.open(sample.build(ops=()).elf))


@pytest.mark.kernels
@pytest.mark.parametrize("release", ["6.1.0-56-amd64", "7.2.13+deb14-amd64"])
def test_real_kernels_inline_what_a_native_boot_inlines(kernel: Callable[[str], Kernel], release: str) -> None:
    image = kernel(release)
    found = of(image)
    if image.paravirt is not None:
        assert sum(op.sites for op in found.ops) == len(image.paravirt.rows())
    enable = op_of(found, "pv_irq_ops.irq_enable")
    assert enable.forms["native"] == {"inlined": enable.sites}
    assert enable.patched["native"] == bench.Cost(0, 0)
    assert set(enable.forms["xen"]) <= {"called", "called_kept"}
    for op in found.ops:
        for backend in found.backends:
            assert sum(op.forms[backend].values()) == op.sites
            assert op.patched[backend].loop <= op.unpatched[backend].loop
    switch = found.path("context_switch")
    assert sum(switch.sites.values()) > 0
    assert switch.patched["native"].kernel < switch.unpatched["native"].kernel
    assert "pv_irq_ops.irq_enable" in found._repr_html_()
