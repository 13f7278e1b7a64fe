"""How a kernel that clang built checks indirect calls: kCFI, FineIBT or not at all, and with which hashes.

Sources: arch/x86/kernel/alternative.c cfi_parse_cmdline(), __apply_fineibt(), 6.2 to 7.3-rc7.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.decide.prediction import FeatureWords
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine

#: What the log says, and the mode: "Using FineIBT CFI" and "Using kCFI" (6.2), "Using paranoid FineIBT+BHI CFI" (6.15),
#: "CFI: Using rehashed retpoline kCFI" and "CFI: disabled" (6.18).
_LOGGED = (
    (re.compile(r"Using (?:rehashed )?(paranoid )?FineIBT(\+BHI)? CFI"), "fineibt"),
    (re.compile(r"Using (?:rehashed )?(?:retpoline )?kCFI"), "kcfi"),
    (re.compile(r"Disabling CFI|CFI: disabled"), "off"),
)


def cfi(machine: Machine, words: FeatureWords, kernel: KernelImage) -> tuple[str, int | None, bool]:
    """The mode (of `pvops.machine.state.CFI_MODES`), the seed of the hashes, and whether the seed is known.

    The seed is random and nobody prints it: known is only that there is none, with ``cfi=norand`` or ``cfi=off``. That
    callers check too (``paranoid``) is an option and, since 6.15, usual on a CPU with IBT and without FRED; that
    functions clear arguments (``bhi``) is an option of kernels with CONFIG_FINEIBT_BHI. Where the image has no code for
    either, the core writes FineIBT's.
    """
    mode, random, paranoid, bhi = "auto", True, False, False
    warns = _warns(kernel)
    for option in (machine.option("cfi") or "").split(","):
        if option in ("auto", "off", "kcfi", "fineibt"):
            mode = option
            random = random and option != "off"
        elif option == "norand":
            random = False
        elif option == "warn":
            warns = True
        elif mode == "fineibt":
            paranoid = paranoid or option == "paranoid"
            bhi = bhi or option == "bhi"
    if mode == "auto":
        mode, usual = _usual(words)
        paranoid = paranoid or usual
    for line, said in _LOGGED:
        if found := line.search(machine.dmesg):
            mode = said
            if said == "fineibt":
                paranoid, bhi = found[1] is not None, found[2] is not None
            break
    if mode == "fineibt":
        ways = (("paranoid", paranoid), ("bhi", bhi), ("warn", bhi and warns))
        mode = ",".join((mode, *(way for way, taken in ways if taken)))
    return mode, None, not random


def _warns(kernel: KernelImage) -> bool:
    """``cfi_warn`` as built: CONFIG_CFI_PERMISSIVE."""
    address = kernel.address_of("cfi_warn")
    return address is not None and (kernel.image.read(address, 1) or b"\0") != b"\0"


def _usual(words: FeatureWords) -> tuple[str, bool]:
    """What ``cfi=auto`` chooses, and whether callers check too."""
    ibt, fred = words.named("IBT"), words.named("FRED")
    if ibt is None or not ibt.value:
        return "kcfi", False
    return "fineibt", fred is None or not fred.value
