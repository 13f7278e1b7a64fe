"""6.1: a retpoline's jump is followed by int3 (8c03af3e090e), and Debian's page tables have five levels.

Sources: Debian 6.1 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import numbers_6_1, v5_18
from pvops.eras.records import Option
from pvops.eras.rules import Passes

ERA = v5_18.ERA.then(
    "6.1", "Debian 6.1.192: arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt.c, alternative.c"
)._replace(
    configs=tuple(
        Option(o.symbol, o.meaning, (False, True), depends=o.depends) if o.symbol == "X86_5LEVEL" else o
        for o in v5_18.ERA.configs
    ),
    passes=(Passes("6.5", symbol="apply_relocation"), Passes("6.1")),
    numbers=(numbers_6_1.declared,),
)
