"""A machine from facts, JSON and TOML; what is derived and where it came from."""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass, replace
from pathlib import Path
from random import Random

import pytest

from pvops.errors import InputError, MachineError
from pvops.machine import facts, presets
from pvops.machine.machine import LIMIT, Machine

FACTS = """==FILE /proc/version
Linux version 6.1.0-1-amd64 (build@host) #1 SMP

==FILE /proc/cmdline
quiet nopvspin

==FILE /proc/cpuinfo
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 60
model name\t: Some CPU
stepping\t: 1
flags\t\t: fpu tsc hypervisor
bugs\t\t: spectre_v1
power management:

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu tsc hypervisor other

==FILE /sys/hypervisor/type
(none)

==FILE /sys/devices/system/clocksource/clocksource0/current_clocksource
tsc

==FILE /sys/devices/system/cpu/vulnerabilities/meltdown
Mitigation: PTI

==FILE /sys/devices/system/cpu/vulnerabilities/ghostwrite
(none)

==FILE cpuid
CPU 0:
0x40000000 0x00: eax=0x40000001 ebx=0x4b4d564b ecx=0x564b4d56 edx=0x0000004d
0x40000001 0x00: eax=0x000002e2 ebx=0x00000000 ecx=0x00000000 edx=0x00000001

==FILE dmesg
[    0.000000] Hypervisor detected: KVM
[    0.010000] smpboot: Allowing 4 CPUs, 2 hotplug CPUs
[    0.020000] Booting paravirtualized kernel on KVM
"""


def test_a_bundle_of_facts() -> None:
    machine = Machine.from_facts(FACTS)
    assert (machine.vendor, machine.family, machine.model, machine.stepping) == ("GenuineIntel", 6, 60, 1)
    assert machine.flags == frozenset({"fpu", "tsc", "hypervisor"})
    assert machine.bugs == frozenset({"spectre_v1"})
    assert machine.online_cpus == 2
    assert machine.clocksource == "tsc"
    assert machine.vulnerabilities == {"meltdown": "Mitigation: PTI"}
    assert machine.release == (6, 1)
    assert machine.hypervisor == ("kvm", 'log: "Hypervisor detected: KVM"')
    assert machine.backend.value == "kvm"
    assert machine.possible_cpus == (4, 'log: "smpboot: Allowing 4 CPUs"')
    assert machine.features_of("kvm") == (0x2E2, "cpuid leaf 0x40000001")
    assert machine.feature("kvm", "PV_UNHALT") == (True, "cpuid leaf 0x40000001 eax bit 7")
    assert machine.feature("kvm-hints", "REALTIME") == (True, "cpuid leaf 0x40000001 edx bit 0")


def test_a_file_of_facts_and_its_document_are_the_same_machine(tmp_path: Path) -> None:
    facts, document = tmp_path / "guest.facts", tmp_path / "guest.json"
    facts.write_text(FACTS)
    machine = Machine.load(facts)
    document.write_text(json.dumps(machine.to_dict()))
    again = Machine.load(document)
    assert again.to_dict() == machine.to_dict()
    assert machine.to_dict()["schema"] == "pvops.machine/1"
    assert again.possible_cpus == machine.possible_cpus == (4, 'log: "smpboot: Allowing 4 CPUs"')
    assert again.hypervisor == machine.hypervisor
    assert machine.hypervisor.value == "kvm"


@pytest.mark.parametrize(
    ("said", "name", "backend"),
    [("KVM", "kvm", "kvm"), ("xen", "xen-pv", "xen"), ("Xen HVM", "xen-hvm", "xen-hvm"), ("Qubes", "Qubes", "Qubes")],
)
def test_a_hypervisor_may_be_named_as_the_log_names_it(said: str, name: str, backend: str) -> None:
    machine = Machine.from_dict({"hypervisor": said})
    assert (machine.hypervisor.value, machine.backend.value) == (name, backend)


