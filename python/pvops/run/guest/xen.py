"""The guest side of Xen PV, 2007: hypercalls through Xen's page of them, and multicalls as batches.

Sources: arch/x86/xen/{enlighten,irq,mmu,multicalls,setup,time}.c of 2.6.24. A physical page is the machine page of the
same number here, so that what converts one into the other has nothing to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvops.asm import Local, Value, addr, align, asciz, data, function, label, mem, space, u32
from pvops.asm.operands import al, bl, bx, eax, ebp, ebx, ecx, edi, edx, esi, esp
from pvops.asm.statements import Body, Statement
from pvops.asm.x86 import (
    adcl,
    addl,
    andl,
    call,
    cmpb,
    cmpl,
    divl,
    incl,
    je,
    jmp,
    jne,
    js,
    leal,
    movb,
    movl,
    movw,
    movzbl,
    movzwl,
    orl,
    popal,
    popfl,
    popl,
    pushal,
    pushfl,
    pushl,
    rdtsc,
    ret,
    sbbl,
    shll,
    shrl,
    subl,
    testl,
    xorl,
)
from pvops.run.guest.layout import GDT_TLS, TLS_ARRAY, TLS_ENTRIES, Build
from pvops.run.hosts.xen import (
    ARCH_CR2,
    BATCH,
    CALLS,
    CPUID_PREFIX,
    DOMID_SELF,
    MASK,
    MMUEXT,
    PENDING,
    SYSTEM_TIME,
    TSC_MUL,
    TSC_SHIFT,
    TSC_STAMP,
    WC_SEC,
)
from pvops.run.paging import PAGE_OFFSET

if TYPE_CHECKING:
    pass

LAZY_MMU, LAZY_CPU, LAZY_FLUSH = 1, 2, 3
__KERNEL_DS = 0x18
_NUMBERS = {name: number for number, name in CALLS.items()}
_EXT = {name: number for number, name in MMUEXT.items()}


def _shared(offset: int) -> Value:
    return addr("xen_shared_info") + offset


def hypercall(name: str) -> Statement:
    """``call hypercall_page + 32 * number``; ebx, ecx, edx, esi, edi are its arguments."""
    return call(addr("hypercall_page") + 32 * _NUMBERS[name])


def keeping(name: str, *body: Body) -> Body:
    """A function that keeps ebx, esi and edi; arguments on the stack start at 16(%esp)."""
    return function(name, pushl(ebx), pushl(esi), pushl(edi), *body, popl(edi), popl(esi), popl(ebx), ret())


def entry(name: str, mode: int) -> Body:
    """``xen_mc_entry`` and ``xen_mc_issue(mode)``: queued, and handed over at once unless this mode is lazy."""
    return (movl(_NUMBERS[name], eax), call("xen_mc_entry"), _issue(mode))


def _issue(mode: int) -> Body:
    later = Local("later")
    return (cmpl(mode, mem("paravirt_lazy_mode")), je(addr(later)), call("xen_mc_flush"), label(later))


def extended(command: str, mode: int, *argument: Body) -> Body:
    """An mmuext_op in a batch; its argument is in ebx."""
    return (*argument, movl(_EXT[command], eax), call("xen_mmuext"), _issue(mode))


def functions(build: Build) -> Body:
    """All of them."""
    common = (_batches(), _irq(), _cpu(), _descriptors(build), _mmu(build), _time(), _rest())
    if build.era == "seed":
        return (*common, _setup(build))
    from pvops.run.guest import xen_2010

    return (*common, xen_2010.functions())


def _batches() -> Body:
    room, none, stay = Local("room"), Local("none"), Local("stay")
    arguments = [movl(r, mem(addr("mc_entries") + 8 + 4 * i, ebp)) for i, r in enumerate((ebx, ecx, edx, esi, edi))]
    full = (cmpl(BATCH, mem("mc_count")), jne(addr(room)), call("xen_mc_flush"), label(room))
    room2 = Local("room2")
    full2 = (cmpl(BATCH, mem("mc_count")), jne(addr(room2)), call("xen_mc_flush"), label(room2))
    return (
        function(
            "xen_mc_entry",
            *(pushl(ebp), *full, movl(mem("mc_count"), ebp), shll(5, ebp), movl(eax, mem("mc_entries", ebp))),
            *(movl(0, mem(addr("mc_entries") + 4, ebp)), *arguments, incl(mem("mc_count")), popl(ebp), ret()),
        ),
        function(
            "xen_mc_flush",
            *(pushal(), cmpl(0, mem("mc_count")), je(addr(none)), movl(addr("mc_entries"), ebx)),
            *(
                movl(mem("mc_count"), ecx),
                hypercall("multicall"),
                movl(0, mem("mc_count")),
                label(none),
                popal(),
                ret(),
            ),
        ),
        # What the call points to must last as long as its entry: 16 bytes beside each. (cmd, arg) or (ptr, value)
        function(
            "xen_mc_argument",
            *(*full2, movl(mem("mc_count"), ecx), shll(4, ecx), addl(addr("mc_arguments"), ecx), ret()),
        ),
        function(
            "xen_mmuext",
            *(call("xen_mc_argument"), movl(eax, mem(0, ecx)), movl(ebx, mem(4, ecx)), movl(edx, mem(8, ecx))),
            *(movl(ecx, ebx), movl(1, ecx), xorl(edx, edx), movl(DOMID_SELF, esi)),
            *(movl(_NUMBERS["mmuext_op"], eax), jmp("xen_mc_entry")),
        ),
        function(
            "xen_set_lazy_mode",
            *(call("xen_mc_flush"), cmpl(LAZY_FLUSH, eax), je(addr(stay)), movl(eax, mem("paravirt_lazy_mode"))),
            *(label(stay), ret()),
        ),
    )


def _irq() -> Body:
    done, down = Local("done"), Local("down")
    pending = (cmpb(0, mem(_shared(PENDING))), jne("xen_force_evtchn_callback"))
    return (
        function("xen_save_fl", movzbl(mem(_shared(MASK)), eax), xorl(1, eax), shll(9, eax), ret()),
        function(
            "xen_restore_fl",
            *(shrl(9, eax), andl(1, eax), xorl(1, eax), movb(al, mem(_shared(MASK)))),
            *(testl(eax, eax), jne(addr(done)), *pending, label(done), ret()),
        ),
        function("xen_irq_disable", movb(1, mem(_shared(MASK))), ret()),
        function("xen_irq_enable", movb(0, mem(_shared(MASK))), *pending, ret()),
        keeping("xen_force_evtchn_callback", xorl(ebx, ebx), xorl(ecx, ecx), hypercall("xen_version")),
        # SCHEDOP_block: events on and sleep, with no gap between.
        keeping("xen_safe_halt", movl(1, ebx), xorl(ecx, ecx), hypercall("sched_op")),
        function(
            "xen_halt", cmpb(0, mem(_shared(MASK))), jne(addr(down)), jmp("xen_safe_halt"), label(down), jmp("xen_down")
        ),
        keeping("xen_down", movl(2, ebx), xorl(ecx, ecx), hypercall("vcpu_op")),
        function("xen_init_IRQ", ret()),  # event channels, of which a guest here has none bound
    )


def _cpu() -> Body:
    done = Local("done")
    return (
        function("xen_read_cr2", movl(mem(_shared(ARCH_CR2)), eax), ret()),
        function("xen_write_cr2", movl(eax, mem(_shared(ARCH_CR2))), ret()),
        function("xen_read_cr3", movl(mem("xen_cr3"), eax), ret()),
        function("xen_write_cr4", ret()),  # Xen keeps its own
        keeping(
            "xen_write_cr3", movl(eax, mem("xen_cr3")), extended("NEW_BASEPTR", LAZY_CPU, movl(eax, ebx), shrl(12, ebx))
        ),
        keeping("xen_get_debugreg", movl(eax, ebx), hypercall("get_debugreg")),
        keeping("xen_set_debugreg", movl(eax, ebx), movl(edx, ecx), hypercall("set_debugreg")),
        # cpuid that Xen sees, by an instruction that traps; without what Xen does itself (APIC, MCE, …).
        function(
            "xen_cpuid",
            *(pushl(ebx), pushl(esi), pushl(edi), pushl(ebp), pushl(eax), pushl(ecx), movl(eax, esi), movl(ecx, edi)),
            *(
                movl(edx, ebp),
                movl(mem(0, esi), eax),
                movl(mem(0, edi), ecx),
                cmpl(1, eax),
                pushfl(),
                data(CPUID_PREFIX),
            ),
            *(popfl(), jne(addr(done)), andl(~(1 << 7 | 1 << 9 | 1 << 12 | 1 << 14 | 1 << 22), edx), label(done)),
            *(movl(ecx, mem(0, edi)), popl(ecx), popl(edi), movl(eax, mem(0, edi)), movl(ebx, mem(0, ebp)), popl(ebp)),
            *(movl(mem(16, esp), edi), movl(edx, mem(0, edi)), popl(edi), popl(esi), popl(ebx), ret()),
        ),
        keeping(
            "xen_set_iopl_mask",
            shrl(12, eax),
            movl(eax, mem("xen_iopl")),
            movl(6, ebx),
            movl(addr("xen_iopl"), ecx),
            hypercall("physdev_op"),
        ),
        function("xen_io_delay", ret()),
        keeping("xen_load_esp0", movl(mem(0, edx), ecx), movl(__KERNEL_DS, ebx), entry("stack_switch", LAZY_CPU)),
        function("xen_store_tr", xorl(eax, eax), ret()),
    )


def _descriptors(build: Build) -> Body:
    tls: list[Body] = []
    for i in range(TLS_ENTRIES):
        here = addr("gdt_table") + (8 * (GDT_TLS + i) - PAGE_OFFSET)
        low, high = mem(TLS_ARRAY + 8 * i, ebp), mem(TLS_ARRAY + 8 * i + 4, ebp)
        tls += [movl(here, ebx), xorl(ecx, ecx), movl(low, edx), movl(high, esi)]
        tls += [movl(_NUMBERS["update_descriptor"], eax), call("xen_mc_entry")]
    # write_..._entry(table, index, low, high): at once, behind what waits.
    low_high = (movl(mem(16, esp), esi),) if build.era == "seed" else (movl(mem(4, ecx), esi), movl(mem(0, ecx), ecx))
    update = (
        *(*low_high, leal(mem(-PAGE_OFFSET, eax, edx, 8), ebx), movl(ecx, edx), xorl(ecx, ecx)),
        *(call("xen_mc_flush"), hypercall("update_descriptor")),
    )
    again, skip, done, none = Local("again"), Local("skip"), Local("done"), Local("none")
    return (
        keeping("xen_load_tls", pushl(ebp), movl(eax, ebp), *tls, _issue(LAZY_CPU), popl(ebp)),
        keeping("xen_write_gdt_entry", *update),
        keeping("xen_write_ldt_entry", *update),
        keeping(
            "xen_load_gdt",
            *(movl(mem(2, eax), ebx), subl(PAGE_OFFSET, ebx), shrl(12, ebx), movl(ebx, mem("xen_gdt_frames"))),
            *(movzwl(mem(0, eax), ecx), incl(ecx), shrl(3, ecx), movl(addr("xen_gdt_frames"), ebx)),
            entry("set_gdt", LAZY_CPU),
        ),
        keeping("xen_set_ldt", extended("SET_LDT", LAZY_CPU, movl(eax, ebx))),
        # cvt_gate_to_trap(): vector eax, gate edx and ecx, trap_info at edi, which moves on if it is a gate.
        function(
            "xen_cvt_gate",
            *(pushl(ebx), movl(ecx, ebx), shrl(8, ebx), andl(0x1E, ebx), cmpl(0xE, ebx), jne(addr(none))),
            *(movb(al, mem(0, edi)), movl(ecx, ebx), shrl(13, ebx), andl(3, ebx), testl(0x100, ecx), jne(addr(skip))),
            *(orl(4, ebx), label(skip), movb(bl, mem(1, edi)), movl(edx, ebx), shrl(16, ebx), movw(bx, mem(2, edi))),
            *(andl(0xFFFF0000, ecx), andl(0xFFFF, edx), orl(edx, ecx), movl(ecx, mem(4, edi)), addl(8, edi)),
            *(label(none), movl(0, mem(4, edi)), popl(ebx), ret()),
        ),
        keeping(
            "xen_load_idt",
            *(pushl(ebp), movl(mem(2, eax), esi), movzwl(mem(0, eax), ebp), incl(ebp), shrl(3, ebp), xorl(eax, eax)),
            *(movl(addr("xen_traps"), edi), label(again), subl(1, ebp), js(addr(done))),
            *(movl(mem(0, esi, eax, 8), edx), movl(mem(4, esi, eax, 8), ecx), call("xen_cvt_gate")),
            *(incl(eax), jmp(addr(again)), label(done), popl(ebp), call("xen_mc_flush")),
            *(movl(addr("xen_traps"), ebx), hypercall("set_trap_table")),
        ),
        keeping(
            "xen_write_idt_entry",
            *(*low_high, movl(ecx, mem(0, eax, edx, 8)), movl(esi, mem(4, eax, edx, 8))),
            *(movl(edx, eax), movl(ecx, edx), movl(esi, ecx), movl(addr("xen_traps"), edi), call("xen_cvt_gate")),
            *(call("xen_mc_flush"), movl(addr("xen_traps"), ebx), hypercall("set_trap_table")),
        ),
    )


def _mmu(build: Build) -> Body:
    other, done, level = Local("other"), Local("done"), "PIN_L3_TABLE" if build.pae else "PIN_L2_TABLE"
    high_word = (movl(mem(20, esp), edi),) if build.pae else ()
    high_store = (movl(edi, mem(4, ecx)),) if build.pae else ()
    flags = (movl(edi, edx), xorl(esi, esi)) if build.pae else (xorl(edx, edx),)
    pgd = (movl(mem(0, eax), ebx), subl(PAGE_OFFSET, ebx), shrl(12, ebx))
    return (
        # set_pte_at(mm, address, entry, value): by address if the tables are those in force.
        keeping(
            "xen_set_pte_at",
            *(cmpl(eax, mem("current_mm")), movl(mem(16, esp), eax), *high_word, jne(addr(other))),
            *(movl(edx, ebx), movl(eax, ecx), flags, entry("update_va_mapping", LAZY_MMU), jmp(addr(done))),
            *(label(other), *high_store, movl(eax, mem(0, ecx)), label(done)),
        ),
        # set_pmd(entry, value): an mmu_update of one, its request beside the batch.
        keeping(
            "xen_set_pmd",
            *(movl(ecx, edi) if build.pae else xorl(edi, edi), call("xen_mc_argument")),
            *(subl(PAGE_OFFSET, eax), movl(eax, mem(0, ecx)), movl(0, mem(4, ecx))),
            *(movl(edx, mem(8, ecx)), movl(edi, mem(12, ecx)), movl(ecx, ebx), movl(1, ecx), xorl(edx, edx)),
            *(movl(DOMID_SELF, esi), entry("mmu_update", LAZY_MMU)),
        ),
        keeping("xen_flush_tlb", extended("TLB_FLUSH_LOCAL", LAZY_MMU, xorl(ebx, ebx))),
        keeping("xen_flush_tlb_single", extended("INVLPG_LOCAL", LAZY_MMU, movl(eax, ebx))),
        keeping("xen_flush_tlb_others", extended("TLB_FLUSH_MULTI", LAZY_MMU, movl(eax, edx), xorl(ebx, ebx))),
        keeping("xen_alloc_pt", extended("PIN_L1_TABLE", LAZY_MMU, movl(edx, ebx))),
        keeping("xen_release_pt", extended("UNPIN_TABLE", LAZY_MMU, movl(eax, ebx))),
        # activate_mm(previous, next), dup_mmap(old, new): the new page table becomes Xen's; exit_mmap(mm): no more.
        keeping("xen_activate_mm", movl(edx, eax), extended(level, LAZY_MMU, *pgd)),
        keeping("xen_dup_mmap", movl(edx, eax), extended(level, LAZY_MMU, *pgd)),
        keeping("xen_exit_mmap", extended("UNPIN_TABLE", LAZY_MMU, *pgd)),
        *(
            function(f"xen_{name}", ret())
            for name in ("pte_val", "pgd_val", "pmd_val", "make_pte", "make_pgd", "make_pmd")
        ),
    )


def _setup(build: Build) -> Body:
    """2007: what stands in for some ops until the kernel's page table is made."""
    if not build.config.holds("PARAVIRT_MMU"):
        return ()
    return (
        # Only set up so far: plain stores until the tables are Xen's.
        function("xen_pagetable_setup_start", movl(addr("xen_set_pte_init"), mem(_slot(build, "set_pte"))), ret()),
        function(
            "xen_pagetable_setup_done",
            *(
                movl(addr("xen_alloc_pt"), mem(_slot(build, "alloc_pt"))),
                movl(addr("xen_set_pte"), mem(_slot(build, "set_pte"))),
            ),
            ret(),
        ),
        function("xen_set_pte_init", movl(edx, mem(0, eax)), ret()),
        # A store into a table that is Xen's: it faults, and Xen carries it out (writable page tables).
        function("xen_set_pte", movl(edx, mem(0, eax)), ret()),
        keeping("xen_alloc_pt_init", extended("PIN_L1_TABLE", LAZY_MMU, movl(edx, ebx))),
    )


