"""3.3: rows of .altinstructions refer to code by its distance, and capability numbers have two bytes (59e97e4d6fbc).

Source: 3.6.5 arch/x86/include/asm/alternative.h.
"""

from __future__ import annotations

from pvops.eras import v3_1
from pvops.eras.records import ALT_INSTR_12, PATCH_SITE
from pvops.eras.structs import Config, OpsStruct, made_once
from pvops.eras.template import Array

#: The order of struct paravirt_patch_template: no 3.3 is Debian's 3.2.
STRUCTS = v3_1.STRUCTS[:-1]


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return v3_1.native(config)[:-1]


ERA = v3_1.ERA.then("3.3", "3.6.5: arch/x86/include/asm/alternative.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    configs=tuple(option for option in v3_1.ERA.configs if option != v3_1.DEBIAN_FLUSH),
    native=native,
    records=(PATCH_SITE, ALT_INSTR_12),
)
