"""The tasks of this project: ``python3 tasks.py help`` lists them.

A plain script of the standard library rather than nox, just or make: the first command of the README has to work on a
machine that has nothing but Python, Rust and a C compiler. A runner that must be installed first would be one more
thing to install, and on Debian 12 `pip install` outside a virtual environment is refused. So each task makes what it
needs (the environment in ``.venv``, the wheel in ``dist``), once, and again when the sources are not those it was made
from; where a tool is missing that it cannot make, it says in one line what to install.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
DIST = ROOT / "dist"
#: The oldest Python that the wheel is for (``requires-python``).
PYTHON = (3, 11)
#: What the wheel is built from; a change of any of these files makes a new one.
SOURCES = ("src", "python", "Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md")
#: Pages whose shown outputs the task ``readme`` writes.
PAGES = ("README.md", "docs")

Options = argparse.Namespace


class Task(NamedTuple):
    """A task: what runs, and what it is for."""

    run: Callable[[Options], None]
    what: str


# What the person sees


def say(text: str) -> None:
    """A line about what the task does, before the output of the commands it runs."""
    print(f"tasks: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    """Ends the task with one line that says what is wrong and what to do."""
    say(text)
    sys.exit(2)


def words_in(cwd: Path, words: Sequence[str | Path]) -> list[str]:
    """A command line for a folder: paths below it are given as seen from there."""
    return [
        str(word.relative_to(cwd) if isinstance(word, Path) and word.is_relative_to(cwd) else word) for word in words
    ]


def shown(words: Sequence[str]) -> str:
    """A command line as the person would type it in the activated environment."""
    import shlex

    return shlex.join(word.removeprefix(f"{ROOT}/").removeprefix(".venv/bin/") for word in words)


def run(*words: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
    """Runs a command, echoed; ends the task with its status where it fails."""
    status = run_status(*words, env=env, cwd=cwd)
    if status:
        say(f"failed with status {status}: {shown(words_in(cwd, words))}")
        sys.exit(status if status > 0 else 1)


def run_status(*words: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> int:
    """Runs a command, echoed, and returns its status."""
    command = words_in(cwd, words)
    print(f"$ {shown(command)}", flush=True)
    return subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}).returncode


def output_of(*words: str | Path, cwd: Path = ROOT, timeout: float | None = None) -> str | None:
    """The standard output of a command that is not echoed; None where it fails or is missing."""
    try:
        done = subprocess.run(
            list(map(str, words)),
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            text=True,
            capture_output=True,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# Tools


def minimum_rust() -> tuple[int, int]:
    """The oldest Rust that builds the crate, from Cargo.toml."""
    found = re.search(r'^rust-version = "(\d+)\.(\d+)', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    if not found:
        stop("Cargo.toml names no rust-version")
    return int(found[1]), int(found[2])


def need_rust() -> None:
    """Checks for a Rust that is new enough."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"), "bin")
    if shutil.which("cargo") is None and (home / "cargo").exists():
        os.environ["PATH"] = f"{home}{os.pathsep}{os.environ.get('PATH', '')}"
    major, minor = minimum_rust()
    found = re.match(r"rustc (\d+)\.(\d+)", output_of("rustc", "--version") or "")
    if found is None or shutil.which("cargo") is None:
        stop(f"Rust {major}.{minor} or later is missing: install it with rustup, see https://rustup.rs")
    if (int(found[1]), int(found[2])) < (major, minor):
        have = f"{found[1]}.{found[2]}"
        stop(f"Rust {major}.{minor} or later is needed, this is {have}: `rustup update`, or see https://rustup.rs")


def need_c_compiler() -> None:
    """Checks for the C compiler that the xz and zstd libraries are built with."""
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "cc", "gcc", "clang")):
        stop("a C compiler is missing (for the xz and zstd libraries): `apt install build-essential`")


def need_python() -> None:
    """Checks for a Python that is new enough and can make virtual environments."""
    if sys.version_info < PYTHON:
        have = ".".join(map(str, sys.version_info[:2]))
        stop(f"Python {PYTHON[0]}.{PYTHON[1]} or later is needed, this is {have}: run tasks.py with a newer one")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop("Python cannot make virtual environments: `apt install python3-venv`")