def _slot(build: Build, op: str) -> Value:
    from pvops import ops

    template = ops.era(build.era).template(build.config)
    return addr("pv_mmu_ops") + (template.op(f"pv_mmu_ops.{op}").offset - template.struct_offsets["pv_mmu_ops"])


def _time() -> Body:
    return (
        # Nanoseconds: what Xen said last, and the ticks since.
        function(
            "xen_sched_clock",
            *(rdtsc(), subl(mem(_shared(TSC_STAMP)), eax), sbbl(mem(_shared(TSC_STAMP + 4)), edx)),
            *(addl(mem(_shared(SYSTEM_TIME)), eax), adcl(mem(_shared(SYSTEM_TIME + 4)), edx), ret()),
        ),
        function("xen_get_wallclock", movl(mem(_shared(WC_SEC)), eax), ret()),
        function("xen_set_wallclock", movl(-1, eax), ret()),  # not for an unprivileged domain
        function(
            "xen_cpu_khz",
            *(pushl(ebx), xorl(eax, eax), movl(1000000, edx), divl(mem(_shared(TSC_MUL)))),
            *(movzbl(mem(_shared(TSC_SHIFT)), ecx), testl(ecx, ecx), je(addr(_UNSHIFTED)), shrl(1, eax)),
            *(label(_UNSHIFTED), popl(ebx), ret()),
        ),
        # VCPUOP_stop_periodic_timer: the clock is asked for, not given.
        keeping("xen_time_init", movl(7, ebx), xorl(ecx, ecx), hypercall("vcpu_op")),
    )


