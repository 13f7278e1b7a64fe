"""3.3: rows of .altinstructions refer to code by its distance, and capability numbers have two bytes (59e97e4d6fbc).

Source: 3.6.5 arch/x86/include/asm/alternative.h.
"""

from __future__ import annotations

from pvops.eras import v3_1
from pvops.eras.records import ALT_INSTR_12, PATCH_SITE

ERA = v3_1.ERA.then("3.3", "3.6.5: arch/x86/include/asm/alternative.h")._replace(records=(PATCH_SITE, ALT_INSTR_12))
