"""What all tests share: kernels to work on, and the rule that none of them is skipped where it must run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path

import pytest

import pvops
from kernels.given import Boot, boots, given, required, root
from pvops.kernel import Kernel

# What makes the pages of docs imports what stands beside it.
sys.path.append(str(Path(__file__).parents[1] / "docs"))

#: Fixtures that need what ``PVOPS_KERNELS`` holds.
_NEED_KERNELS = frozenset({"kernels_root", "kernel", "boot", "goldens"})


@pytest.fixture(scope="session")
def kernels_root() -> Path:
    """The folder ``PVOPS_KERNELS``, with ``kernels``, ``boots`` and ``goldens`` in it, or some of them."""
    return given(".")


@pytest.fixture(scope="session")
def kernel() -> Callable[[str], Kernel]:
    """Opens a real kernel by its release, each only once: ``kernel("6.1.0-56-amd64")``."""

    @cache
    def opened(release: str) -> Kernel:
        return pvops.open(given(f"kernels/vmlinuz-{release}"))

    return opened


_BOOTS: list[Boot | None] = [*boots()]


@pytest.fixture(params=_BOOTS or [None], ids=lambda boot: boot.name if boot else "no-boots")
def boot(request: pytest.FixtureRequest) -> Boot:
    """Every boot in turn."""
    if request.param is None:
        given("boots")
    assert isinstance(request.param, Boot)
    return request.param


@pytest.fixture(scope="session")
def sample_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a sample image of era 6.1, 64 bits."""
    from pvops import sample

    path = tmp_path_factory.mktemp("sample") / "vmlinux-sample"
    path.write_bytes(sample.build().elf)
    return path


@pytest.fixture(scope="session")
def any_kernel(sample_kernel: Path) -> Path:
    """The path of some kernel with paravirt sites: that of ``PVOPS_KERNEL``, else a real 6.1, else the sample."""
    named = os.environ.get("PVOPS_KERNEL")
    if named:
        return Path(named)
    folder = root()
    real = sorted(folder.glob("kernels/vmlinuz-6.1.*-amd64")) if folder is not None else []
    return real[-1] if real else sample_kernel


def _needs_kernels(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    marked = any(item.get_closest_marker(name) for name in ("kernels", "golden"))
    return marked or not _NEED_KERNELS.isdisjoint(names)


def _not_skipped(report: pytest.TestReport | pytest.CollectReport, needs_kernels: bool) -> None:
    """Turns a skip for want of kernels into a failure where they are required; an expected failure stays one."""
    if not (required() and report.skipped) or hasattr(report, "wasxfail"):
        return
    if needs_kernels or "PVOPS_KERNELS" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, although PVOPS_REQUIRE_KERNELS=1: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``PVOPS_REQUIRE_KERNELS=1`` a test that needs real kernels and skips has failed."""
    report = yield
    _not_skipped(report, _needs_kernels(item))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Likewise for a whole module that skips itself."""
    report = yield
    _not_skipped(report, needs_kernels=False)
    return report
