"""lguest, 2.6.23 to 4.13: the simplest hypervisor Linux had, and the guest side of the seed (i386 only).

Sources: drivers/lguest/lguest.c of the seed, 2.6.24, 2.6.26, 2.6.27, 2.6.30 and 2.6.33 arch/x86/lguest/boot.c
(lguest_init, lguest_patch) and i386_head.S (the code that lguest_patch copies).
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.eras import v2_6_24_rc1 as seed
from pvops.eras.definition import Era
from pvops.eras.records import InfoStruct
from pvops.eras.structs import Config, OpsStruct, Pointer
from pvops.eras.v2_6_22 import flattened
from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

NAME = "lguest"
ERAS = ("2.6.23-flat", "2.6.24-rc1", "2.6.24", "2.6.26", "2.6.27", "2.6.30", "2.6.33")

#: What lguest_init() writes over the native ops, structure by structure, in every era that has the op.
LGUEST_INIT: dict[str, dict[str, Pointer | Mapping[str, Pointer]]] = {
    "pv_irq_ops": {
        "init_IRQ": "lguest_init_IRQ",
        "save_fl": "save_fl",
        "restore_fl": "restore_fl",
        "irq_disable": "irq_disable",
        "irq_enable": "irq_enable",
        "safe_halt": "lguest_safe_halt",
    },
    "pv_init_ops": {
        "memory_setup": "lguest_memory_setup",
        "patch": "lguest_patch",
    },
    "pv_misc_ops": {
        "set_lazy_mode": "lguest_lazy_mode",
    },
    "pv_time_ops": {
        "get_wallclock": "lguest_get_wallclock",
        "time_init": "lguest_time_init",
    },
    "pv_cpu_ops": {
        "load_gdt": "lguest_load_gdt",
        "cpuid": "lguest_cpuid",
        "load_idt": "lguest_load_idt",
        "iret": "lguest_iret",
        "load_esp0": "lguest_load_esp0",
        "load_sp0": "lguest_load_sp0",
        "load_tr_desc": "lguest_load_tr_desc",
        "set_ldt": "lguest_set_ldt",
        "load_tls": "lguest_load_tls",
        "set_debugreg": "lguest_set_debugreg",
        "clts": "lguest_clts",
        "read_cr0": "lguest_read_cr0",
        "write_cr0": "lguest_write_cr0",
        "read_cr4": "lguest_read_cr4",
        "write_cr4": "lguest_write_cr4",
        "write_gdt_entry": "lguest_write_gdt_entry",
        "write_idt_entry": "lguest_write_idt_entry",
        "wbinvd": "lguest_wbinvd",
        "lazy_mode.enter": "paravirt_enter_lazy_cpu",
        "lazy_mode.leave": "lguest_leave_lazy_mode",
        "start_context_switch": "paravirt_start_context_switch",
        "end_context_switch": "lguest_end_context_switch",
    },
    "pv_mmu_ops": {
        "write_cr3": "lguest_write_cr3",
        "flush_tlb_user": "lguest_flush_tlb_user",
        "flush_tlb_single": "lguest_flush_tlb_single",
        "flush_tlb_kernel": "lguest_flush_tlb_kernel",
        "set_pte": "lguest_set_pte",
        "set_pte_at": "lguest_set_pte_at",
        "set_pmd": "lguest_set_pmd",
        "read_cr2": "lguest_read_cr2",
        "read_cr3": "lguest_read_cr3",
        "lazy_mode.enter": "paravirt_enter_lazy_mmu",
        "lazy_mode.leave": "lguest_leave_lazy_mode",
    },
    "pv_apic_ops": {
        "apic_write": "lguest_apic_write",
        "apic_write_atomic": "lguest_apic_write",
        "apic_read": "lguest_apic_read",
    },
}

#: What lguest_init() of 2.6.26 to 2.6.31 writes besides.
LGUEST_INIT_2_6_26: dict[str, dict[str, Pointer | Mapping[str, Pointer]]] = {
    "pv_time_ops": {
        "get_cpu_khz": "lguest_cpu_khz",
        "get_tsc_khz": "lguest_tsc_khz",
    },
}
#: What 2.6.30's writes otherwise or besides: callee-save irq ops, entries changed in place.
LGUEST_INIT_2_6_30: dict[str, dict[str, Pointer | Mapping[str, Pointer]]] = {
    "pv_irq_ops": {op: f"__raw_callee_save_{op}" for op in ("save_fl", "restore_fl", "irq_disable", "irq_enable")},
    "pv_mmu_ops": {
        "pte_update": "lguest_pte_update",
        "pte_update_defer": "lguest_pte_update",
    },
}
#: What 2.6.33's lguest_init() writes otherwise or besides: callee-save irq ops, PAE, entries changed in place.
LGUEST_INIT_2_6_33: dict[str, dict[str, Pointer | Mapping[str, Pointer]]] = {
    "pv_irq_ops": {
        "save_fl": "__raw_callee_save_save_fl",
        "restore_fl": "lg_restore_fl",
        "irq_disable": "__raw_callee_save_irq_disable",
        "irq_enable": "lg_irq_enable",
    },
    "pv_mmu_ops": {
        "lazy_mode.leave": "lguest_leave_lazy_mmu_mode",
        "set_pte_atomic": "lguest_set_pte_atomic",
        "pte_clear": "lguest_pte_clear",
        "pmd_clear": "lguest_pmd_clear",
        "set_pud": "lguest_set_pud",
        "pte_update": "lguest_pte_update",
        "pte_update_defer": "lguest_pte_update",
    },
}


#: Eras → what is written otherwise or besides.
BESIDES = {
    ("2.6.26", "2.6.27", "2.6.30"): LGUEST_INIT_2_6_26,
    ("2.6.30",): LGUEST_INIT_2_6_30,
    ("2.6.33",): LGUEST_INIT_2_6_33,
}


def _check(era: Era, config: Config) -> None:
    if era.name not in ERAS:
        raise OpsError(f"lguest has no ops for {era.name}; it has for {', '.join(ERAS)}")
    if config.bits == 64:
        raise OpsError("lguest guests are i386")
    if era.name != "2.6.33" and config.holds("X86_PAE"):
        raise OpsError(f"lguest guests of {era.name} need CONFIG_X86_PAE off")


def structs(era: Era, config: Config) -> tuple[OpsStruct, ...]:
    """The ops of a guest after lguest_init(): the native ones, with lguest's in the places it overrides.

    Raises:
        OpsError: for an era or a configuration that lguest does not run in.
    """
    _check(era, config)
    if era.name == "2.6.23-flat":
        return (flattened(type(era.native(config)[0]), structs(seed.ERA, config)),)
    out = []
    for struct in era.native(config):
        name = type(struct).__name__
        changes = dict(LGUEST_INIT.get(name, {}))
        for eras, table in BESIDES.items():
            changes |= table.get(name, {}) if era.name in eras else {}
        out.append(struct.replace(**{op: pointer for op, pointer in changes.items() if op in struct.values}))
    return tuple(out)


def info(era: Era) -> InfoStruct:
    """pv_info of a guest."""
    return era.info.replace(name="lguest", paravirt_enabled=1, kernel_rpl=1)


def code(era: Era, irq_enabled: int) -> dict[str, bytes]:
    """The instructions lguest_patch copies, op by op (``LGUEST_PATCH`` of i386_head.S).

    Interrupts are a flag in memory that the Host reads: no privileged instruction, hence no trap.

    Args:
        era: 2.6.33 has two of the four; the others need a look at pending interrupts by then.
        irq_enabled: address of ``lguest_data.irq_enabled``, where the flag is.
    """
    address = irq_enabled.to_bytes(4, "little")
    out = {
        "pv_irq_ops.irq_disable": b"\xc7\x05" + address + bytes(4),  # movl $0, irq_enabled
        "pv_irq_ops.irq_enable": b"\xc7\x05" + address + (0x200).to_bytes(4, "little"),  # movl $X86_EFLAGS_IF, …
        "pv_irq_ops.restore_fl": b"\xa3" + address,  # movl %eax, irq_enabled
        "pv_irq_ops.save_fl": b"\xa1" + address,  # movl irq_enabled, %eax
    }
    if era.name == "2.6.23-flat":
        return {f"paravirt_ops.{op.partition('.')[2]}": text for op, text in out.items()}
    if era.name == "2.6.33":
        del out["pv_irq_ops.irq_enable"], out["pv_irq_ops.restore_fl"]
    return out


def patch_function(era: Era, code: Mapping[str, bytes]) -> PatchFunction:
    """lguest_patch: inline by type, whatever the op holds and the clobbers say; default rules where it does not fit.

    Args:
        era: decides which ops are in the table.
        code: op → instructions, from `code` or read out of a kernel.
    """
    from pvops.eras.patching import Inline, PatchFunction

    switch = {op: Inline(text, no_room="default") for op, text in code.items()}
    return PatchFunction("lguest_patch", f"{era.name} arch/x86/lguest/boot.c", switch)


def load_lg(era: Era, running: InfoStruct, *, license: str = "GPL") -> None:
    """Load lg.ko, the Host's module, into a kernel that runs with this ``pv_info``.

    Raises:
        OpsError: in the module's words if the kernel is a guest itself: lguest inside lguest, Xen or VMI does not work.
            In the loader's words if a module of this licence cannot see pv_info (nobody could before the post).
    """
    era.symbol_for_module("pv_info", license=license, module="lg")
    if running["paravirt_enabled"]:
        raise OpsError(f"lguest is afraid of {running['name']}")
