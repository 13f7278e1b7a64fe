"""What an image's sections and rows say about the time it is from, beside its banner and the functions that mark eras.

A banner is a text, and whoever builds a kernel writes it. Distributions take parts of later kernels over, and keep none
that their own release had done away with: that a part is there too early is asked of images without marks alone, or of
a release that is older than any whose kernels are known to have taken it over.
"""

from __future__ import annotations

from pvops.eras.version import Version
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pvops.eras.rules import Image

#: Sections that began with a release, or with what stable kernels took over of it: the first that has them, and the
#: oldest that distributions take them over into (SUSE's 4.12, RHEL's 4.18 and 5.14).
_SECTIONS: dict[str, tuple[Version, Version]] = {
    ".cfi_sites": ((6, 2), (5, 14)),  # 931ab63664f0
    ".call_sites": ((6, 2), (5, 14)),  # 00abd3840717
    ".ibt_endbr_seal": ((5, 18), (5, 14)),  # 89bc853eae4a
    ".retpoline_sites": ((5, 10), (4, 12)),  # 134ab5bd1883, 5.16 and stable
    ".static_call_sites": ((5, 10), (4, 12)),  # 1e7e47883830
    ".orc_unwind": ((4, 14), (4, 12)),  # ee9f8fce9964
}

#: Words of the layout of ``.altinstructions``, the first that fits, and from when to when kernels have it; of what is
#: still so, the oldest that may have taken it over.
_ROWS: tuple[tuple[str, tuple[tuple[Version, Version], ...], Version], ...] = (
    ("16-bit features", (((2, 6, 36), (3, 2)),), ()),  # 83a7a2ad2a91
    ("pointers", (((), (2, 6, 35)),), ()),
    ("padlen", (((3, 2), (5, 12)),), ()),  # 4332195c5615, 4.1 and stable kernels with page table isolation
    ("flags", (((6, 3), ()),), (5, 14)),  # 5d1dd961e743
    ("12-byte rows", (((3, 3), (4, 0)), ((5, 4), (6, 2))), ()),  # 59e97e4d6fbc; 23c1ad538f4f, 5.13 and stable
)


class Part(NamedTuple):
    """A part of an image that kernels have for a time.

    Attributes:
        sign: the part, in words.
        spans: the first and the last release of each time in which kernels have it; empty where there is no first, or
            no last yet.
        taken: the oldest release whose kernels may have taken it over; empty where that is not known.
    """

    sign: str
    spans: tuple[tuple[Version, Version], ...]
    taken: Version = ()

    def fits(self, version: Version, *, early: bool) -> bool:
        """Whether a kernel of a version may have it.

        Args:
            version: of the sources.
            early: whether it may have been taken over from a later kernel.
        """
        if early:
            if version[: len(self.taken)] < self.taken:
                return False
            return any(not last or version[: len(last)] <= last for _, last in self.spans)
        return any(
            version[: len(first)] >= first and (not last or version[: len(last)] <= last) for first, last in self.spans
        )

    def meets(self, begins: Version, ends: Version | None) -> bool:
        """Whether kernels of an era have it, which ends before a release, or not yet."""
        return any(
            (ends is None or not first or ends > first) and (not last or begins[: len(last)] <= last)
            for first, last in self.spans
        )


#: ``nopl -42(%rax)``, by which kernels seal an ``endbr`` since 85a2d4a890dc (6.18): ``is_endbr()`` compares with it.
_SEAL = bytes.fromhex("0f1f40d6")


def parts(image: Image, alternatives: str | None, version: Version) -> Sequence[Part]:
    """The parts of an image that tell its time: sections, code, and how ``.altinstructions`` is laid out.

    Args:
        image: the image.
        alternatives: the layout of its rows; None where there are none.
        version: of its banner; code is looked for where the banner says that it is there.
    """
    there = ((name, *ages) for name, ages in _SECTIONS.items() if image.has_section(name))
    found = [Part(name, ((first, ()),), taken) for name, first, taken in there]
    if version >= (6, 18) and image.has_section(".ibt_endbr_seal") and not image.has_code(_SEAL, "is_endbr"):
        found.append(Part("no code that seals endbr as 6.18 does", (((), (6, 17)),)))
    if alternatives:
        said = f"{alternatives} of .altinstructions"
        found += [Part(said, spans, taken) for words, spans, taken in _ROWS if words in alternatives][:1]
    return found
