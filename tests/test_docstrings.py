"""What is public says what it is, and what its examples show is what comes out."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import pvops
from pvops import sample

#: Modules below which nothing is meant for users: what commands, pages and guests are made of.
INNER = ("pvops.cli", "pvops.render", "pvops.emulate", "pvops.__main__", "pvops.drgn", "pvops.volatility3")
#: What a user holds, and the modules that are named in the reference.
NOUNS = [getattr(pvops, name) for name in pvops.__all__ if name != "__version__"]
HELD = [
    *NOUNS,
    *map(
        importlib.import_module,
        ("pvops.machine.presets", "pvops.eras", "pvops.lock", "pvops.schemas", "pvops.plan.explain", "pvops.plan.diff"),
    ),
]


def modules() -> Iterator[ModuleType]:
    """Every module of the package that a user may import, and the package."""
    yield pvops
    for found in pkgutil.walk_packages(pvops.__path__, "pvops."):
        if not found.name.startswith(INNER):
            yield importlib.import_module(found.name)


def undocumented(name: str, thing: object) -> Iterator[str]:
    """The public names of a module or class, and itself, that have no docstring."""
    if not inspect.getdoc(thing):
        yield name
    if not inspect.isclass(thing) and not inspect.ismodule(thing):
        return
    for key, value in vars(thing).items():
        own = inspect.isclass(thing) or getattr(value, "__module__", None) == thing.__name__
        if key.startswith("_") or not own:
            continue
        inner = value.fget if isinstance(value, property) else getattr(value, "func", value)
        if inspect.isroutine(inner) or inspect.isclass(inner):
            yield from undocumented(f"{name}.{key}", inner)


@pytest.mark.parametrize("thing", HELD, ids=lambda thing: getattr(thing, "__name__", str(thing)))
def test_everything_public_has_a_docstring(thing: object) -> None:
    assert not list(undocumented(getattr(thing, "__name__", ""), thing))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that examples name: a sample kernel, and the machine of a guest."""
    (tmp_path / "vmlinux-sample").write_bytes(sample.build("6.1", 64).elf)
    (tmp_path / "guest.json").write_text('{"flags": "fpu hypervisor smap", "hypervisor": "kvm"}')
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "vmlinux").write_bytes((tmp_path / "vmlinux-sample").read_bytes())
    monkeypatch.chdir(tmp_path)
    # Text is as wide as the terminal that the tests run in, where they run in one.
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("files")
def test_examples_in_docstrings_are_what_comes_out() -> None:
    ran: dict[str, int] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for module in modules():
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs={"pvops": pvops}):
            ran[test.name] = runner.run(test).attempted
    assert runner.failures == 0
    # Each noun shows how it is used.
    for noun in NOUNS:
        name = f"{noun.__module__}.{noun.__qualname__}" if not inspect.ismodule(noun) else noun.__name__
        assert any(count and test.startswith(name) for test, count in ran.items()), f"no example of {name}"
