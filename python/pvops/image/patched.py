"""Whether an image is as it was built: one that was patched already says nothing of what the kernel wrote."""

from __future__ import annotations

from pvops.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage

#: ``call *slot(%rip)``, at which alone ``ALT_CALL_INSTR`` rows lie (6.8 on): ``alt_replace_call()`` stops the kernel at
#: any other.
_INDIRECT = b"\xff\x15"


def refuse_patched(kernel: KernelImage) -> None:
    """Refuses an image whose direct calls have been made: of a kernel since 6.8. Of older ones the ops cannot be found.

    Raises:
        ImageError: it was patched already.
    """

    def indirect(address: int) -> bool:
        return kernel.image.read(address, len(_INDIRECT)) in (_INDIRECT, None)

    # Of a kernel as it was built the first of those that are alike tells.
    firsts = (first[1] for _, _, _, direct, _, _, first in kernel.tables.alternatives_alike() if direct)
    if all(map(indirect, firsts)):
        return
    all_ = [address for address, _, _, _, direct, *_ in kernel.tables.alternatives() if direct]
    if not any(map(indirect, all_)):
        why = "was patched already: the kernel as it was built is wanted"
        told = f"none of {len(all_):,} rows that make direct calls lies at an indirect one"
        raise ImageError(f"{kernel.name}: {why} ({told})", reason=why, file=kernel.name, address=all_[0])
