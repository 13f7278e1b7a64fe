"""4.1: rows of .altinstructions say how much of a site is padding (4332195c5615); a jump is moved too (48c7a2509f9e).

Source: 4.1.52 arch/x86/include/asm/alternative.h, arch/x86/kernel/alternative.c.
"""

from __future__ import annotations

from pvops.eras import v3_15
from pvops.eras.records import ALT_INSTR_13, PATCH_SITE
from pvops.eras.rules import Passes

#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v3_15.NUMBERS.then(
    "4.1.52",
    ncapints=13,
    nbugints=1,
    words={
        3: "-FXSAVE_LEAK -11AP -CLFLUSH_MONITOR",
        6: "BPEXT:26",
        7: "-XSAVEOPT HWP:10 HWP_NOITFY:11 HWP_ACT_WINDOW:12 HWP_EPP:13 HWP_PKG_REQ:14 INTEL_PT:15",
        8: "VMMCALL:15",
        9: "CQM:12 PCOMMIT:22 CLWB:24",
        10: "XSAVEOPT:0 XSAVEC:1 XGETBV1:2 XSAVES:3",
        11: "CQM_LLC:1",
        12: "CQM_OCCUP_LLC:0",
    },
    bugs="11AP:5 FXSAVE_LEAK:6 CLFLUSH_MONITOR:7 SYSRET_SS_ATTRS:8",
)

ERA = v3_15.ERA.then("4.1", "4.1.52: arch/x86/include/asm/alternative.h, arch/x86/kernel/alternative.c")._replace(
    records=(PATCH_SITE, ALT_INSTR_13),
    # Without padlen the rows and the passes are those that stable kernels took from 5.19.
    passes=(Passes("5.10.0", layout="padlen"), Passes("5.10")),
    numbers=(NUMBERS,),
)
