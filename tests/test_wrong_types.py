"""What the package's nouns take is held to its type: another is a `TypeError` that says what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import pvops
import pvops.lock
import pvops.schemas
from pvops import sample
from pvops.machine import presets


@pytest.fixture(scope="module")
def kernel() -> pvops.Kernel:
    return pvops.open(sample.build("6.1", 64).elf)


def given(odd: Any) -> Any:
    """The same, where None is what may be given."""
    return 0 if odd is None else odd


TAKES: dict[str, Callable[[pvops.Kernel, Any], object]] = {
    "open": lambda _, odd: pvops.open(given(3.0 if isinstance(odd, bytes) else odd)),
    "memory.open": lambda _, odd: pvops.memory.open(given(3.0 if isinstance(odd, bytes) else odd)),
    "plan, a backend": lambda kernel, odd: kernel.plan(given(odd)),
    "plan, rules": lambda kernel, odd: kernel.plan(rules=given(odd)),
    "plan, places": lambda kernel, odd: kernel.plan(places=[odd]),
    "explain": lambda kernel, odd: kernel.explain(cast(str, (odd,))),
    "whole": lambda kernel, odd: kernel.whole(odd),
    "usual_machine": lambda kernel, odd: kernel.usual_machine(odd),
    "diff": lambda kernel, odd: kernel.diff("native", odd),
    "differences": lambda kernel, odd: kernel.plan().differences(odd),
    "verify_many": lambda kernel, odd: list(pvops.open("vmlinux-sample").verify_many([], executor=given(odd))),
    "verify, jobs": lambda kernel, odd: kernel.verify(bytes(16), jobs=cast(int, (odd,))),
    "for_op": lambda kernel, odd: kernel.sites.for_op(odd),
    "of_table": lambda kernel, odd: kernel.sites.of_table(odd),
    "backends.get": lambda _, odd: pvops.backends.get(odd),
    "ops.era": lambda _, odd: pvops.ops.era(odd),
    "presets": lambda _, odd: presets.machine(odd),
    "schemas": lambda _, odd: pvops.schemas.schema(odd),
    "lock.check": lambda _, odd: pvops.lock.check(given(odd)),
    "usual": lambda _, odd: pvops.Machine.usual("6.1", odd),
}


@pytest.mark.parametrize("what", TAKES)
def test_another_type_is_refused_in_words(
    kernel: pvops.Kernel, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmlinux-sample").write_bytes(sample.build("6.1", 64).elf)
    monkeypatch.chdir(tmp_path)
    for odd in (None, 5 if what not in ("explain", "verify, jobs") else None, 2.5, b"x", object()):
        with pytest.raises(TypeError, match=r"is wanted, not|a place is an address or a text, not"):
            TAKES[what](kernel, odd)


def test_a_place_that_is_no_text_in_utf8_is_none(kernel: pvops.Kernel) -> None:
    for asked in (kernel.places, kernel.explain, kernel.disasm, kernel.sites_of):
        with pytest.raises(pvops.errors.ImageError, match=r"sample_lock\\xff: is not text in UTF-8"):
            asked("sample_lock\udcff")


def test_an_open_file_is_refused_with_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        for taken in (pvops.open, pvops.memory.open):
            with pytest.raises(TypeError, match=r"is wanted, not BufferedReader: give its path, or what its read\(\)"):
                taken(file)  # type: ignore[arg-type]
