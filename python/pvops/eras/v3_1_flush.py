"""3.1 to 3.4 with lazy_mode.flush, which stable releases took over from 3.9 (511ba86e1d38).

Source: 3.10.4 arch/x86/include/asm/paravirt_types.h has the op, 3.2.7 the others. No image of such a release
was at hand.
"""

from __future__ import annotations

from pvops.eras import v3_1
from pvops.eras.v3_0_flush import flushing

ERA = flushing(v3_1.ERA, "3.1-flush", release="3.2.102")
