"""Presets: machines by name, alone and under a hypervisor, and as the ground a description stands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pvops import Kernel, backends
from pvops.errors import MachineError
from pvops.machine import presets
from pvops.machine.machine import Machine


@pytest.mark.parametrize("name", presets.NAMES)
def test_a_preset_is_a_bare_machine_with_two_cpus(name: str) -> None:
    machine = Machine.load(name)
    assert machine.hypervisor == ("none", f"preset {name}")
    assert machine.possible_cpus == (2, f"preset {name}")
    assert machine.flags is not None
    assert machine.flags >= {
        "fpu",
        "lm",
        "sse2",
        {"intel-nehalem": "popcnt", "intel-haswell": "smep"}.get(name, "smap"),
    }
    assert "hypervisor" not in machine.flags
    assert machine.bugs is not None
    assert machine.bugs >= {"spectre_v1", "spectre_v2"}


def test_page_tables_are_isolated_where_the_cpu_melts_down_and_nobody_turned_it_off() -> None:
    def isolates(name: str, cmdline: str = "", hypervisor: str = "none") -> bool:
        return "pti" in (presets.machine(name, cmdline=cmdline, hypervisor=hypervisor).flags or ())

    assert isolates("intel-haswell")
    assert not isolates("intel-haswell", "nopti")
    assert not isolates("intel-haswell", "mitigations=off")
    assert isolates("intel-haswell", "mitigations=off pti=auto")
    assert not isolates("amd-epyc-rome")
    assert isolates("amd-epyc-rome", "pti=on")
    assert isolates("intel-haswell", hypervisor="kvm")
    assert not isolates("intel-haswell", hypervisor="xen-pv")


def test_under_a_hypervisor_the_cpu_shows_it() -> None:
    guest = presets.machine("amd-epyc-milan", hypervisor="kvm")
    assert guest.backend.value == "kvm"
    assert "hypervisor" in (guest.flags or ())
    assert "hypervisor" not in (guest.under("none").flags or ())


def test_a_description_stands_on_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "guest.toml"
    path.write_text('preset = "intel-haswell"\nhypervisor = "kvm"\npossible_cpus = 1\ncmdline = "nopti"\n')
    machine = Machine.load(path)
    assert (machine.vendor, machine.model) == ("GenuineIntel", 63)
    assert machine.hypervisor == ("kvm", "given")
    assert machine.possible_cpus == (1, "given")
    assert "hypervisor" in (machine.flags or ())
    assert "pti" not in (machine.flags or ())
    assert Machine.from_dict(machine.to_dict()).to_dict() == machine.to_dict()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ('preset = "pentium"', r"no preset 'pentium' \(there are intel-nehalem, intel-haswell"),
        ('preset = "intel-haswel"', r"no preset 'intel-haswel' \(did you mean intel-haswell\? There are intel-nehalem"),
        (
            'preset = "intel-haswell"\nhypervisor = "kmv"',
            r"part hypervisor: no hypervisor 'kmv' \(did you mean kvm\?\)",
        ),
        ("preset = 3", "no preset '3'"),
        ('preset = "amd-epyc-rome"\npossible_cpus = 0', "0 CPUs"),
        ('preset = "amd-epyc-rome"\ncmdline = 3', "part cmdline: must be a string"),
    ],
)
def test_a_bad_preset_is_named(tmp_path: Path, document: str, reason: str) -> None:
    path = tmp_path / "guest.toml"
    path.write_text(document)
    with pytest.raises(MachineError, match=reason):
        Machine.load(path)


def test_a_file_goes_before_a_preset_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("amd-epyc-rome").write_text('vendor = "GenuineIntel"')
    assert Machine.load("amd-epyc-rome").vendor == "GenuineIntel"


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("name", "rethunk", "retpoline"),
    [("intel-haswell", False, True), ("intel-cascadelake-server", True, False), ("amd-epyc-milan", True, True)],
)
def test_mitigations_follow_from_the_cpu(
    kernel: Callable[[str], Kernel], name: str, rethunk: bool, retpoline: bool
) -> None:
    plan = kernel("6.1.0-56-amd64").plan(backends.native, machine=presets.machine(name))
    words = plan.setup.words
    assert words is not None
    values = {feature: words.named(feature) for feature in ("RETHUNK", "RETPOLINE")}
    assert [bool(v and v.guess) for v in values.values()] == [rethunk, retpoline]
