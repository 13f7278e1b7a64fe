"""Bare hardware: ``pv_ops`` as the kernel was built, and what the CPU alone changes.

``io_delay=`` and the boot options for the TSC choose inside the native functions and never change a slot; nor do the
mitigations. SEV changes no op by itself (KVM does for its guests). So up to 6.1 every slot keeps its static contents.

Sources: 6.12 arch/x86/coco/tdx/tdx.c ``tdx_early_init`` (also in later 6.x stable kernels),
arch/x86/include/asm/gsseg.h ``lkgs_init``.
"""

from __future__ import annotations

from pvops.backends.backend import Assign, Backend, Step
from pvops.backends.conditions import flag

_TDX = flag("tdx_guest", "TDX_GUEST")
_LKGS = flag("lkgs", "LKGS")
_TDX_INIT = "arch/x86/coco/tdx/tdx.c: tdx_early_init"
_LKGS_INIT = "arch/x86/include/asm/gsseg.h: lkgs_init"

#: What the CPU changes from 6.12 on, under every hypervisor but Xen PV (which masks both features).
CPU_6_12: tuple[Step, ...] = (
    Assign("pv_irq_ops.safe_halt", "tdx_safe_halt", _TDX, _TDX_INIT, "INTEL_TDX_GUEST"),
    Assign("pv_irq_ops.halt", "tdx_halt", _TDX, _TDX_INIT, "INTEL_TDX_GUEST"),
    Assign("pv_cpu_ops.load_gs_index", "native_lkgs", _LKGS, _LKGS_INIT, "X86_64&PARAVIRT_XXL"),
)

backend = Backend(
    "native",
    "bare hardware",
    "none",
    {"2.6.20": (), "6.12": CPU_6_12},
)
