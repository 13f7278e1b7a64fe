"""4.3: read_tsc, read_tscp and get_tsc_khz are gone: rdtsc needs no op (9261e050b686).

Sources: 4.3.3 arch/x86/include/asm/paravirt_types.h, arch/x86/kernel/paravirt_patch_32.c.
"""

from __future__ import annotations

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras import v3_1, v3_15, v4_1, v4_2
from pvops.eras.structs import Config, OpsStruct, gone, made_once, refilled, renewed
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class pv_time_ops(v3_1.pv_time_ops):
    """Time."""

    get_tsc_khz = gone


class pv_cpu_ops(v4_2.pv_cpu_ops):
    """Privileged instructions."""

    read_tsc = gone
    read_tscp = gone


#: The order of struct paravirt_patch_template.
STRUCTS = renewed(v4_2.STRUCTS, pv_time_ops, pv_cpu_ops)


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """The structures as linked."""
    return refilled(STRUCTS, v4_2.native(config), {})


#: DEF_NATIVE of paravirt_patch_32.c.
DEF_NATIVE_32 = {op: code for op, code in seed.DEF_NATIVE.items() if op != "pv_cpu_ops.read_tsc"}


def native_patch(config: Config) -> PatchFunction:
    """As `v4_2.patch` says."""
    code = v3_15.DEF_NATIVE_64 if config.bits == 64 else DEF_NATIVE_32
    return v4_2.patch(config, f"4.4.1 arch/x86/kernel/paravirt_patch_{config.bits}.c", code, {})


#: arch/x86/include/asm/cpufeature.h or cpufeatures.h.
NUMBERS = v4_1.NUMBERS.then(
    "4.4.1",
    ncapints=14,
    nbugints=1,
    words={
        4: "SDBG:11",
        6: "MWAITX:29",
        7: "-HWP_NOITFY HWP_NOTIFY:11",
        8: "XENPV:16",
        9: "SHA_NI:29",
        13: "CLZERO:0",
    },
)

ERA = v4_2.ERA.then("4.3", "4.3.3: arch/x86/include/asm/paravirt_types.h")._replace(
    arrays=(Array("paravirt_patch_template", STRUCTS),),
    native=native,
    native_patch=native_patch,
    numbers=(NUMBERS,),
)
