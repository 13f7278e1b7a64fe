"""VMI, 2.6.21 to 2.6.36: VMware's interface, where a ROM of the hypervisor says what to do with each op (i386 only).

Sources: 2.6.24 and 2.6.33 arch/x86/kernel/vmi_32.c (activate_vmi, vmi_patch); call numbers as the ROM counts them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.eras.definition import Era
from pvops.eras.records import InfoStruct
from pvops.eras.structs import Config, OpsStruct, Pointer
from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import PatchFunction

NAME = "vmi"
ERAS = ("2.6.24-rc1", "2.6.24", "2.6.33")

_CALLS = (
    "CPUID WRMSR RDMSR SetGDT SetLDT SetIDT SetTR GetGDT GetLDT GetIDT GetTR WriteGDTEntry WriteLDTEntry WriteIDTEntry "
    "UpdateKernelStack SetCR0 SetCR2 SetCR3 SetCR4 GetCR0 GetCR2 GetCR3 GetCR4 WBINVD SetDR GetDR RDPMC RDTSC CLTS "
    "EnableInterrupts DisableInterrupts GetInterruptMask SetInterruptMask IRET SYSEXIT Halt Reboot Shutdown SetPxE "
    "SetPxELong UpdatePxE UpdatePxELong MachineToPhysical PhysicalToMachine AllocatePage ReleasePage InvalPage "
    "FlushTLB SetLinearMapping"
)
#: VMI call → its number.
CALLS = {name: number for number, name in enumerate(_CALLS.split())} | {
    "SetIOPLMask": 61,
    "SetInitialAPState": 62,
    "APICWrite": 63,
    "APICRead": 64,
    "IODelay": 65,
    "GetCycleFrequency": 66,
    "SetLazyMode": 73,
}

#: What a ROM answers: call → the function in the ROM to use, ``"nop"``, or nothing (the native op stays).
Answers = Mapping[str, str]

#: A ROM with a function for every call, named ``vrom:CALL``.
FULL_ROM: Answers = {name: f"vrom:{name}" for name in CALLS}

#: para_fill: ops that a ROM function can stand in for as it is.
PARA_FILL = {
    "pv_cpu_ops": {
        "clts": "CLTS",
        "get_debugreg": "GetDR",
        "set_debugreg": "SetDR",
        "read_cr0": "GetCR0",
        "read_cr4": "GetCR4",
        "write_cr0": "SetCR0",
        "write_cr4": "SetCR4",
        "wbinvd": "WBINVD",
        "read_tsc": "RDTSC",
        "load_gdt": "SetGDT",
        "load_idt": "SetIDT",
        "store_gdt": "GetGDT",
        "store_idt": "GetIDT",
        "store_tr": "GetTR",
        "write_ldt_entry": "WriteLDTEntry",
        "write_gdt_entry": "WriteGDTEntry",
        "write_idt_entry": "WriteIDTEntry",
        "set_iopl_mask": "SetIOPLMask",
        "io_delay": "IODelay",
    },
    "pv_irq_ops": {
        "save_fl": "GetInterruptMask",
        "restore_fl": "SetInterruptMask",
        "irq_disable": "DisableInterrupts",
        "irq_enable": "EnableInterrupts",
        "safe_halt": "Halt",
    },
    "pv_mmu_ops": {
        "read_cr2": "GetCR2",
        "read_cr3": "GetCR3",
        "write_cr2": "SetCR2",
        "write_cr3": "SetCR3",
        "flush_tlb_single": "InvalPage",
    },
    "pv_apic_ops": {
        "apic_read": "APICRead",
        "apic_write": "APICWrite",
        "apic_write_atomic": "APICWrite",
    },
}

#: para_wrap and its like: ops that need a function of Linux between them and the ROM: op → (call, function).
#: The first table is for every era that has the op.
PARA_WRAP = {
    "pv_misc_ops": {
        "set_lazy_mode": ("SetLazyMode", "vmi_set_lazy_mode"),
    },
    "pv_time_ops": {
        "time_init": ("GetCycleFrequency", "vmi_time_init"),
        "get_wallclock": ("GetCycleFrequency", "vmi_get_wallclock"),
        "set_wallclock": ("GetCycleFrequency", "vmi_set_wallclock"),
        "sched_clock": ("GetCycleFrequency", "vmi_sched_clock"),
        "get_cpu_khz": ("GetCycleFrequency", "vmi_cpu_khz"),
    },
    "pv_cpu_ops": {
        "cpuid": ("CPUID", "vmi_cpuid"),
        "load_tr_desc": ("SetTR", "vmi_set_tr"),
        "set_ldt": ("SetLDT", "vmi_set_ldt"),
        "load_esp0": ("UpdateKernelStack", "vmi_load_esp0"),
        "load_sp0": ("UpdateKernelStack", "vmi_load_sp0"),
        "lazy_mode.enter": ("SetLazyMode", "vmi_enter_lazy_cpu"),
        "lazy_mode.leave": ("SetLazyMode", "vmi_leave_lazy"),
        "start_context_switch": ("SetLazyMode", "vmi_start_context_switch"),
        "end_context_switch": ("SetLazyMode", "vmi_end_context_switch"),
    },
    "pv_mmu_ops": {
        "lazy_mode.enter": ("SetLazyMode", "vmi_enter_lazy_mmu"),
        "lazy_mode.leave": ("SetLazyMode", "vmi_leave_lazy"),
        "flush_tlb_user": ("FlushTLB", "vmi_flush_tlb_user"),
        "flush_tlb_kernel": ("FlushTLB", "vmi_flush_tlb_kernel"),
        "alloc_pt": ("AllocatePage", "vmi_allocate_pt"),
        "alloc_pd": ("AllocatePage", "vmi_allocate_pd"),
        "alloc_pd_clone": ("AllocatePage", "vmi_allocate_pd_clone"),
        "release_pt": ("ReleasePage", "vmi_release_pt"),
        "release_pd": ("ReleasePage", "vmi_release_pd"),
        "alloc_pte": ("AllocatePage", "vmi_allocate_pte"),
        "alloc_pmd": ("AllocatePage", "vmi_allocate_pmd"),
        "alloc_pmd_clone": ("AllocatePage", "vmi_allocate_pmd_clone"),
        "release_pte": ("ReleasePage", "vmi_release_pte"),
        "release_pmd": ("ReleasePage", "vmi_release_pmd"),
        "kmap_atomic_pte": ("SetLinearMapping", "vmi_kmap_atomic_pte"),
        "set_pte": ("SetPxE", "vmi_set_pte"),
        "set_pte_at": ("SetPxE", "vmi_set_pte_at"),
        "set_pmd": ("SetPxE", "vmi_set_pmd"),
        "set_pte_atomic": ("SetPxE", "vmi_set_pte_atomic"),
        "set_pte_present": ("SetPxE", "vmi_set_pte_present"),
        "set_pud": ("SetPxE", "vmi_set_pud"),
        "pte_clear": ("SetPxE", "vmi_pte_clear"),
        "pmd_clear": ("SetPxE", "vmi_pmd_clear"),
        "pte_update": ("UpdatePxE", "vmi_update_pte"),
        "pte_update_defer": ("UpdatePxE", "vmi_update_pte_defer"),
    },
    "pv_apic_ops": {
        "setup_boot_clock": ("GetCycleFrequency", "vmi_time_bsp_init"),
        "setup_secondary_clock": ("GetCycleFrequency", "vmi_time_ap_init"),
        "startup_ipi_hook": ("SetInitialAPState", "vmi_startup_ipi_hook"),
    },
}
#: 2.6.33 wraps the descriptor writes, which used to be filled, and frees top levels.
PARA_WRAP_2_6_33 = {
    "pv_cpu_ops": {
        "write_ldt_entry": ("WriteLDTEntry", "vmi_write_ldt_entry"),
        "write_gdt_entry": ("WriteGDTEntry", "vmi_write_gdt_entry"),
        "write_idt_entry": ("WriteIDTEntry", "vmi_write_idt_entry"),
    },
    "pv_mmu_ops": {
        "lazy_mode.leave": ("SetLazyMode", "vmi_leave_lazy_mmu"),
        "pgd_free": ("ReleasePage", "vmi_pgd_free"),
    },
}


def structs(era: Era, config: Config, rom: Answers = FULL_ROM) -> tuple[OpsStruct, ...]:
    """The ops after activate_vmi(): the native ones, and for each call the ROM knows, the ROM's function or Linux's.

    iret and irq_enable_sysexit hold poison: the ROM may want a jump or a call there, and only patching can do that.

    Args:
        era: one of `ERAS`.
        config: of the kernel.
        rom: what the ROM answers (see `Answers`).

    Raises:
        OpsError: for an era or a configuration that VMI does not run in, or a call that does not exist.
    """
    if era.name not in ERAS:
        raise OpsError(f"vmi has no ops for {era.name}; it has for {', '.join(ERAS)}")
    if config.bits == 64:
        raise OpsError("vmi guests are i386")
    unknown = [call for call in rom if call not in CALLS]
    if unknown:
        raise OpsError(f"VMI has no call {unknown[0]}")
    return tuple(struct.replace(**_changes(era, config, struct, rom)) for struct in era.native(config))


def _changes(era: Era, config: Config, struct: OpsStruct, rom: Answers) -> dict[str, Pointer | Mapping[str, Pointer]]:
    name = type(struct).__name__
    out: dict[str, Pointer | Mapping[str, Pointer]] = {}
    for op, call in PARA_FILL.get(name, {}).items():
        if call in rom:
            out[op] = "vmi_nop" if rom[call] == "nop" else rom[call]
    wrapped = dict(PARA_WRAP.get(name, {}))
    if era.name == "2.6.33":
        wrapped |= PARA_WRAP_2_6_33.get(name, {})
    for op, (call, function) in wrapped.items():
        if config.holds("X86_PAE") and call in ("SetPxE", "UpdatePxE"):
            call += "Long"
        if op == "startup_ipi_hook" and not config.holds("SMP"):
            continue
        if op in PARA_FILL.get(name, {}):
            out.pop(op, None)
        if rom.get(call, "nop") != "nop":
            out[op] = function
    if name == "pv_init_ops":
        out["patch"] = "vmi_patch"
    if name == "pv_cpu_ops":
        out |= {"load_tls": "vmi_load_tls", "irq_enable_sysexit": "0xfeedbab0", "iret": "0xbadbab0"}
    return {op: pointer for op, pointer in out.items() if op in struct.values}


def info(era: Era, kernel_rpl: int = 1) -> InfoStruct:
    """pv_info of a guest; ``kernel_rpl`` is the ring the hypervisor runs it in, read from %cs."""
    name = "vmi [deprecated]" if era.name == "2.6.33" else "vmi"
    return era.info.replace(name=name, paravirt_enabled=1, kernel_rpl=kernel_rpl)


def patch_function(era: Era) -> PatchFunction:
    """vmi_patch: six ops are what the ROM answers for a call; every other site is left as it is, even NULL and nops.

    It asks neither op nor clobbers. A call or jump needs 5 bytes, and an answer must be known, else BUG.
    """
    from pvops.eras.patching import PatchFunction, Rom

    switch = {
        "pv_irq_ops.irq_disable": Rom(CALLS["DisableInterrupts"]),
        "pv_irq_ops.irq_enable": Rom(CALLS["EnableInterrupts"]),
        "pv_irq_ops.restore_fl": Rom(CALLS["SetInterruptMask"]),
        "pv_irq_ops.save_fl": Rom(CALLS["GetInterruptMask"]),
        "pv_cpu_ops.iret": Rom(CALLS["IRET"]),
        "pv_cpu_ops.irq_enable_sysexit": Rom(CALLS["SYSEXIT"]),
    }
    return PatchFunction("vmi_patch", f"{era.name} arch/x86/kernel/vmi_32.c", switch, "ignore")
