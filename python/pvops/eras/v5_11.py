"""5.11: as 5.10 was released.

Source: 5.11 arch/x86/include/asm/paravirt_types.h.
"""

from __future__ import annotations

from pvops.eras import v5_10_0

ERA = v5_10_0.ERA.then("5.11", "5.11: arch/x86/include/asm/paravirt_types.h")
