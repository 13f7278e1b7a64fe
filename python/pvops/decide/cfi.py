"""How a kernel that clang built checks indirect calls: kCFI, FineIBT or not at all, and with which hashes.

Sources: arch/x86/kernel/alternative.c cfi_parse_cmdline(), __apply_fineibt(), 6.2 to 6.12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvops.decide.prediction import FeatureWords
    from pvops.machine.machine import Machine

#: What the log says, and the mode.
_LOGGED = {"Using FineIBT CFI": "fineibt", "Using kCFI": "kcfi", "Disabling CFI": "off"}


def cfi(machine: Machine, words: FeatureWords) -> tuple[str, int | None, bool]:
    """The mode (``off``, ``kcfi``, ``fineibt``), the seed of the hashes, and whether the seed is known.

    The seed is random and nobody prints it: known is only that there is none, with ``cfi=norand`` or ``cfi=off``.
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
    logged = next((said for line, said in _LOGGED.items() if machine.logged(line) is not None), None)
    ibt = words.named("IBT")
    usual = "fineibt" if ibt is not None and ibt.value else "kcfi"
    return logged or mode or usual, None, not random
