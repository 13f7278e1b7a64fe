"""The contract of imports (pyproject.toml, `tool.importlinter`) is kept, and a turned import breaks it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="the extra `dev` has import-linter")
ROOT = Path(__file__).parents[1]


def checked(sources: Path) -> subprocess.CompletedProcess[str]:
    """import-linter's word on a package below a folder."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(sources), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's Python files, to be changed."""
    copied = tmp_path / "pvops"
    shutil.copytree(ROOT / "python" / "pvops", copied, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return copied


def test_the_package_keeps_the_contract() -> None:
    found = checked(ROOT / "python")
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("machine/machine.py", "from pvops.kernel import Kernel"),
        ("plan/plan.py", "from pvops.cli.output import note"),
        ("bench/kernel.py", "def late() -> None:\n    from pvops.render.bench import fragment"),
        ("image/view.py", "import typing\nif typing.TYPE_CHECKING:\n    from pvops.decide.boot import set_up"),
        ("machine/facts.py", "from pvops.machine.documents import SCHEMA"),
    ],
    ids=["kernel", "command line", "within a function", "for types", "each other"],
)
def test_an_import_that_is_turned_round_breaks_it(package: Path, file: str, line: str) -> None:
    with (package / file).open("a") as source:
        source.write(f"\n\n{line}\n")
    found = checked(package.parent)
    assert found.returncode == 1, found.stdout
    assert f".{Path(file).stem} " in found.stdout


def test_no_file_asks_the_package_itself() -> None:
    """The contract lets imports of the package pass, as which those of the core count: only modules are had from it."""
    package = ROOT / "python" / "pvops"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "pvops" and path != package / "__init__.py":
                names = {alias.name for alias in node.names}
                assert names <= modules, f"{path}, line {node.lineno}: {names - modules}"


def imported(path: Path, modules: set[str]) -> set[str]:
    """What a file imports of the package, in functions and for types too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in names}
    return found & modules


def test_no_file_imports_itself_through_others() -> None:
    """A folder's own file counts too, which the contract does not hold to the files in the folder."""
    package = ROOT / "python" / "pvops"
    paths = {
        ".".join(("pvops", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
        if "volatility3" not in path.parts
    }
    assert len(paths) > 300
    # The package itself brings all together, and drgn's command asks it as a user does.
    modules = {name for name in paths if name not in ("pvops", "pvops.__main__")}
    sorter = TopologicalSorter({name: imported(paths[name], modules) - {name} for name in modules})
    sorter.prepare()
