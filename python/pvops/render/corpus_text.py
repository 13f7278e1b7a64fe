"""What came of a folder of kernels, as text."""

from __future__ import annotations

from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pvops.corpus.results import BootResult, KernelResult
    from pvops.render.terminal import Style


def lines(kernel: KernelResult, style: Style, verbose: bool = False) -> Iterator[str]:
    """A kernel, and a line for each of its boots."""
    name = style.bold(kernel.release or kernel.file)
    if kernel.refused is not None:
        yield f"{name}: refused: {kernel.refused}"
        return
    built = ", ".join(part for part in (f"{kernel.bits} bits", kernel.compiler, *kernel.options) if part)
    yield f"{name} ({built}): {kernel.outcome}, {sum(kernel.sites.values()):,} rows"
    if verbose:
        yield f"  rows: {_list(kernel.sites)}"
    for boot in kernel.boots:
        yield f"  {boot.name.partition('~')[2] or boot.name}: {_boot(boot, verbose)}"


def _boot(boot: BootResult, verbose: bool) -> str:
    parts = []
    if boot.compared:
        wrong = sum(boot.wrong.values())
        where = f" ({_list(boot.wrong)})" if wrong else ""
        parts.append(f"{boot.backend}, {wrong:,} of {boot.compared:,} bytes wrong{where}")
        guesses = sum(each.sites for each in boot.guesses.values())
        if guesses:
            bad = {table: each.wrong for table, each in boot.guesses.items() if each.wrong}
            which = f" ({_list(bad)})" if bad else ""
            parts.append(f"{sum(bad.values()):,} of {guesses:,} first guesses wrong{which}")
    if boot.unexplained is not None:
        parts.append(f"{boot.unexplained:,} runs unexplained")
    if boot.unexplained_told:
        parts.append(f"{boot.unexplained_told:,} where the machine is told")
    if verbose and boot.inferred is not None:
        parts.append(f"inferred {boot.inferred}")
    if boot.refused is not None:
        parts.append(f"refused: {boot.refused}")
    return "; ".join(parts)


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def summary(kernels: Sequence[KernelResult], style: Style) -> str:
    """All kernels in one line."""
    outcomes = Counter(kernel.outcome for kernel in kernels)
    boots = [boot for kernel in kernels for boot in kernel.boots]
    told = ", ".join(f"{outcomes[one]} {one}" for one in ("exact", "opened", "wrong", "refused") if outcomes[one])
    compared, wrong = sum(boot.compared for boot in boots), sum(sum(boot.wrong.values()) for boot in boots)
    return f"{style.bold(f'{len(kernels)} kernels')}: {told}; {len(boots)} boots, {wrong:,} of {compared:,} bytes wrong"
