"""The guest side of Xen PV, 2007: descriptor tables and page tables.

Sources: arch/x86/xen/enlighten.c and mmu.c of 2.6.24. A physical page is the machine page of the same number here, so
that what converts one into the other has nothing to do.
"""

from __future__ import annotations

from pvops.assembler import Local, Value, addr, function, label, mem
from pvops.assembler.operands import al, bl, bx, eax, ebp, ebx, ecx, edi, edx, esi, esp
from pvops.assembler.statements import Body
from pvops.assembler.x86 import (
    addl,
    andl,
    call,
    cmpl,
    incl,
    jmp,
    jne,
    js,
    leal,
    movb,
    movl,
    movw,
    movzwl,
    orl,
    popl,
    pushl,
    ret,
    shrl,
    subl,
    testl,
    xorl,
)
from pvops.emulate.abi.xen import DOMID_SELF
from pvops.emulate.guest.layout import GDT_TLS, TLS_ARRAY, TLS_ENTRIES, Build
from pvops.emulate.guest.xen_calls import LAZY_CPU, LAZY_MMU, NUMBERS, entry, extended, hypercall, issue, keeping
from pvops.emulate.paging import PAGE_OFFSET


def descriptors(build: Build) -> Body:
    """Whole tables, entries, TLS."""
    tls: list[Body] = []
    for i in range(TLS_ENTRIES):
        here = addr("gdt_table") + (8 * (GDT_TLS + i) - PAGE_OFFSET)
        low, high = mem(TLS_ARRAY + 8 * i, ebp), mem(TLS_ARRAY + 8 * i + 4, ebp)
        tls += [movl(here, ebx), xorl(ecx, ecx), movl(low, edx), movl(high, esi)]
        tls += [movl(NUMBERS["update_descriptor"], eax), call("xen_mc_entry")]
    # write_..._entry(table, index, low, high): a hypercall of its own, after those that are queued.
    low_high = (movl(mem(16, esp), esi),) if build.era == "seed" else (movl(mem(4, ecx), esi), movl(mem(0, ecx), ecx))
    update = (
        *(*low_high, leal(mem(-PAGE_OFFSET, eax, edx, 8), ebx), movl(ecx, edx), xorl(ecx, ecx)),
        *(call("xen_mc_flush"), hypercall("update_descriptor")),
    )
    again, skip, done, none = Local("again"), Local("skip"), Local("done"), Local("none")
    return (
        keeping("xen_load_tls", pushl(ebp), movl(eax, ebp), *tls, issue(LAZY_CPU), popl(ebp)),
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


def mmu(build: Build) -> Body:
    """Entries, flushes, tables that become Xen's."""
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


def setup(build: Build) -> Body:
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
    from pvops import eras as ops

    template = ops.era(build.era).template(build.config)
    return addr("pv_mmu_ops") + (template.op(f"pv_mmu_ops.{op}").offset - template.struct_offsets["pv_mmu_ops"])
