"""3.15: iret is a jump on x86-64 again, and no more inlined, since espfix64 (3891a04aafd6, 3.16 and its stable ports).

An image from before it, such as 3.15.8's, has the code still: its label tells.

Source: 3.16 arch/x86/kernel/paravirt_patch_64.c; an image of 3.15.8.
"""

from __future__ import annotations

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras import v2_6_27, v3_10, v3_12
from pvops.eras.structs import Config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

#: DEF_NATIVE of paravirt_patch_64.c.
DEF_NATIVE_64 = {op: code for op, code in v2_6_27.DEF_NATIVE_64.items() if op != "pv_cpu_ops.iret"}


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, whatever the op holds; too little room keeps the indirect call."""
    from pvops.eras.patching import Inline, inline_all

    code = DEF_NATIVE_64 if config.bits == 64 else seed.DEF_NATIVE
    found = inline_all("native_patch", f"3.16 arch/x86/kernel/paravirt_patch_{config.bits}.c", code)
    if config.bits == 32:
        return found
    op = "pv_cpu_ops.iret"
    return found._replace(labelled={op: Inline(bytes.fromhex(v2_6_27.DEF_NATIVE_64[op]))})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v3_10.NUMBERS.then(
    "3.16",
    ncapints=10,
    nbugints=1,
    words={
        0: "-CLFLSH CLFLUSH:19",
        3: "ALWAYS:21",
        9: "MPX:14 AVX512F:16 CLFLUSHOPT:23 AVX512PF:26 AVX512ER:27 AVX512CD:28",
    },
)

ERA = v3_12.ERA.then("3.15", "3.16: arch/x86/kernel/paravirt_patch_64.c")._replace(
    native_patch=native_patch,
    numbers=(NUMBERS,),
)
