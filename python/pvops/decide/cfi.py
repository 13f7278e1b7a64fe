"""How a kernel that clang built checks indirect calls: kCFI, FineIBT or not at all, and with which hashes.

Sources: arch/x86/kernel/alternative.c cfi_parse_cmdline(), __apply_fineibt(), 6.2 to 7.3-rc7.
"""

from __future__ import annotations

import re

from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.decide.prediction import FeatureWords
    from pvops.machine.machine import Machine

#: What the log says, and the mode: "Using FineIBT CFI" and "Using kCFI" (6.2), "Using paranoid FineIBT+BHI CFI" (6.15),
#: "CFI: Using rehashed retpoline kCFI" and "CFI: disabled" (6.18).
_LOGGED = (
    (re.compile(r"Using (?:rehashed )?paranoid FineIBT(?:\+BHI)? CFI"), "fineibt,paranoid"),
    (re.compile(r"Using (?:rehashed )?FineIBT(?:\+BHI)? CFI"), "fineibt"),
    (re.compile(r"Using (?:rehashed )?(?:retpoline )?kCFI"), "kcfi"),
    (re.compile(r"Disabling CFI|CFI: disabled"), "off"),
)

_BHI = re.compile(r"Using (?:rehashed )?(?:paranoid )?FineIBT\+BHI CFI")


def cfi(machine: Machine, words: FeatureWords) -> tuple[str, int | None, bool]:
    """The mode (of `pvops.machine.state.CFI_MODES`), the seed of the hashes, and whether the seed is known.

    The seed is random and nobody prints it: known is only that there is none, with ``cfi=norand`` or ``cfi=off``. That
    callers check too (``paranoid``) is an option and, since 6.15, usual on a CPU with IBT and without FRED; where the
    image has no code for it, the core writes FineIBT's.

    Raises:
        OpsError: functions also scrub their arguments (``cfi=fineibt,bhi``, CONFIG_FINEIBT_BHI of 6.15), for which
            ``cfi_fineibt_bhi_preamble()`` writes code that is not known here.
    """
    mode, random = None, True
    for option in (machine.option("cfi") or "").split(","):
        if option in ("off", "kcfi", "fineibt"):
            mode = option
            random = random and option != "off"
        elif option == "auto":
            mode = None
        elif option == "norand":
            random = False
        elif option == "paranoid" and mode == "fineibt":
            mode = "fineibt,paranoid"
    # Without CONFIG_FINEIBT_BHI the option is ignored: the log alone tells.
    if _BHI.search(machine.dmesg):
        reason = "the kernel uses FineIBT+BHI (cfi=fineibt,bhi), whose functions are not predicted"
        raise OpsError(f"{machine.name}: {reason}", reason=reason, file=machine.name)
    logged = next((mode for line, mode in _LOGGED if line.search(machine.dmesg)), None)
    return logged or mode or _usual(words), None, not random


def _usual(words: FeatureWords) -> str:
    ibt, fred = words.named("IBT"), words.named("FRED")
    if ibt is None or not ibt.value:
        return "kcfi"
    return "fineibt" if fred is not None and fred.value else "fineibt,paranoid"
