"""2.6.21: sites and numbers as in 2.6.20; VMI asks its ROM for the code of six of the seven (i386 only).

struct paravirt_ops grew by what VMI needs, and its nop counts as any function. ``noreplacement`` went with this
release.

Sources: 2.6.21 include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c, alternative.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_20

ERA = v2_6_20.ERA._replace(
    name="2.6.21",
    source="2.6.21: include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c",
    backends=("native", "vmi"),
    release="2.6.21",
)
