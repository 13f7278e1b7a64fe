"""The wheel in ``dist`` and the environment in ``.venv`` that it is installed into."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from . import licences
from .shell import CACHE, ROOT, Options, output_of, run, run_status, say, stop
from .tools import need_c_compiler, need_python, need_rust

VENV = ROOT / ".venv"
DIST = ROOT / "dist"
#: What the wheel is built from; a change of any of these files makes a new one.
SOURCES = ("src", "python", "Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md")


def digest() -> str:
    """A digest of everything the wheel is built from."""
    seen = hashlib.sha256(sys.version.encode())
    for name in SOURCES:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so" and file != licences.TEXTS:
                seen.update(f"{file.relative_to(ROOT)}\0".encode())
                seen.update(file.read_bytes())
    return seen.hexdigest()


def fresh(stamp: Path, wanted: str) -> bool:
    """Whether a stamp file says that something was made from these sources."""
    return stamp.exists() and stamp.read_text() == wanted


def python_in(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / "bin" / "python"


def make_venv(venv: Path) -> None:
    """Makes an empty virtual environment."""
    need_python()
    say(f"making a virtual environment in {venv.relative_to(ROOT)}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)


def base_venv() -> None:
    """``.venv`` with an interpreter in it that works."""
    if output_of(python_in(VENV), "-c", "pass") is None:
        make_venv(VENV)


def wheel() -> Path:
    """The wheel of the sources as they are, built where there is none yet."""
    stamp = DIST / ".built-from"
    wanted = digest()
    built = sorted(DIST.glob("linux_pvops-*.whl"))
    if not (built and fresh(stamp, wanted)):
        need_rust()
        need_c_compiler()
        base_venv()
        shutil.rmtree(DIST, ignore_errors=True)
        licences.gather()
        say("building the wheel (a release build of the Rust core: a minute or two)")
        # pip makes the build environment with maturin in it; cargo builds in the project's own target directory.
        env = {"PYO3_PYTHON": str(python_in(VENV)), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        run(python_in(VENV), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", DIST, ROOT, env=env)
        built = sorted(DIST.glob("linux_pvops-*.whl"))
        if not built:
            stop("pip built no wheel")
        stamp.write_text(wanted)
    return built[-1]


def environment() -> None:
    """``.venv`` with the wheel of the sources as they are, and all that tests and checks need."""
    stamp = VENV / ".installed"
    wanted = digest()
    base_venv()
    if fresh(stamp, wanted):
        return
    path = wheel()
    env = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip: tuple[str | Path, ...] = (python_in(VENV), "-m", "pip", "install", "--quiet")
    # The version stays the same while the sources change: the wheel itself is always put in anew.
    run(*pip, f"{path.relative_to(ROOT)}[test,dev]", env=env)
    run(*pip, "--force-reinstall", "--no-deps", path, env=env)
    stamp.write_text(wanted)


def peers() -> None:
    """The extra ``bench`` in the environment, as far as it can be had: benchmarks name the peers that are missing."""
    stamp = VENV / ".peers"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if fresh(stamp, wanted):
        return
    pip = (python_in(VENV), "-m", "pip", "install", "--quiet", f"{wheel().relative_to(ROOT)}[bench,plot]")
    if run_status(*pip, env={"PIP_DISABLE_PIP_VERSION_CHECK": "1"}):
        say("not all peers could be installed: benchmarks will name those that are missing")
    else:
        stamp.write_text(wanted)


def pvops(*words: str | Path) -> tuple[str | Path, ...]:
    """A command line of the installed ``pvops``."""
    return (VENV / "bin" / "pvops", *words)


def build(options: Options) -> None:
    """Builds the wheel into ``dist``."""
    print(wheel().relative_to(ROOT))


def smoke(options: Options) -> None:
    """Installs the wheel alone into an empty environment and runs the command from there."""
    venv = CACHE / "smoke"
    path = wheel()
    make_venv(venv)
    run(python_in(venv), "-m", "pip", "install", "--quiet", "--no-deps", path)
    python, command = python_in(venv), venv / "bin" / "pvops"
    image, patched = CACHE / "smoke-sample", CACHE / "smoke-patched"
    elsewhere = CACHE  # not the root: nothing of the checkout may be importable
    run(python, "-m", "pvops.sample", image, cwd=elsewhere)
    run(command, "--version", "-v", cwd=elsewhere)
    with zipfile.ZipFile(path) as files:
        if f"pvops/{licences.TEXTS.name}" not in files.namelist():
            stop(f"{path.name} has no texts of the licences of what is linked into it")
    run(command, "sites", image, "--summary", cwd=elsewhere)
    run(python, "-m", "pvops", "explain", image, "sample_lock", cwd=elsewhere)
    run(command, "patch", image, "--backend", "kvm", "-o", patched, cwd=elsewhere)
    for leftover in (image, patched):
        leftover.unlink()
