"""Memory whose calls are counted (``retbleed=stuff``) under an image that names no function: said, not judged."""

from __future__ import annotations

from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pvops.image.kernel_image import KernelImage
    from pvops.verify.report import Unexplained


def refuse_counted(kernel: KernelImage, runs: Sequence[Unexplained], text: range) -> None:
    """Refuses memory where most calls that may be counted lead equally far before their functions, into the padding.

    Raises:
        OpsError: it is so, and nothing tells which calls the kernel passes over.
    """
    if not runs or kernel.image.symbol_count() or not kernel.has_section(".call_sites"):
        return
    fields = {address + 1 for _, address, *_ in kernel.tables.rows("call_sites") if address in text}
    before = Counter((run.expected[0] - run.found[0]) % 256 for run in runs if run.address in fields)
    if any(2 * count > len(fields) for count in before.values()):
        from pvops.decide.boot import counting_unknown

        raise counting_unknown(kernel, "calls are counted in this memory (CALL_DEPTH)")
