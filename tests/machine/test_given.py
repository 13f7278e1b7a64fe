"""What a `Machine` is made of is held to its type; another is refused by the name of its argument."""

from __future__ import annotations

from typing import Any

import pytest

from pvops.errors import InputError, MachineError
from pvops.machine.machine import Machine


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"cmdline": 5}, r"Machine\(cmdline=…\): a str is wanted, not int"),
        ({"name": None}, "name=….*a str is wanted, not NoneType"),
        ({"dmesg": b"log"}, "dmesg=….*a str is wanted, not bytes"),
        ({"hypervisor": 3}, "hypervisor=….*a str is wanted, not int"),
        ({"possible_cpus": "2"}, "possible_cpus=….*an int is wanted, not str"),
        ({"online_cpus": True}, "online_cpus=….*an int is wanted, not bool"),
        ({"flags": 5}, "flags=….*a collection of str is wanted, not int"),
        ({"bugs": [5]}, "bugs=….*a collection of str is wanted, not int"),
        ({"features": {"SMAP": 1}}, "features=….*to bool is wanted, not int"),
        ({"vulnerabilities": ["its"]}, "vulnerabilities=….*to str is wanted, not list"),
        ({"told_by": {"hypervisor": None}}, "told_by=….*to str is wanted, not NoneType"),
        ({"cpuid": {0x40000001: {}}}, "cpuid=….*is wanted, not int"),
        ({"cpuid": {(0x40000001, 0): {"rax": 1}}}, "cpuid=….*there is no register 'rax'"),
        ({"state": {}}, "state=….*State is wanted, not dict"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_name(given: dict[str, Any], wanted: str) -> None:
    with pytest.raises(TypeError, match=wanted):
        Machine(**given)


def test_numbers_that_no_machine_has_are_refused() -> None:
    odd: list[dict[str, Any]] = [
        {"possible_cpus": 0},
        {"online_cpus": 0},
        {"family": -1},
        {"model": 1 << 40},
        {"cpuid": {(1, 0): {"eax": -1}}},
    ]
    for given in odd:
        with pytest.raises(MachineError):
            Machine(**given)
    with pytest.raises(MachineError, match="on bare hardware it is none"):
        Machine(hypervisor="")


def test_arguments_are_written_as_in_a_file() -> None:
    machine = Machine(flags="fpu pge", features={"X86_FEATURE_SMAP": True, "X86_BUG_ITS": False, "SMEP": True})
    assert machine.flags == frozenset({"fpu", "pge"})
    assert machine.features == {"SMAP": True, "BUG_ITS": False, "SMEP": True}
    assert Machine(cpuid={(1, 0): {"eax": 5}}).cpuid[1, 0] == {"eax": 5, "ebx": 0, "ecx": 0, "edx": 0}


@pytest.mark.parametrize("odd", [5, None, [], 2.5, object()])
def test_what_takes_text_refuses_all_else(odd: Any) -> None:
    machine = Machine()
    for taken in (Machine.parse, Machine.from_dict, machine.under, machine.option, machine.has_option, machine.values):
        with pytest.raises(TypeError, match="is wanted, not"):
            taken(odd)
    with pytest.raises(InputError, match="cannot read"):
        Machine.from_facts("a\0b")