_UNSHIFTED = Local("unshifted")


def _rest() -> Body:
    return (
        function("xen_patch", ret()),
        function("xen_banner", movl(mem(addr("pv_info") + 12), eax), ret()),
        function(
            "xen_memory_setup",
            movl(mem("boot_params"), eax),
            movl(eax, mem("e820_map")),
            movl(addr("xen_info"), eax),
            ret(),
        ),
        # Segments of 4 GiB and stores into page tables are Xen's to help with; where it calls when there are events.
        keeping(
            "xen_arch_setup",
            *(
                xorl(ebx, ebx),
                xorl(ecx, ecx),
                hypercall("vm_assist"),
                xorl(ebx, ebx),
                movl(2, ecx),
                hypercall("vm_assist"),
            ),
            *(
                movl(0x10, ebx),
                movl(addr("bad_trap"), ecx),
                movl(0x10, edx),
                movl(addr("bad_trap"), esi),
                hypercall("set_callbacks"),
            ),
        ),
        function("xen_mark_init_mm_pinned", ret()),
        function("xen_apic_write", ret()),
        function("xen_apic_read", xorl(eax, eax), ret()),
    )


def start(build: Build, fill: Body) -> Body:
    """Where Xen starts a domain; and its page of hypercalls, which it fills in itself."""
    return (
        function("xen_start_kernel", fill, jmp("start_kernel")),
        *(align(0x1000, 0xCC), label("hypercall_page"), space(0x1000, 0xCC)),
    )


def variables(build: Build) -> Body:
    """The shared page, and batches."""
    if build.era == "seed":
        more: Body = ()
    else:
        from pvops.run.guest import xen_2010

        more = xen_2010.variables()
    words = ("mc_count", "xen_cr3", "xen_gdt_frames", "xen_iopl")
    return (
        *(align(0x1000), label("xen_shared_info"), space(0x1000), label("mc_entries"), space(32 * BATCH)),
        *(label("mc_arguments"), space(16 * BATCH), label("xen_traps"), space(8 * 257)),
        *((label(word), u32(0)) for word in words),
        more,
        *(label("xen_info"), asciz("Xen")),
    )
