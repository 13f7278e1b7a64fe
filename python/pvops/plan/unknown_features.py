"""The bytes that hang on features which the machine does not tell: where the opposite would leave others."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from pvops.plan.texts import Text, places_of
from pvops.plan.writes import Undetermined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pvops.decide.prediction import FeatureWords
    from pvops.image.kernel_image import KernelImage
    from pvops.plan.writes import RawWrite


def of_features(
    kernel: KernelImage,
    words: FeatureWords,
    raws: tuple[Sequence[RawWrite], Sequence[RawWrite]],
    known: Sequence[Undetermined],
) -> Iterator[Undetermined]:
    """What two boots leave otherwise: one planned, and one with every feature that is not told taken the other way.

    Args:
        kernel: whose text it is.
        words: the features.
        raws: the writes of both.
        known: what is undetermined in the planned one already.
    """
    texts = Text(kernel), Text(kernel)
    for text, raw in zip(texts, raws, strict=True):
        text.replay(raw)
    rows = sorted((w[0], w[0] + len(w[3]), w[1], w[2]) for w in raws[0] if w[3])
    asked = _asked(words)
    starts = [row[0] for row in rows]
    there = {(site.address, site.len) for site in known}
    for low, high in places_of(raws):
        built, otherwise = texts[0].read(low, high), texts[1].read(low, high)
        if built == otherwise or (low, high - low) in there:
            continue
        at = bisect_right(starts, high - 1) - 1
        table, row = (rows[at][2], rows[at][3]) if at >= 0 and rows[at][1] > low else ("alternatives", -1)
        # With several such features at one place, it may hold what neither all of them nor none make of it.
        several = len({number for a in range(low, high) for number in asked.get(a, ())}) > 1
        forms = (built.hex(), otherwise.hex(), *(("??" * (high - low),) if several else ()))
        yield Undetermined(low, high - low, table, row, forms)


def _asked(words: FeatureWords) -> dict[int, set[int]]:
    """Address → the features that are not told and that rows of ``.altinstructions`` there ask for."""
    untold = {feature.name.number for feature in words.unknown()}
    asked: dict[int, set[int]] = {}
    for row in words.numbers.rows:
        if row.number in untold:
            for address in range(row.address, row.address + row.length):
                asked.setdefault(address, set()).add(row.number)
    return asked
