"""Tests: the suites, a boot in QEMU, recorded boots changed by the thousand, fuzzing."""

from __future__ import annotations

import os
from pathlib import Path

from .apt import with_fresh_lists
from .environment import VENV, environment, python_in
from .kernels import kernel, kernel_of_apt
from .qemu import qemu
from .shell import ROOT, Options, output_of, run, stop
from .tools import need_c_compiler, need_rust


def test(options: Options) -> None:
    """Runs the tests of the Rust core and those of the package, but for those that boot a kernel."""
    need_rust()
    need_c_compiler()
    environment()
    run("cargo", "test", "--locked", "--quiet")
    # Two at a time, a file's tests together: what a file opens once is used by all of them.
    run_pytest("-m", "not boot", "-n", "2", "--dist", "loadfile")


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
