"""3.5 to 3.9 with lazy_mode.flush (511ba86e1d38, 3.9), which stable releases took over.

Source: 3.10.4 arch/x86/include/asm/paravirt_types.h has the op, 3.6.5 the others. No image of such a release
was at hand.
"""

from __future__ import annotations

from pvops.eras import v3_5
from pvops.eras.v3_0_flush import flushing

ERA = flushing(v3_5.ERA, "3.5-flush", release="3.8.13")
