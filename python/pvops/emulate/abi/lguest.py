"""lguest and its guests, 2.6.23 to 2.6.33: calls, their ring and ``struct lguest_data`` of include/linux/lguest.h."""

from __future__ import annotations

TRAP = 0x1F
RING = 64
FREE = 0xFF

#: Numbers of the calls (LHCALL_*). 2.6.33 renumbers three and has two more.
CALLS = {
    0: "FLUSH_ASYNC",
    1: "LGUEST_INIT",
    2: "CRASH",
    3: "LOAD_GDT",
    4: "NEW_PGTABLE",
    5: "FLUSH_TLB",
    6: "LOAD_IDT_ENTRY",
    7: "SET_STACK",
    8: "TS",
    9: "SET_CLOCKEVENT",
    10: "HALT",
    14: "SET_PTE",
    15: "SET_PMD",
    16: "LOAD_TLS",
    17: "NOTIFY",
}
CALLS_2_6_33 = {
    **{n: name for n, name in CALLS.items() if n not in (2, 3, 15)},
    2: "SHUTDOWN",
    13: "SET_PMD",
    15: "SET_PGD",
    18: "LOAD_GDT_ENTRY",
    19: "SEND_INTERRUPTS",
}

#: Offsets in struct lguest_data.
IRQ_ENABLED, CR2, TIME, STATUS, CALLS_AT = 0, 8, 12, 20, 84
DATA_SIZE = CALLS_AT + 16 * RING

#: First TLS descriptor, and how many (GDT_ENTRY_TLS_MIN, GDT_ENTRY_TLS_ENTRIES).
TLS, TLS_ENTRIES = 6, 3
