"""What a call site costs on the CPU this runs on, and what that means for a kernel.

::

    from pvops import bench

    found = bench.measure()
    found["indirect_call"].cycles, found["indirect_call"].distinct_sites_cycles
    bench.estimate(pvops.open("vmlinuz"), found).path("spin_unlock")

>>> list(pvops.bench.PATHS)[:4]
['local_irq_save', 'local_irq_enable', 'set_pte', 'spin_lock']

Every site is real code, laid out as in a kernel and patched by the same passes, and really executed. The page "What a
call site costs" says how, and how far to trust it.
"""

from __future__ import annotations

from pvops.bench.kernel import Cost, KernelEstimate, OpEstimate, PathEstimate, estimate
from pvops.bench.measurement import WAYS, Check, FormCost, Measurement, Range, measure
from pvops.bench.paths import PATHS, Path

__all__ = [
    "PATHS",
    "WAYS",
    "Check",
    "Cost",
    "FormCost",
    "KernelEstimate",
    "Measurement",
    "OpEstimate",
    "Path",
    "PathEstimate",
    "Range",
    "estimate",
    "measure",
]
