"""``pvops machine``."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.run import document, pvops, trouble
from kernels.given import Boot
from pvops.kernel import Kernel
from pvops.machine import host
from pvops.machine.machine import Machine

GUEST = """==FILE /proc/version
Linux version 6.1.0-1-amd64 (build@host) #1 SMP

==FILE /proc/cmdline
quiet nopvspin

==FILE /proc/cpuinfo
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 60
model name\t: Some CPU \x1b[31m
siblings\t: 4
cpu cores\t: 2
flags\t\t: fpu tsc pti hypervisor
bugs\t\t: spectre_v1

==FILE /sys/devices/system/cpu/vulnerabilities/meltdown
Mitigation: PTI

==FILE /sys/devices/system/cpu/vulnerabilities/mds
Not affected

==FILE dmesg
[    0.000000] Hypervisor detected: KVM
[    0.010000] smpboot: Allowing 4 CPUs, 2 hotplug CPUs
"""


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """The path of a bundle of facts."""
    path = tmp_path / "guest.facts"
    path.write_text(GUEST)
    return path


def test_a_person_reads_what_the_machine_is_and_what_told(guest: Path) -> None:
    done = pvops("machine", "--from", guest)
    assert done.returncode == 0
    lines = {line[2:16].strip(): line[16:].strip() for line in done.stdout.decode().splitlines() if line[2:3].strip()}
    assert lines["CPU"] == "Some CPU \\x1b[31m, GenuineIntel, family 0x6, model 0x3c"
    assert lines["CPUs"] == '4 possible (log: "smpboot: Allowing 4 CPUs"), 1 online, SMT'
    assert lines["hypervisor"] == 'kvm (log: "Hypervisor detected: KVM")'
    assert lines["backend"] == "kvm"
    assert lines["command line"] == "quiet nopvspin"
    assert lines["mitigations"] == "meltdown  Mitigation: PTI"


def test_the_document_is_the_machine(guest: Path) -> None:
    found = document("machine", "--from", guest)
    assert found["schema"] == "pvops.machine/1"
    assert found["hypervisor"] == "kvm"
    assert found["possible_cpus"] == 4
    assert (found["siblings"], found["cores"]) == (4, 2)
    assert found["told_by"]["hypervisor"] == 'log: "Hypervisor detected: KVM"'


def test_what_is_written_describes_the_same_machine(guest: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert pvops("machine", "--from", guest, "-o", first).returncode == 0
    assert pvops("machine", "--from", first, "-o", second).returncode == 0
    assert first.read_bytes() == second.read_bytes()
    assert pvops("machine", "--from", guest, "-o", "-").stdout == first.read_bytes()
    machine = Machine.load(first)
    assert machine.hypervisor == Machine.load(guest).hypervisor
    assert machine.possible_cpus == Machine.load(guest).possible_cpus


def test_features_that_are_given_are_shown_and_kept(tmp_path: Path) -> None:
    given = tmp_path / "given.toml"
    given.write_text("features = {RETPOLINE = false, X86_FEATURE_INDIRECT_THUNK_ITS = true}\n")
    assert "INDIRECT_THUNK_ITS=on RETPOLINE=off" in pvops("machine", "--from", given).stdout.decode()
    assert document("machine", "--from", given)["features"] == {"RETPOLINE": False, "INDIRECT_THUNK_ITS": True}


def test_facts_that_exclude_each_other_are_told_in_one_line(guest: Path) -> None:
    assert not pvops("machine", "--from", guest).stderr
    guest.write_text(GUEST.replace(" pti ", " "))
    done = pvops("machine", "--from", guest)
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert "its facts contradict each other: vulnerabilities/meltdown" in line


def test_under_another_hypervisor_the_old_source_is_gone(guest: Path) -> None:
    machine = Machine.from_dict(Machine.load(guest).to_dict()).under("xen-pv")
    assert machine.hypervisor == ("xen-pv", "under xen-pv")


def test_a_bad_machine_leaves_the_output_as_it_was(tmp_path: Path) -> None:
    bad, out = tmp_path / "bad.toml", tmp_path / "out.json"
    bad.write_text('vendr = "GenuineIntel"\n')
    out.write_text("as it was")
    assert "did you mean vendor?" in trouble("machine", "--from", bad, "-o", out)
    assert out.read_text() == "as it was"
    bad.write_text('told_by = {vendor = "me"}\n')
    assert "told_by.vendor" in trouble("machine", "--from", bad, "-o", out)


def test_this_machine_is_described(tmp_path: Path) -> None:
    out = tmp_path / "here.json"
    assert pvops("machine", "-o", out).returncode == 0
    found = json.loads(out.read_text())
    assert found["schema"] == "pvops.machine/1"
    assert found["online_cpus"] >= 1
    assert found["kernel"] == Path("/proc/version").read_text().strip()
    assert document("machine", "--from", out)["kernel"] == found["kernel"]


def test_parts_are_read_below_a_root(tmp_path: Path) -> None:
    vulnerabilities = tmp_path / "sys/devices/system/cpu/vulnerabilities"
    vulnerabilities.mkdir(parents=True)
    (vulnerabilities / "mds").write_text("Not affected\n")
    (vulnerabilities.parent / "possible").write_text("0-7\n")
    found = host.parts(str(tmp_path))
    assert found == {
        "/sys/devices/system/cpu/possible": "0-7\n",
        "/sys/devices/system/cpu/vulnerabilities/mds": "Not affected\n",
    }


def test_only_the_kernels_own_records_are_its_log() -> None:
    assert host.logged("6,339,5140900,-;smpboot: Allowing 2 CPUs\n SUBSYSTEM=cpu") == (
        "[    5.140900] smpboot: Allowing 2 CPUs"
    )
    assert host.logged("30,340,5140901,-;Hypervisor detected: KVM") is None
    assert host.logged("no record") is None


@pytest.mark.kernels
def test_a_round_trip_predicts_the_same_text(boot: Boot, kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    if boot.hypervisor not in ("native", "kvm", "xenpv"):
        pytest.skip(f"no backend for {boot.hypervisor}")
    out = tmp_path / "machine.json"
    assert pvops("machine", "--from", boot.facts, "-o", out).returncode == 0
    opened = kernel(boot.release)
    plans = [opened.plan(boot.backend, machine=Machine.load(path)) for path in (boot.facts, out)]
    assert plans[0].apply() == plans[1].apply()
    assert plans[0].undetermined == plans[1].undetermined
    first, second = (plan.raw() for plan in plans)
    assert first == second


@pytest.fixture
def collected(tmp_path: Path) -> str:
    """What the script of ``--collect`` collects here, by the smallest shell there is."""
    script = tmp_path / "collect.sh"
    script.write_bytes(pvops("machine", "--collect").stdout)
    shell = next(path for name in ("dash", "busybox", "sh") if (path := shutil.which(name)))
    words = [shell, "sh"] if shell.endswith("busybox") else [shell]
    done = subprocess.run([*words, str(script)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_the_script_collects_what_this_package_reads_of_this_machine(collected: str) -> None:
    here, there = host.machine(), Machine.from_facts(collected)
    for name in ("vendor", "family", "model", "flags", "bugs", "cmdline", "online_cpus", "kernel", "clocksource"):
        assert getattr(here, name) == getattr(there, name), name
    assert {name: text.strip() for name, text in here.vulnerabilities.items()} == there.vulnerabilities
    assert here.possible_cpus == there.possible_cpus
    assert not there.dmesg.rstrip().endswith("==END")


_START, _LATER = "[    0.000000] Linux version 6.1.0\n[    0.1] Hypervisor detected: KVM\n", "[   99.0] later\n"


@pytest.mark.parametrize(
    ("dmesg", "journal", "taken"),
    [
        (_START + _LATER, None, _START + _LATER),
        (_LATER, _START, _START),
        (_LATER, "-- No entries --\n", _LATER),
        (_LATER, None, _LATER),
        (None, _START, _START),
        (None, None, "(none)\n"),
    ],
)
def test_the_journals_log_is_taken_where_the_kernels_own_has_lost_its_start(
    dmesg: str | None, journal: str | None, taken: str, tmp_path: Path
) -> None:
    script = tmp_path / "collect.sh"
    script.write_bytes(pvops("machine", "--collect").stdout)
    for name in ("cat", "grep"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    for name, told in (("dmesg", dmesg), ("journalctl", journal)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{'exit 1' if told is None else f'cat <<EOF{chr(10)}{told}EOF'}\n")
        (tmp_path / name).chmod(0o755)
    words = [str(shutil.which("sh")), str(script)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"PATH": str(tmp_path)})
    assert done.stdout.partition("==FILE dmesg\n")[2] == f"{taken}\n==END\n"


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.999])
def test_a_cut_bundle_is_refused(collected: str, tmp_path: Path, share: float) -> None:
    cut = tmp_path / "cut.facts"
    cut.write_text(collected[: int(len(collected) * share)])
    assert "is cut: ==END, its last line, is missing" in trouble("machine", "--from", cut)


def test_an_empty_bundle_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.facts"
    empty.write_text("==FILE /proc/cpuinfo\n\n==FILE /proc/cmdline\n(none)\n")
    assert "the bundle is empty" in trouble("machine", "--from", empty)


def test_a_bundle_that_ends_within_a_cpu_is_refused(tmp_path: Path) -> None:
    cpu = "processor : {}\nvendor_id : GenuineIntel\nflags : fpu sse2\n"
    whole, cut = tmp_path / "whole.facts", tmp_path / "cut.facts"
    whole.write_text("==FILE /proc/cpuinfo\n" + "\n".join(cpu.format(n) for n in (0, 1)))
    assert pvops("machine", "--from", whole).returncode == 0
    cut.write_text(whole.read_text()[:-20])
    assert "the bundle is cut" in trouble("machine", "--from", cut)