# The wheel and the environment


def digest() -> str:
    """A digest of everything the wheel is built from."""
    seen = hashlib.sha256(sys.version.encode())
    for name in SOURCES:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so":
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


def pvops(*words: str | Path) -> tuple[str | Path, ...]:
    """A command line of the installed ``pvops``."""
    return (VENV / "bin" / "pvops", *words)


# A kernel to work on


def kernels() -> Iterator[Path]:
    """Kernels to work on, best first: what the person names, what apt offers, the host's own, a small sample."""
    named = os.environ.get("PVOPS_KERNEL")
    if named:
        yield Path(named)
    root = os.environ.get("PVOPS_KERNELS")
    if root:
        yield from sorted(Path(root, "kernels").glob("vmlinuz-6.1.*-amd64"))
    offered = kernel_of_apt()
    if offered:
        yield offered
    yield from kernels_of_host()
    yield sample_kernel()


def kernel() -> Path:
    """The first of `kernels` that this version can work on: the one that ``demo`` shows."""
    environment()
    for path in kernels():
        if output_of(*pvops("sites", path, "--summary")) is not None:
            return path
    stop("pvops cannot list the sites of any kernel here, not even of its own sample")


def kernel_of_apt() -> Path | None:
    """The kernel of the package that ``linux-image-amd64`` depends on, downloaded and unpacked into ``.cache``."""
    depends = output_of("apt-cache", "depends", "linux-image-amd64")
    found = re.findall(r"^ *Depends: (linux-image-([\w.+-]*-amd64))$", depends or "", re.MULTILINE)
    if not found:
        say("apt offers no kernel (no apt, or its lists are empty: `apt-get update` fills them)")
        return None
    package, release = max(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p[1])])
    target = CACHE / "kernels" / f"vmlinuz-{release}"
    if target.exists():
        return target
    return target if downloaded(package, {rf"vmlinuz-{re.escape(release)}": target}) else None


def modules_of_apt(release: str, names: Sequence[str]) -> list[Path]:
    """Modules of a kernel of Debian's, taken out of its package into ``.cache``; none where apt does not offer it."""
    folder = CACHE / "modules" / release
    targets = [folder / f"{name}.ko" for name in names]
    if not all(target.exists() for target in targets):
        wanted = {rf"{re.escape(target.name)}(\.[gx]z|\.zst)?": target for target in targets}
        # Since 7.0 they have a package of their own.
        if not any(downloaded(f"linux-{package}-{release}", wanted) for package in ("modules", "image")):
            return []
    return targets


def downloaded(package: str, wanted: Mapping[str, Path]) -> bool:
    """Files of a package that apt downloads: by a pattern of its name, where each goes. Whether all are there."""
    download = CACHE / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    say(f"downloading {package} with apt-get (not installed, only unpacked into .cache)")
    try:
        done = output_of("apt-get", "-q", "-o", "Acquire::Retries=1", "download", package, cwd=download, timeout=600)
        debs = sorted(download.glob("*.deb"))
        if done is None or not debs:
            say(f"apt-get could not download {package} (offline?)")
            return False
        if not unpack(debs[0], wanted):
            names = ", ".join(target.name for target in wanted.values())
            say(f"{debs[0].name} does not hold {names}, or dpkg-deb is missing")
            return False
    finally:
        shutil.rmtree(download, ignore_errors=True)
    return True


def with_fresh_lists(find: Callable[[], Path | None]) -> Path | None:
    """What ``find`` gets from apt; where it gets nothing, once more with the package lists brought up to date."""
    found = find()
    if found is None and (root := as_root()) is not None:
        say("bringing apt's package lists up to date")
        output_of(*root, "apt-get", "-q", "-o", "Acquire::Retries=1", "update", timeout=600)
        found = find()
    return found


def as_root() -> tuple[str, ...] | None:
    """What to put before a command to run it as root without being asked for a password; None if that is not so."""
    if os.geteuid() == 0:
        return ()
    return ("sudo", "-n") if output_of("sudo", "-n", "true") is not None else None


