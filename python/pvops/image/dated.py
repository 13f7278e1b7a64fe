"""How old an image is by the names that it gives features: what tells its release where no banner does.

Nearly every release names features that none before it had, and gives some of them other numbers. Stable kernels and
distributions take names over from later ones, and let none go.
"""

from __future__ import annotations

from pvops.eras import releases, version_of
from pvops.image.names import FlagNames, kernel_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras import Version
    from pvops.eras.declared import Declared
    from pvops.image.view import KernelView

#: Words that kernels of every release have: what is read where the image does not say how many there are.
_WORDS = 9
#: An image that names fewer features tells nothing: 2.6.26 named 92.
_FEW = 50


def by_names(kernel: KernelView) -> Version | None:
    """The release whose declared numbers an image's names contradict least, the oldest of equals; None without names.

    A name contradicts a release that has it not, or elsewhere.
    """
    printed = FlagNames(kernel).features(_WORDS).names
    if len(printed) < _FEW:
        return None
    there = [({kernel_name(text), text.upper()}, number) for number, text in printed.items()]

    def contradicted(release: Declared) -> int:
        return sum(all(release.features.get(name) != number for name in names) for names, number in there)

    return version_of(min(releases.all_releases(), key=contradicted).release)
