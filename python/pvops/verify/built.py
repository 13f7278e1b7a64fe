"""Whether an image is as it was built: one that was patched already says nothing of what the kernel wrote."""

from __future__ import annotations

from pvops.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage

#: ``call *slot(%rip)``, at which alone ``ALT_CALL_INSTR`` rows lie (6.8 on): ``alt_replace_call()`` stops the kernel at
#: any other.
_INDIRECT = b"\xff\x15"


def require(kernel: KernelImage) -> None:
    """Refuses an image whose direct calls have been made: of a kernel since 6.8. Of older ones the ops cannot be found.

    Raises:
        ImageError: it was patched already.
    """
    for _, _, _, direct, _, rows, (_, address, _) in kernel.tables.alternatives_alike():
        if direct and kernel.image.read(address, len(_INDIRECT)) not in (_INDIRECT, None):
            why = "was patched already: memory is held to the kernel as it was built"
            told = f"{rows} rows make direct calls of indirect ones, and there is none"
            raise ImageError(
                f"{kernel.name}: {why} ({told} at {address:#x})", reason=why, file=kernel.name, address=address
            )