@pytest.mark.parametrize(
    "line",
    [
        "[    0.000000] Kernel command line: idle=poll quiet",
        "<5>[    0.000000] Kernel command line: idle=poll quiet",
        "<5>Kernel command line: idle=poll quiet ",
        "[    0.000000][    T0] Kernel command line: idle=poll quiet",
    ],
)
def test_a_kernel_without_proc_says_its_command_line_in_the_log(line: str) -> None:
    bundle = f"==FILE /proc/cmdline\n{{}}\n==FILE dmesg\n[    0.0] Linux version 7.1\n{line}\n"
    assert Machine.from_facts(bundle.format("(none)")).cmdline == "idle=poll quiet"
    assert Machine.from_facts(bundle.format("nopv")).cmdline == "nopv"
    assert Machine.from_facts(bundle.format("(none)").replace("Kernel command", "Other")).cmdline is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("smpboot: CPU0: AMD Ryzen 9 (family: 0x17, model: 0x71, stepping: 0x0)", ("AuthenticAMD", 0x17, 0x71, 0)),
        ("<6>smpboot: CPU0: Intel(R) Core(TM)2 Duo (fam: 06, model: 0f, stepping: 0b)", ("GenuineIntel", 6, 15, 11)),
        ("<6>[    0.27] CPU0: Intel QEMU Virtual CPU version 2.5+ stepping 03", ("GenuineIntel", None, None, 3)),
        ("CPU: Hygon C86 7151 (family: 0x18, model: 0x0, stepping: 0x1)", ("HygonGenuine", 0x18, 0, 1)),
        ("CPU: Vortex86 SoC (family: 0x5, model: 0x2, stepping: 0x2)", (None, 5, 2, 2)),
        ("CPU: Physical Processor ID: 0", (None, None, None, None)),
        ("watchdog on CPU0: Marking clocksource (family: 0x6, model: 0x1, stepping: 0x1)", (None, None, None, None)),
    ],
)
def test_a_kernel_without_proc_says_its_cpu_in_the_log(line: str, said: tuple[str | int | None, ...]) -> None:
    bundle = f"==FILE /proc/cpuinfo\n{{}}\n==FILE dmesg\n[    0.0] Linux version 7.1\n{line}\n"
    machine = Machine.from_facts(bundle.format("(none)"))
    assert (machine.vendor, machine.family, machine.model, machine.stepping) == said
    assert Machine.from_facts(bundle.format("vendor_id : GenuineIntel")).family is None


def test_a_misspelt_hypervisor_is_no_other_one() -> None:
    said = r"part hypervisor: no hypervisor 'kmv' \(did you mean kvm\?\)"
    makers: tuple[Callable[[], Machine], ...] = (
        lambda: Machine.from_dict({"hypervisor": "kmv"}),
        lambda: Machine(hypervisor="kmv"),
        lambda: Machine().under("kmv"),
        lambda: presets.machine("intel-haswell", hypervisor="kmv"),
    )
    for make in makers:
        with pytest.raises(MachineError, match=said):
            make()
    # What `verify` saves of a guest that cannot be told.
    assert Machine.from_dict({"hypervisor": "guest"}).hypervisor.value == "guest"


