"""2.6.20, the first release with CONFIG_PARAVIRT: seven kinds of sites, which have numbers of their own (i386 only).

All other ops of struct paravirt_ops are called where the compiler put the call, and are never patched.

Sources: 2.6.20 include/asm-i386/paravirt.h (``PARAVIRT_IRQ_DISABLE`` and its like), arch/i386/kernel/paravirt.c
(native_insns, native_patch), alternative.c (apply_paravirt, which patches in place). With CONFIG_DEBUG_PARAVIRT it puts
``not %reg`` behind what it wrote, to find bugs: that is not restated here.
"""

from __future__ import annotations

from pvops.eras import v2_6_22
from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.rules import ParavirtRules
from pvops.eras.structs import Config, Op, OpsStruct, made_once
from pvops.eras.template import Array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction


class paravirt_ops(OpsStruct):
    """The ops that sites call, in the order of their numbers; those of struct paravirt_ops lie apart in it."""

    export = "EXPORT_SYMBOL_GPL"

    irq_disable = Op(doc="no interrupts from here")
    irq_enable = Op(doc="interrupts from here")
    restore_fl = Op(doc="set the interrupt flag as it was saved")
    save_fl = Op(doc="return the flags; only the interrupt flag counts")
    save_fl_irq_disable = Op(doc="no op of its own: the sites call save_fl, then irq_disable")
    iret = Op(jump=True, doc="return from an interrupt; jumped to")
    irq_enable_sysexit = Op(jump=True, doc="interrupts on and back to user space by sysexit; jumped to")


@made_once
def native(config: Config) -> tuple[OpsStruct, ...]:
    """What the slots hold as linked."""
    held = {op: f"native_{op}" for op in paravirt_ops.ops}
    return (paravirt_ops(**{**held, "save_fl_irq_disable": held["save_fl"]}),)


#: native_insns[].
CODE = {
    "paravirt_ops.irq_disable": "fa",  # cli
    "paravirt_ops.irq_enable": "fb",  # sti
    "paravirt_ops.restore_fl": "50 9d",  # push %eax; popf
    "paravirt_ops.save_fl": "9c 58",  # pushf; pop %eax
    "paravirt_ops.save_fl_irq_disable": "9c 58 fa",  # pushf; pop %eax; cli
    "paravirt_ops.iret": "cf",  # iret
    "paravirt_ops.irq_enable_sysexit": "fb 0f 35",  # sti; sysexit
}


def native_patch(config: Config) -> PatchFunction:
    """Inlines by type, whatever the op holds; a site of another type, or with too little room, stays as built."""
    from pvops.eras.patching import inline_all

    return inline_all("native_patch", "2.6.20 arch/i386/kernel/paravirt.c", CODE)._replace(otherwise="ignore")


ERA = v2_6_22.ERA._replace(
    name="2.6.20",
    source="2.6.20: include/asm-i386/paravirt.h, arch/i386/kernel/paravirt.c",
    arrays=(Array("paravirt_ops", (paravirt_ops,), "paravirt_ops", export="EXPORT_SYMBOL_GPL", numbered=True),),
    configs=tuple(option for option in seed.OPTIONS if option.symbol in ("X86_PAE", "SMP", "X86_LOCAL_APIC")),
    native=native,
    native_patch=native_patch,
    offsets=(),
    paravirt=ParavirtRules("2.6.20", "ud2", "native_nop", {}, True, False, "keep", "arch/i386/kernel/paravirt.c"),
    marks={"paravirt_ops": True, "paravirt_patch_default": False, "pv_init_ops": False, **seed.SINCE_2007},
    backends=("native",),
    release="2.6.20",
)
