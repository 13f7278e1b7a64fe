"""Guests of images that name no function: what memory says of them is saved, and reproduces that memory."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

import pvops
from image.nameless import native_bodies, without_symbols
from pvops import sample
from pvops.decide import boot
from pvops.decide.backend import chosen
from pvops.errors import OpsError
from pvops.verify.saved import backends_of


@pytest.mark.parametrize(
    ("era", "backend"),
    [
        ("4.10", "kvm"),
        ("4.10", "xen"),
        ("4.14", "xen"),
        ("4.20", "xen"),
        ("5.10", "kvm"),
        ("5.10", "xen"),
        ("6.1", "kvm"),
    ],
)
def test_a_saved_guest_is_reproduced_though_the_image_names_nothing(era: str, backend: str) -> None:
    functions = sample.backend_functions(era, ("native", "kvm", "xen"))
    elf = sample.build(era, 64, functions=functions, bodies=native_bodies(era), tables=True).elf
    named, bare = pvops.open(elf), without_symbols(elf)
    assert not bare.image.symbol_count()
    text = named.plan(backend).apply()
    assert text != named.plan("native").apply()
    document = json.loads(json.dumps(named.verify(text).machine))
    saved = pvops.Machine.from_dict(document)
    assert saved.state is not None
    if era < "5":
        assert saved.state.inlines == (backend == "kvm"), "xen_patch() inlines none of native_patch()'s (up to 5.2)"
    plan = bare.plan(chosen(bare, saved).name, machine=saved)
    assert plan.apply() == text
    del document["state"]
    with pytest.raises(OpsError, match="names no function"):
        chosen(bare, pvops.Machine.from_dict(document))


@pytest.mark.parametrize(
    ("backends", "features", "wrote", "named"),
    [
        (["guest"], [0, 1 << 16], None, ["xen"]),
        (["guest"], [0, 0], None, ["guest"]),
        (["guest"], [0], True, ["xen"]),
        (["guest"], [0], False, ["guest"]),
        (["native", "kvm"], [0, 1 << 16], None, ["native", "kvm"]),
    ],
)
def test_a_guest_whose_functions_have_no_names_is_xens_where_only_xen_does_so(
    backends: list[str], features: list[int], wrote: bool | None, named: list[str]
) -> None:
    votes = [] if wrote is None else [("xen", 0, int(wrote), 3, 0, False)]
    report = SimpleNamespace(backends=backends, features=features, votes=lambda about: votes)
    numbers = SimpleNamespace(number={"XENPV": 48}.get)
    assert backends_of(cast(Any, SimpleNamespace(feature_numbers=numbers)), cast(Any, report)) == named


@pytest.mark.parametrize(("symbols", "features", "refused"), [(0, 0b10, True), (0, 0b01, False), (9, 0b10, False)])
def test_calls_are_not_counted_in_an_image_that_names_no_function(symbols: int, features: int, refused: bool) -> None:
    image = SimpleNamespace(symbol_count=lambda: symbols)
    kernel = cast(Any, SimpleNamespace(name="vmlinux", image=image, has_section=lambda name: name == ".call_sites"))
    if refused:
        with pytest.raises(OpsError, match="names no function"):
            boot.counts_calls(kernel, [features], 1)
    else:
        boot.counts_calls(kernel, [features], 1)


def test_a_backend_of_an_image_without_names_is_not_said_to_be_missing() -> None:
    bare = without_symbols(sample.build("6.1", 64).elf)
    with pytest.raises(OpsError, match=r"^the image names no function of KVM guest support"):
        bare.plan("kvm")
