"""What the names of an image's features tell of its release."""

from __future__ import annotations

import pytest

from image import small
from pvops import Kernel
from pvops.eras import releases, version_of
from pvops.eras.declared import Declared
from pvops.image import dated
from pvops.image.names import ALIASES

_PRINTED = {kernel: printed for printed, kernel in ALIASES.items()}


def _named_as(release: Declared) -> list[str | None]:
    named = {number: _PRINTED.get(name, name.lower()) for name, number in release.features.items()}
    return small.names(release.ncapints, named)


def _kernel(caps: list[str | None], release: str = "9.9.9-small") -> Kernel:
    arrays = [
        ("x86_bug_flags", small.names(2, small.BUGS)),
        ("x86_cap_flags", caps),
        ("x86_power_flags", small.names(1, small.POWER)),
    ]
    return small.kernel(b"\x90" * 16, [], arrays=arrays, release=release)


@pytest.mark.parametrize("release", releases.all_releases(), ids=lambda each: each.release)
def test_each_release_is_told_by_its_own_names(release: Declared) -> None:
    same = [d.release for d in releases.all_releases() if d.features == release.features]
    assert dated.by_names(_kernel(_named_as(release))) == version_of(same[0])


def test_few_names_tell_nothing() -> None:
    assert dated.by_names(_kernel(small.names(9, small.CAPS))) is None
