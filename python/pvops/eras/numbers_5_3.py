"""Feature numbers of 5.3.1: arch/x86/include/asm/cpufeatures.h, as what differs from 4.20."""

from __future__ import annotations

from pvops.eras import numbers_4_20

declared = numbers_4_20.declared.then(
    "5.3.1",
    ncapints=19,
    nbugints=1,
    words={
        9: "FDP_EXCPTN_ONLY:6 ZERO_FCS_FDS:13",
        11: "CQM_LLC:0 CQM_OCCUP_LLC:1 CQM_MBM_TOTAL:2 CQM_MBM_LOCAL:3 FENCE_SWAPGS_USER:4 FENCE_SWAPGS_KERNEL:5",
        12: "-CQM_OCCUP_LLC -CQM_MBM_TOTAL -CQM_MBM_LOCAL AVX512_BF16:5",
        13: "WBNOINVD:9 AMD_STIBP_ALWAYS_ON:17",
        16: "WAITPKG:5",
        18: "MD_CLEAR:10 TSX_FORCE_ABORT:13",
    },
    bugs="MDS:19 MSBDS_ONLY:20 SWAPGS:21",
)