def test_toml_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "guest.toml"
    path.write_text(
        'flags = "fpu monitor"\npossible_cpus = 1\ncmdline = "nopv"\n'
        '[cpuid."0x40000000"]\neax = 0x40000001\nebx = 0x4b4d564b\necx = 0x564b4d56\nedx = 0x4d\n'
        '[cpuid."0x40000001"]\neax = "0x80"\n'
    )
    machine = Machine.load(path)
    assert machine.flags == frozenset({"fpu", "monitor"})
    assert machine.feature("kvm", "PV_UNHALT").value is True
    assert machine.hypervisor == ("kvm", "signature in cpuid leaf 0x40000000")
    assert machine.family is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello\n==FILE /proc/version\n", "line 1: text before the first ==FILE line"),
        ("==FILE \n", "line 1: ==FILE without a path"),
        ("==FILE cpuid\n==FILE cpuid\n", "part cpuid, line 2: part given twice"),
        ("==FILE /proc/cpuinfo\nprocessor 0\n", "part /proc/cpuinfo, line 2: line without a colon"),
        ("==FILE /proc/cpuinfo\nprocessor: 0\nmodel: many\n", "part /proc/cpuinfo: model is no 32-bit number"),
        ("==FILE cpuid\n0x1 0x00: eax=1\n", "part cpuid, line 2: not a leaf"),
        ("==FILE cpuid\n0x1 0x00: eax=0x1 ebx=0x1 ecx=zz edx=0\n", "part cpuid, line 2: ecx is no 32-bit number"),
        ("==FILE cpuid\nnonsense\n", "part cpuid, line 2: not a leaf"),
    ],
)
def test_malformed_facts_say_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.facts"
    path.write_text(text)
    with pytest.raises(MachineError) as error:
        Machine.from_facts(path)
    assert str(error.value).startswith(f"{path}: {says}")
    assert error.value.file == str(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"vendr": "x"}', "unknown key vendr (did you mean vendor?)"),
        ('{"family": "six"}', "part family: family is no 32-bit number: 'six'"),
        ('{"family": true}', "part family: family is no 32-bit number"),
        ('{"flags": [1]}', "part flags: must be a list of names"),
        ('{"cmdline": 1}', "part cmdline: must be a string"),
        ('{"schema": "pvops.sites/1"}', "schema is pvops.sites/1"),
        ('{"cpuid": {"0x1": {"rax": 1}}}', "part cpuid.0x1: must be a table of eax"),
        ('{"cpuid": {"one": {}}}', "part cpuid: leaf is no 32-bit number"),
        ('{"vulnerabilities": []}', "part vulnerabilities: must be a table of strings"),
        ("{", "not JSON"),
        ("= 3", "not JSON, nor facts"),
        ("[" * 5000, "not JSON, nor facts"),
        ("[]", "is JSON, and no object"),
        ("null", "is JSON, and no object"),
        ("Welcome\n==FILE /proc/version\n", "line 1: text before the first ==FILE line"),
    ],
)
def test_malformed_documents_say_what(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad"
    path.write_text(text)
    with pytest.raises(MachineError) as error:
        Machine.load(path)
    assert str(error.value).startswith(f"{path}: {says}")


def test_a_byte_order_mark_as_editors_put_it_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    for text in (FACTS, FACTS.replace("\n", "\r\n"), '{"flags": "fpu"}', 'flags = "fpu"'):
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        expected = replace(Machine.parse(text), name="")
        assert replace(Machine.load(path), name="") == replace(Machine.parse("\ufeff" + text), name="") == expected


def test_a_missing_or_huge_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Machine.load(tmp_path / "none")
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(MachineError, match="16 MiB"):
        Machine.load(path)


@pytest.mark.parametrize(
    ("cmdline", "options"),
    [
        ("quiet  nopvspin\tfoo=bar", (("quiet", None), ("nopvspin", None), ("foo", "bar"))),
        ('dyndbg="file a.c +p" x', (("dyndbg", "file a.c +p"), ("x", None))),
        ('"foo=bar baz" x', (("foo", "bar baz"), ("x", None))),
        ('"two words"', (("two words", None),)),
        ("a=b=c", (("a", "b=c"),)),
        ("root=/dev/sda1 -- nopvspin", (("root", "/dev/sda1"),)),
        ("", ()),
    ],
)
def test_the_command_line_is_cut_as_the_kernel_does(cmdline: str, options: object) -> None:
    assert Machine(cmdline=cmdline).options == options


def test_dashes_and_underscores_are_the_same_in_options() -> None:
    machine = Machine(cmdline="no_kvmclock io_delay=none io_delay=udelay")
    assert machine.has_option("no-kvmclock")
    assert not machine.has_option("kvmclock")
    assert machine.option("io-delay") == "udelay"


@pytest.mark.parametrize(
    ("machine", "value", "source"),
    [
        (Machine(possible_cpus=3), 3, "given"),
        (Machine(parts={"/sys/devices/system/cpu/possible": "0-3,8\n"}), 5, "/sys/devices/system/cpu/possible"),
        (
            Machine(parts={"/sys/devices/system/cpu/possible": "3-0\n"}),
            None,
            "nothing tells the number of possible CPUs",
        ),
        (
            Machine(dmesg="CPU topo: Allowing 2 present CPUs plus 6 hotplug CPUs\n"),
            8,
            'log: "CPU topo: Allowing 2 present CPUs plus 6 hotplug CPUs"',
        ),
        (Machine(dmesg="setup_percpu: NR_CPUS:64 nr_cpu_ids:2 x\n"), 2, 'log: "nr_cpu_ids:2"'),
        (Machine(online_cpus=2), 2, "online CPUs in /proc/cpuinfo"),
        (Machine(), None, "nothing tells the number of possible CPUs"),
    ],
)
def test_possible_cpus(machine: Machine, value: int | None, source: str) -> None:
    assert machine.possible_cpus == (value, source)


@pytest.mark.parametrize(
    ("machine", "value"),
    [
        (Machine(hypervisor="vmware"), "vmware"),
        (Machine(parts={"/sys/hypervisor/guest_type": "PVH\n"}), "xen-hvm"),
        (Machine(dmesg="[0] Booting kernel on Xen\n"), "xen-pv"),
        (Machine(dmesg="[0] Booting paravirtualized kernel on bare hardware\n"), "none"),
        (Machine(dmesg="[0] Hypervisor detected: Microsoft Hyper-V\n"), "hyperv"),
        (Machine(flags=["fpu"]), "none"),
        (Machine(flags=["hypervisor"]), None),
    ],
)
def test_which_hypervisor(machine: Machine, value: str | None) -> None:
    assert machine.hypervisor.value == value
    assert machine.hypervisor.source


@pytest.mark.parametrize("seed", range(200))
def test_any_damaged_bundle_is_a_machine_or_a_machine_error(seed: int) -> None:
    random = Random(seed)
    text = list(FACTS)
    for _ in range(random.randrange(1, 20)):
        at = random.randrange(len(text))
        text[at : at + random.randrange(4)] = random.choice(["", "\n", ":", "==FILE ", "0x", "\0", "9" * 30, "\udc80"])
    with contextlib.suppress(MachineError):
        machine = Machine(**facts.given("".join(text), "text"))
        assert Machine.from_dict(machine.to_dict()).to_dict() == machine.to_dict()


def test_a_machine_does_not_change() -> None:
    machine = Machine.from_facts(FACTS)
    with pytest.raises(FrozenInstanceError):
        machine.cmdline = ""  # type: ignore[misc]
    other = replace(machine, cmdline="nosmp", given_possible_cpus=1)
    assert (other.option("nosmp"), other.has_option("nosmp"), other.possible_cpus.value) == (None, True, 1)
    assert other.hypervisor == machine.hypervisor
    assert machine.possible_cpus.value != 1
    assert replace(machine) == machine != other
    assert hash(replace(machine)) == hash(machine)


def test_dataclasses_take_a_machine_for_one_of_theirs() -> None:
    machine = Machine.from_facts(FACTS)
    assert is_dataclass(machine)
    assert is_dataclass(Machine)
    names = [field.name for field in fields(Machine)]
    assert names[0] == "name"
    assert names[-1] == "given_possible_cpus"
    assert "state" in names
    assert asdict(machine)["cmdline"] == machine.cmdline
    assert list(asdict(machine)) == names
    assert [field.name for field in fields(machine) if not field.compare] == ["name"]
    assert replace(machine, name="other") == machine
    assert machine != "other"
    with pytest.raises(TypeError, match="'no_field'"):
        replace(machine, no_field=1)  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        del machine.cmdline
    assert pickle.loads(pickle.dumps(machine)) == machine


def test_an_argument_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="'vendr'"):
        Machine(vendr="x")  # type: ignore[call-arg]
