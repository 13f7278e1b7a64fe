"""What booting takes: QEMU, a kernel, the guest's initial file system."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

import pvops
from boot import domains as domains_below
from boot import middle as middle_machine
from boot.domains import Domains
from boot.initramfs import built_init, compiler, initramfs
from boot.middle import Middle

#: What a file system and a hypervisor need: ops, alternatives, static calls and keys, exports of each other.
MODULES = ("crc16", "mbcache", "jbd2", "ext4", "irqbypass", "kvm")

_ROOT = Path(__file__).resolve().parents[2]


def _missing(what: str) -> NoReturn:
    """Skips the test, or fails it where booting is required (``PVOPS_REQUIRE_BOOT=1``)."""
    if os.environ.get("PVOPS_REQUIRE_BOOT") == "1":
        pytest.fail(what)
    pytest.skip(what)


def _tasks(name: str) -> ModuleType:
    """A module of the tasks, which know how to get things from apt."""
    sys.path.insert(0, str(_ROOT))
    try:
        return importlib.import_module(f"tasks.{name}")
    finally:
        sys.path.remove(str(_ROOT))


@pytest.fixture(scope="session")
def qemu() -> Path:
    """QEMU: what ``PVOPS_QEMU`` names, else what is on the path, else what the task ``boot`` left in ``.cache``."""
    cached = _ROOT / ".cache" / "qemu" / "qemu-system-x86_64"
    found = os.environ.get("PVOPS_QEMU") or shutil.which("qemu-system-x86_64") or (cached.exists() and str(cached))
    if not found:
        _missing("no QEMU: `apt install --no-install-recommends qemu-system-x86`, or `python3 tasks.py boot`")
    return Path(found)


@pytest.fixture(scope="session")
def booted_kernel() -> Path:
    """The kernel to boot: what ``PVOPS_KERNEL`` names, else the one that this machine's apt offers."""
    named = os.environ.get("PVOPS_KERNEL")
    if named:
        return Path(named)
    offered = _tasks("kernels").kernel_of_apt()
    if offered is None:
        _missing("no kernel: PVOPS_KERNEL is not set, and apt offers none")
    assert isinstance(offered, Path)
    return offered


@pytest.fixture(scope="session")
def xen() -> Path:
    """Xen as an ELF file: what ``PVOPS_XEN`` names, else what this machine's apt offers."""
    named = os.environ.get("PVOPS_XEN")
    offered = Path(named) if named else _tasks("qemu").xen_of_apt()
    if offered is None:
        _missing("no Xen: PVOPS_XEN is not set, and apt offers none")
    assert isinstance(offered, Path)
    return offered


def _with_modules(names: Sequence[str], missing: str) -> tuple[Path, list[bytes]]:
    """The kernel that apt offers, and these modules of it."""
    kernel = _tasks("kernels").kernel_of_apt()
    release = pvops.open(kernel).release if kernel is not None else None
    found = _tasks("kernels").modules_of_apt(release, names) if release else []
    if not found:
        _missing(missing)
    return kernel, [path.read_bytes() for path in found]


@pytest.fixture(scope="session")
def middle(qemu: Path, tmp_path_factory: pytest.TempPathFactory) -> Middle:
    """The machine in the middle, with the kernel that apt offers and its modules: ``PVOPS_QEMU`` may be no script."""
    kernel, modules = _with_modules(
        middle_machine.MODULES, "no machine in the middle: apt offers no kernel with KVM's modules"
    )
    init = built_init(tmp_path_factory.mktemp("middle"), 64, "middle.c")
    firmware = qemu.resolve().parents[1] / "share" / "qemu"
    return Middle(kernel, modules, init, firmware)


@pytest.fixture(scope="session")
def domains(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Domains:
    """Xen, its first guest, which is the kernel that apt offers, and its tools from where ``PVOPS_XEN_TOOLS`` says."""
    tools = os.environ.get("PVOPS_XEN_TOOLS")
    if not tools:
        _missing("no tools of Xen's: PVOPS_XEN_TOOLS is not set")
    kernel, modules = _with_modules(
        domains_below.MODULES, "no first guest of Xen's: apt offers no kernel with Xen's devices"
    )
    init = built_init(tmp_path_factory.mktemp("domains"), 64, "toolstack.c")
    return Domains(request.getfixturevalue("xen"), kernel, modules, init, Path(tools))


@pytest.fixture(scope="session")
def guest_initramfs(booted_kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The initial file system that every guest starts with."""
    if compiler() is None:
        _missing("no C compiler: `apt install gcc`")
    return initramfs(built_init(tmp_path_factory.mktemp("init"), pvops.open(booted_kernel).bits))


@pytest.fixture(scope="session")
def modules(booted_kernel: Path) -> list[Path]:
    """Modules of the kernel to boot, as they load: from the folder that ``PVOPS_MODULES`` names, else from apt."""
    named = os.environ.get("PVOPS_MODULES")
    if named:
        files = [next(Path(named).rglob(f"{name}.ko*"), None) for name in MODULES]
        found = [file for file in files if file is not None]
    else:
        found = _tasks("kernels").modules_of_apt(pvops.open(booted_kernel).release, MODULES)
    if len(found) < len(MODULES):
        _missing("no modules: PVOPS_MODULES names no folder with all that are wanted, and apt does not offer them")
    return found
