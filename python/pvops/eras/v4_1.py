"""4.1: alternatives know how much of their site is padding (4332195c5615), and move a jump too (48c7a2509f9e).

Source: 4.1.52 arch/x86/include/asm/alternative.h, arch/x86/kernel/alternative.c.
"""

from __future__ import annotations

from pvops.eras import v3_15
from pvops.eras.records import ALT_INSTR_13, PATCH_SITE
from pvops.eras.rules import Passes

ERA = v3_15.ERA.then("4.1", "4.1.52: arch/x86/include/asm/alternative.h, arch/x86/kernel/alternative.c")._replace(
    records=(PATCH_SITE, ALT_INSTR_13),
    # Without padlen the rows and the passes are those that stable kernels took from 5.19.
    passes=(Passes("5.10.0", layout="padlen"), Passes("5.10")),
)
