"""The ops tables declared per era are those of real kernels, by what the kernels themselves say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pvops import eras as ops
from pvops.image.ops import KernelOps
from pvops.kernel import Kernel

pytestmark = pytest.mark.kernels

#: Release → era, and the ops arrays whose structures BTF names.
_BTF = {
    "5.10.0-46-amd64": ("5.10", {"pv_ops": "paravirt_patch_template"}),
    "6.1.0-56-amd64": ("6.1", {"pv_ops": "paravirt_patch_template"}),
    "6.12.117+deb12-amd64": ("6.12", {"pv_ops": "paravirt_patch_template"}),
    "7.2.13+deb14-amd64": ("7.2", {"pv_ops": "paravirt_patch_template", "pv_ops_lock": "pv_lock_ops"}),
}


@pytest.mark.parametrize("release", _BTF)
def test_btf_has_our_ops_member_by_member(release: str, kernel: Callable[[str], Kernel]) -> None:
    era_name, arrays = _BTF[release]
    era = ops.era(era_name)
    image = kernel(release).image
    for symbol, structure in arrays.items():
        members = image.btf_members(structure)
        assert members is not None
        template = era.template(era.default_config(64), symbol)
        ours = [(op.c_name.removeprefix(f"{symbol}."), op.offset) for op in template]
        assert members == ours


@pytest.mark.parametrize(("release", "era"), [("5.10.0-30-686-pae", "5.10"), ("6.1.0-50-686-pae", "6.1")])
def test_without_btf_the_images_own_pointers_tell_the_era(
    release: str, era: str, kernel: Callable[[str], Kernel]
) -> None:
    found = kernel(release).ops
    assert found.era is not None
    assert found.era.name == era
    native = found.era.patch_template(found.config or found.era.default_config(32)).pointers()
    assert {op: held.symbol for op, held in found.native.items()} == native


def test_without_btf_the_locks_have_their_array_and_names_too(
    kernel: Callable[[str], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = kernel("7.2.13+deb14-amd64")
    named = image.ops.names
    monkeypatch.setattr(KernelOps, "_by_btf", None)
    found = KernelOps(image, lambda: image.era)
    assert found.names == named
    assert "pv_lock_ops.queued_spin_unlock" in found.names


def test_rules_follow_from_the_images_own_functions(kernel: Callable[[str], Kernel]) -> None:
    eras = {
        "5.10.0-46-amd64": "5.10",
        "5.10.0-30-686-pae": "5.10",
        "6.1.0-56-amd64": "6.1",
        "6.12.117+deb12-amd64": "6.12",
        "7.2.13+deb14-amd64": "7.2",
    }
    for release, era in eras.items():
        rules = kernel(release).rules
        assert (rules.era, rules.passes) == (era, era)
        assert "the image has" in rules.reason or "rows of .altinstructions" in rules.reason
