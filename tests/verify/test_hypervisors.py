"""Boots under real hypervisors: nothing is unexplained, and the label is right, with the facts and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import pvops
from kernels.given import Boot
from pvops.kernel import Kernel
from pvops.machine.machine import Machine
from verify.test_boots import text_of

pytestmark = pytest.mark.kernels

#: How the boots name a hypervisor: the backends they may be taken for.
LABELS = {"kvm": "kvm", "hyperv": "hyperv", "vmware": "vmware", "xenpvh": "xen-hvm", "xenhvm": "xen-hvm"}


def boots(root: Path) -> list[Path]:
    return sorted((root / "boots-hypervisors").glob("*.json"))


def test_boots_under_real_hypervisors(kernels_root: Path, kernel: Callable[[str], Kernel]) -> None:
    found = boots(kernels_root)
    if not found:
        pytest.skip("no boots-hypervisors")
    for path in found:
        release, _, mode = path.stem.partition("~")
        opened = kernel(release)
        _, memory = text_of(opened, Boot(path))
        for machine in (None, Machine.from_facts(str(path.with_suffix(".facts")))):
            report = opened.verify(memory, machine=machine)
            assert (report.verdict, report.unexplained) == ("clean", []), path.stem
            assert report.backends == [LABELS[mode.partition("-")[0]]], path.stem


def test_a_kernel_with_control_flow_integrity(kernels_root: Path) -> None:
    """Every hash hangs on one seed, which all preambles vote for."""
    found = sorted((kernels_root / "clang").glob("*.json"))
    if not found:
        pytest.skip("no kernel that clang built")
    for path in found:
        kernel = pvops.open(str(kernels_root / f"clang/vmlinuz-{path.stem.partition('~')[0]}"))
        _, memory = text_of(kernel, Boot(path))
        report = kernel.verify(memory)
        assert (report.verdict, report.wrong_bytes) == ("clean", 0), path.stem
        votes = {vote.about: vote for vote in report.votes}
        assert votes["cfi_seed"].votes > 10_000
        assert votes["cfi_seed"].against == 0
        saved = json.loads(json.dumps(report.machine))
        assert saved["state"]["cfi"]["mode"] == "kcfi"
        assert kernel.plan(machine=Machine.from_dict(saved)).apply() == memory, path.stem
        # Another boot's seed, as it would be inferred from that boot's memory.
        saved["state"]["cfi"]["seed"] = "0x9e3779b9"
        reseeded = kernel.plan(machine=Machine.from_dict(saved)).apply()
        again = kernel.verify(reseeded)
        assert (again.verdict, again.wrong_bytes) == ("clean", 0)
        assert json.loads(json.dumps(again.machine)) == saved