def unpack(deb: Path, wanted: Mapping[str, Path]) -> bool:
    """Takes files by their names (patterns) out of a package, read as a stream: the others are not written to disk."""
    if shutil.which("dpkg-deb") is None:
        return False
    left = dict(wanted)
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as tar:
        try:
            with tarfile.open(fileobj=tar.stdout, mode="r|") as members:
                for member in members:
                    name = next((name for name in left if re.fullmatch(name, Path(member.name).name)), None)
                    if member.isfile() and name is not None:
                        target = left.pop(name)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        part = target.with_suffix(".part")
                        held = members.extractfile(member)
                        part.write_bytes(held.read() if held else b"")
                        part.replace(target)
                        if not left:
                            return True
        except tarfile.TarError:
            pass
        finally:
            tar.kill()
    return False


def kernels_of_host() -> Iterator[Path]:
    """The host's own kernel, then the other readable ones in /boot, newest first."""
    own = Path(f"/boot/vmlinuz-{os.uname().release}")
    others = sorted(Path("/boot").glob("vmlinuz-*"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in dict.fromkeys([own, *others]):
        if path.is_file() and os.access(path, os.R_OK):
            yield path


def sample_kernel() -> Path:
    """The small image that the package builds itself."""
    path = CACHE / "kernels" / "vmlinux-sample"
    path.parent.mkdir(parents=True, exist_ok=True)
    environment()
    run(python_in(VENV), "-m", "pvops.sample", path)
    return path


# A machine to boot it on


def qemu(may_install: bool) -> Path:
    """QEMU: what ``PVOPS_QEMU`` names, or the host's, or Debian's, installed where it may be, else in ``.cache``."""
    named = os.environ.get("PVOPS_QEMU")
    if named:
        return Path(named)
    found = qemu_of_host()
    if found is None and may_install:
        found = with_fresh_lists(qemu_installed)
    if found is None:
        found = with_fresh_lists(qemu_unpacked)
    if found is None:
        stop(f"{QEMU} is missing and apt cannot provide it: `apt install --no-install-recommends {QEMU_PACKAGE}`")
    return found


def qemu_of_host() -> Path | None:
    """The QEMU that is on the path."""
    found = shutil.which(QEMU)
    return Path(found) if found else None


def qemu_installed() -> Path | None:
    """QEMU installed with apt; nothing that is installed already may have to go for it."""
    root = as_root()
    if root is None:
        say(f"not root, and no sudo without a password: {QEMU_PACKAGE} is not installed")
        return None
    say(f"installing {QEMU_PACKAGE} with apt-get")
    wait = ("-o", "DPkg::Lock::Timeout=60", "-o", "Acquire::Retries=1")
    words = ("apt-get", "-q", "-y", "--no-remove", *wait, "--no-install-recommends", "install", QEMU_PACKAGE)
    if output_of(*root, "env", "DEBIAN_FRONTEND=noninteractive", *words, timeout=1200) is None:
        say(f"apt-get could not install {QEMU_PACKAGE} beside what is installed")
    return qemu_of_host()


def qemu_unpacked() -> Path | None:
    """QEMU and what it needs of packages that are not installed, unpacked into ``.cache``; needs no root."""
    home = CACHE / "qemu"
    starter = home / QEMU
    if output_of(starter, "--version") is not None:
        return starter
    would = output_of("apt-get", "install", "--simulate", "--no-install-recommends", QEMU_PACKAGE)
    packages = [f"{p}={v}" for p, v in re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", would or "", re.MULTILINE)]
    if not packages or shutil.which("dpkg-deb") is None:
        say(f"apt offers no {QEMU_PACKAGE}")
        return None
    shutil.rmtree(home, ignore_errors=True)
    (home / "debs").mkdir(parents=True)
    say(f"downloading {QEMU_PACKAGE} with apt-get (not installed, only unpacked into .cache)")
    words = ("apt-get", "-q", "-o", "Acquire::Retries=1", "download", *packages)
    if output_of(*words, cwd=home / "debs", timeout=1200) is None:
        say(f"apt-get could not download {QEMU_PACKAGE} (offline?)")
        return None
    for deb in sorted((home / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, home], check=True)
    shutil.rmtree(home / "debs")
    starter.write_text(QEMU_STARTER)
    starter.chmod(0o755)
    return starter if output_of(starter, "--version") is not None else None


def xen_of_apt() -> Path | None:
    """Xen, of the newest package that apt offers, as the ELF file that QEMU loads."""
    names = re.findall(
        r"^xen-hypervisor-([\d.]+)-amd64$", output_of("apt-cache", "pkgnames", "xen-hypervisor") or "", re.M
    )
    if not names:
        say("apt offers no Xen")
        return None
    version = max(names, key=lambda name: [int(n) for n in name.split(".")])
    target = CACHE / f"xen-{version}"
    if not target.exists():
        packed = CACHE / "xen.gz"
        if not downloaded(f"xen-hypervisor-{version}-amd64", {r"xen-[\w.+-]+\.gz": packed}):
            return None
        part = CACHE / "xen.part"
        part.write_bytes(gzip.decompress(packed.read_bytes()))
        part.replace(target)
        packed.unlink()
    return target


QEMU = "qemu-system-x86_64"
QEMU_PACKAGE = "qemu-system-x86"
#: Starts a QEMU that lies unpacked beside the script: its libraries, modules and firmware are there too.
QEMU_STARTER = f"""#!/bin/sh
home=$(dirname "$(readlink -f "$0")")
for lib in "$home"/usr/lib/*-linux-gnu; do
    export LD_LIBRARY_PATH="$lib:$home/lib/${{lib##*/}}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
    export QEMU_MODULE_DIR="$lib/qemu"
done
exec "$home/usr/bin/{QEMU}" -L "$home/usr/share/qemu" "$@"
"""


# Tasks


def demo(options: Options) -> None:
    """Lists the paravirt sites of a kernel, explains one, and writes the image patched for KVM."""
    environment()
    for image in kernels():
        if run_status(*pvops("sites", image, "--summary")) == 0:
            break
        say(f"{image.name}: not a kernel that this version can work on; taking the next")
    print()
    listing = output_of(*pvops("sites", image, "--json"))
    if listing is None:
        stop(f"pvops cannot list the sites of {image}")
    address = worth_explaining(json.loads(listing))
    backend = "kvm"
    words = ("explain", image, address, "--backend", "native", "--backend")
    if run_status(*pvops(*words, backend)) != 0:
        say(f"{image.name} is built without KVM guest support: native alone")
        backend = "native"
        run(*pvops("explain", image, address))
    print()
    patched = CACHE / f"{image.name.replace('vmlinuz', 'vmlinux')}-{backend}"
    run(*pvops("patch", image, "--backend", backend, "-o", patched))
    size = patched.stat().st_size
    say(f"wrote {patched.relative_to(ROOT)}, {size:,} bytes: an ELF image that objdump and gdb read")


def worth_explaining(document: dict[str, Any]) -> str:
    """The address of a site whose story is worth telling: one that a hypervisor changes, else the first."""
    sites = document["sites"]
    for op in ("pv_lock_ops.queued_spin_lock_slowpath", "pv_irq_ops.irq_enable"):
        for site in sites:
            if site["section"] == ".text" and site["rows"][0]["op"] == op:
                return str(site["address"])
    if not sites:
        stop("the kernel has no paravirt sites")
    return str(sites[0]["address"])


def test(options: Options) -> None:
    """Runs the tests of the Rust core and those of the package, but for those that boot a kernel."""
    need_rust()
    need_c_compiler()
    environment()
    run("cargo", "test", "--locked", "--quiet")
    # Two at a time, a file's tests together: what a file opens once is used by all of them.
    run_pytest("-m", "not boot", "-n", "2", "--dist", "loadfile")


#: The locks' models: what cargo is told, and where it builds.
MODELS = ("--locked", "--manifest-path", "models/Cargo.toml")
MODELS_TARGET = ROOT / "target" / "models"


def model(kind: str, flags: str, *words: str) -> None:
    """Runs the tests of the locks' models under loom or shuttle."""
    env = {"RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(MODELS_TARGET / kind)}
    run("cargo", "test", "--quiet", *MODELS, "--test", kind, *words, env=env)


def locks(options: Options) -> None:
    """Searches the locks' interleavings with loom, bugs planted or not, and watches their memory."""
    need_rust()
    target = MODELS_TARGET
    model("loom", "--cfg loom --cfg mutants")
    env = {"CARGO_TARGET_DIR": str(target / "machine")}
    run("cargo", "test", "--quiet", *MODELS, env=env)
    run("cargo", "check", "--quiet", "--lib", "--no-default-features", "--features", "alone", *MODELS, env=env)
    if shutil.which("valgrind") is None:
        say("valgrind is missing (`apt install valgrind`): the locks' memory is not watched")
        return
    tests_of_memory = [path for path in (target / "machine" / "debug" / "deps").glob("memory-*") if not path.suffix]
    newest = max(tests_of_memory, key=lambda path: path.stat().st_mtime)
    run("valgrind", "--quiet", "--error-exitcode=9", "--fair-sched=yes", newest)


def locks_long(options: Options) -> None:
    """What `ci` has no time for: loom's searches without a bound, and shuttle's samples of more threads."""
    need_rust()
    model("loom", "--cfg loom --cfg mutants", "--", "--ignored")
    model("shuttle", "--cfg shuttle")


def run_pytest(*words: str) -> None:
    """Runs pytest against the installed wheel, with the kernel that ``demo`` would take."""
    env = {}
    if "PVOPS_KERNEL" not in os.environ:
        env["PVOPS_KERNEL"] = str(kernel())
    run(python_in(VENV), "-m", "pytest", "-q", *words, env=env)


def boot(options: Options) -> None:
    """Boots the kernel that apt offers in QEMU and compares its text in memory with the prediction.

    ``PVOPS_KERNEL`` names another kernel, ``PVOPS_BOOT_MODES`` other machines. What is missing is a failure.
    """
    need_c_compiler()
    environment()
    machine = qemu(may_install=options.task == "ci")
    named = os.environ.get("PVOPS_KERNEL")
    image = Path(named) if named else with_fresh_lists(kernel_of_apt)
    if image is None:
        stop("no kernel to boot: PVOPS_KERNEL is not set, and apt cannot provide one")
    env = {"PVOPS_KERNEL": str(image.absolute()), "PVOPS_QEMU": str(machine.absolute()), "PVOPS_REQUIRE_BOOT": "1"}
    run(python_in(VENV), "-m", "pytest", "-q", "-m", "boot", env=env)


def lint(options: Options) -> None:
    """Checks formatting, lints and types, and holds the stub to the built module; all checks run before any fails."""
    need_rust()
    need_c_compiler()
    environment()
    bin_ = VENV / "bin"
    rust = {"PYO3_PYTHON": str(python_in(VENV))}
    clippy = ("cargo", "clippy", "--locked", "--quiet", "--all-targets")
    checks: list[tuple[tuple[str | Path, ...], dict[str, str]]] = [
        (("cargo", "fmt", "--check"), {}),
        ((*clippy, "--", "-D", "warnings"), rust),
        ((*clippy, "--features", "python,peers", "--", "-D", "warnings"), rust),
        ((bin_ / "ruff", "check", "."), {}),
        ((bin_ / "ruff", "format", "--check", "."), {}),
        ((bin_ / "mypy",), {}),
        (STUBTEST, STUBTEST_ENV),
    ]
    failed = [shown(words_in(ROOT, words)) for words, env in checks if run_status(*words, env=env)]
    if failed:
        say("failed: " + "; ".join(failed))
        sys.exit(1)


def format_(options: Options) -> None:
    """Formats the Rust and the Python."""
    need_rust()
    environment()
    run("cargo", "fmt")
    run(VENV / "bin" / "ruff", "check", "--fix", "--quiet", ".")
    run(VENV / "bin" / "ruff", "format", ".")


STUBTEST = (python_in(VENV), "-m", "mypy.stubtest", "pvops._core")
STUBTEST_ENV = {"MYPYPATH": "python"}


def stubs(options: Options) -> None:
    """Holds ``_core.pyi`` to the built module; there is no list of exceptions."""
    environment()
    run(*STUBTEST, env=STUBTEST_ENV)


def build(options: Options) -> None:
    """Builds the wheel into ``dist``."""
    print(wheel().relative_to(ROOT))


def bench(options: Options) -> None:
    """Runs every benchmark, each beside what it is compared with; saves the run, and a page of it, in ``.cache``.

    Those of real kernels need ``PVOPS_KERNELS``: they are of certain releases. What is left out is listed.
    """
    need_rust()
    need_c_compiler()
    environment()
    peers()
    runs = CACHE / "bench"
    runs.mkdir(exist_ok=True)
    name = time.strftime("%Y-%m-%d-%H%M%S")
    words: list[str | Path] = ["--json", runs / f"{name}.json", "--page", runs / f"{name}.html"]
    if options.against:
        words += ["--against", options.against]
    run(python_in(VENV), "benches/suite.py", *options.only, *words)
    say(f"saved: {(runs / name).relative_to(ROOT)}.json and .html; --against holds a later run against it")


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


def mutations(options: Options) -> None:
    """Changes every recorded boot by the thousand, and explains made-up machines: what `test` does to a few of them."""
    need_rust()
    need_c_compiler()
    if "PVOPS_KERNELS" not in os.environ:
        stop("PVOPS_KERNELS names no folder with kernels and boots")
    tests = [word for name in ("mutations", "real_verify", "verify_patch") for word in ("--test", name)]
    run("cargo", "test", "--release", "--locked", *tests, "--", "--nocapture", env={"PVOPS_MUTATIONS": "all"})


def fuzz(options: Options) -> None:
    """Runs every fuzz target for some seconds (``--seconds``)."""
    need_rust()
    need_c_compiler()
    targets = sorted(path.stem for path in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs"))
    if not targets:
        stop("there are no fuzz targets")
    if output_of("cargo", "+nightly", "fuzz", "--version") is None:
        stop("cargo-fuzz is missing: `rustup toolchain install nightly` and `cargo install cargo-fuzz`")
    for target in targets:
        run("cargo", "+nightly", "fuzz", "run", target, "--", f"-max_total_time={options.seconds}")


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
    run(command, "--version", cwd=elsewhere)
    run(command, "sites", image, "--summary", cwd=elsewhere)
    run(python, "-m", "pvops", "explain", image, "sample_lock", cwd=elsewhere)
    run(command, "patch", image, "--backend", "kvm", "-o", patched, cwd=elsewhere)
    for leftover in (image, patched):
        leftover.unlink()


def ci(options: Options) -> None:
    """Everything a change must pass: lint, tests, models of the locks, a boot, the pages' outputs, the wheel alone."""
    start = time.monotonic()
    for task in (lint, test, locks, boot, smoke):
        began = time.monotonic()
        task(options)
        say(f"{task.__name__}: {time.monotonic() - began:.0f} s")
    options.check = True
    readme(options)
    say(f"all passed in {time.monotonic() - start:.0f} s")


# The pages show what the commands print

BLOCK = re.compile(
    r"<!-- output: (?P<command>[^\n]+) -->\n(?:```console\n.*?```\n)?<!-- end -->\n", re.DOTALL | re.MULTILINE
)


def readme(options: Options) -> None:
    """Writes the outputs shown in the README and in docs anew (``--check``: only says whether they are still so)."""
    environment()
    desk = CACHE / "readme"
    shutil.rmtree(desk, ignore_errors=True)
    desk.mkdir(parents=True)
    for path in known_kernels():
        (desk / path.name).symlink_to(path.resolve())
    stale = []
    for page in pages():
        old = page.read_text()
        try:
            new = BLOCK.sub(lambda block: shown_output(block["command"], desk), old)
        except LookupError as missing:
            if not options.check or os.environ.get("PVOPS_REQUIRE_KERNELS") == "1":
                stop(f"{page.relative_to(ROOT)}: {missing}")
            say(f"{page.relative_to(ROOT)}: not compared: {missing}")
            continue
        if new != old:
            stale.append(str(page.relative_to(ROOT)))
            if not options.check:
                page.write_text(new)
    if stale and options.check:
        stop(f"outputs in {', '.join(stale)} are not what the commands print: `python3 tasks.py readme`")
    say(f"outputs written: {', '.join(stale)}" if stale else "outputs are what the commands print")


def pages() -> Iterator[Path]:
    """The pages that show outputs."""
    for name in PAGES:
        path = ROOT / name
        yield from sorted(path.glob("*.md")) if path.is_dir() else [path]


def known_kernels() -> list[Path]:
    """Every kernel at hand, and every file beside one that a page may name."""
    found: list[Path] = []
    root = os.environ.get("PVOPS_KERNELS")
    if root:
        found += sorted(Path(root, "kernels").iterdir()) if Path(root, "kernels").is_dir() else []
        found += sorted(Path(root, "boots").glob("*.facts"))
    else:
        offered = kernel_of_apt()
        found += [offered] if offered else []
    return found


def shown_output(command: str, desk: Path) -> str:
    """The block of a page for a command: its command line and what it prints, both streams as on a terminal."""
    for word in re.findall(r"\b(?:vmlinuz|config)-\S+|\S+\.facts\b", command):
        if not (desk / word).exists():
            raise LookupError(f"`{command}` needs {word}, which is not at hand (PVOPS_KERNELS)")
    env = {
        **os.environ,
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=desk, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode > 1:
        stop(f"`{command}` failed with status {done.returncode}: {done.stdout.strip()}")
    text = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    return f"<!-- output: {command} -->\n```console\n$ {command}\n{text}\n```\n<!-- end -->\n"


TASKS = {
    "demo": Task(demo, "find a kernel; list its paravirt sites, explain one, patch it for KVM"),
    "test": Task(test, "cargo test and pytest, without what `boot` runs"),
    "locks": Task(locks, "model-check the locks, catch their planted bugs, watch their memory"),
    "locks-long": Task(locks_long, "search the locks without a bound with loom, sample more threads with shuttle"),
    "boot": Task(boot, "boot a kernel in QEMU, compare its text in memory with the prediction"),
    "lint": Task(lint, "rustfmt, clippy, ruff, mypy --strict, stubtest"),
    "format": Task(format_, "format the Rust and the Python"),
    "build": Task(build, "build the wheel into dist"),
    "smoke": Task(smoke, "install the wheel alone and run it"),
    "bench": Task(bench, "run the benchmarks beside their peers, one table (--only, --against)"),
    "mutations": Task(mutations, "change memory of every recorded boot, and find it (PVOPS_KERNELS)"),
    "fuzz": Task(fuzz, "run every fuzz target for a while (--seconds)"),
    "stubs": Task(stubs, "hold the stub file to the built module"),
    "readme": Task(readme, "write the outputs that README and docs show anew (--check: compare only)"),
    "ci": Task(ci, "everything a change must pass"),
}


def main() -> None:
    """Runs the task that the command line names."""
    parser = argparse.ArgumentParser(
        prog="tasks.py",
        description="The tasks of this project. Each does its own set-up.",
        epilog="\n".join(f"  {name:<12}{task.what}" for name, task in TASKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", nargs="?", default="help", choices=[*TASKS, "help"], metavar="TASK")
    parser.add_argument("--check", action="store_true", help="readme: compare, write nothing")
    parser.add_argument("--seconds", type=int, default=60, help="fuzz: how long each target runs (default 60)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="bench: only this one (repeatable)")
    parser.add_argument("--against", metavar="RUN", help="bench: say what changed since this saved run")
    options = parser.parse_args()
    if options.task == "help":
        parser.print_help()
        return
    os.chdir(ROOT)
    CACHE.mkdir(exist_ok=True)
    try:
        TASKS[options.task].run(options)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
