"""3.1 to 3.4 with lazy_mode.flush, which stable releases took over from 3.9 (511ba86e1d38).

Source: 3.10.4 arch/x86/include/asm/paravirt_types.h has the op, 3.2.7 the others. No image of such a release
was at hand.
"""

from __future__ import annotations

from pvops.eras import v3_1
from pvops.eras.structs import Config, OpsStruct, made_once, refilled, renewed
from pvops.eras.template import Array
from pvops.eras.v3_0_flush import FLUSH, pv_mmu_ops

#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v3_1.STRUCTS, pv_mmu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v3_1.native(config), FLUSH)


ERA = v3_1.ERA.then("3.1-flush", "3.10.4: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),), native=native, release="3.2.102"
)
