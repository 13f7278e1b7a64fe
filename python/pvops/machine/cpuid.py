"""Where CPUID says what a feature word or a feature is: leaves, subleaves, registers and bits.

Sources: 6.1, 6.12 and 7.2 arch/x86/kernel/cpu/common.c get_cpu_cap() for the words, scattered.c for the single bits.
"""

from __future__ import annotations

#: Word → leaf, subleaf and register (get_cpu_cap()).
WORDS = {
    0: (0x1, 0, "edx"),
    1: (0x80000001, 0, "edx"),
    4: (0x1, 0, "ecx"),
    6: (0x80000001, 0, "ecx"),
    9: (0x7, 0, "ebx"),
    10: (0xD, 1, "eax"),
    12: (0x7, 1, "eax"),
    13: (0x80000008, 0, "ebx"),
    14: (0x6, 0, "eax"),
    15: (0x8000000A, 0, "edx"),
    16: (0x7, 0, "ecx"),
    17: (0x80000007, 0, "ebx"),
    18: (0x7, 0, "edx"),
    19: (0x8000001F, 0, "eax"),
    20: (0x80000021, 0, "eax"),
}

#: Feature → leaf, subleaf, register, bit: bits of leaves that have no word (scattered.c).
SCATTERED = {
    "SGX1": (0x12, 0, "eax", 0),
    "SGX2": (0x12, 0, "eax", 1),
    "SGX_EUPDATESVN": (0x12, 0, "eax", 10),
    "SGX_EDECCSSA": (0x12, 0, "eax", 11),
    "FAST_CPPC": (0x80000007, 0, "edx", 15),
    "AMD_FAST_CPPC": (0x80000007, 0, "edx", 15),
    "CPPC_PERF_PRIO": (0x80000007, 0, "edx", 16),
    "COHERENCY_SFW_NO": (0x8000001F, 0, "ebx", 31),
    "AMD_WORKLOAD_CLASS": (0x80000021, 0, "eax", 22),
    "AMD_HTR_CORES": (0x80000026, 0, "eax", 30),
    "AMD_LBR_PMC_FREEZE": (0x80000022, 0, "eax", 2),
    "TSA_SQ_NO": (0x80000021, 0, "ecx", 1),
    "TSA_L1_NO": (0x80000021, 0, "ecx", 2),
    "RRSBA_CTRL": (0x7, 2, "edx", 2),
    "BHI_CTRL": (0x7, 2, "edx", 4),
    "INTEL_PPIN": (0x7, 1, "ebx", 0),
    "APERFMPERF": (0x6, 0, "ecx", 0),
}
