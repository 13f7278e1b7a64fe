"""Whether a log goes back to the start of its boot, under a kernel with CONFIG_PARAVIRT and without."""

from __future__ import annotations

import pytest

from pvops.machine.machine import Machine

VERSION, MEMORY = "[    0.0] Linux version 6.1.0 (a@b) #1\n", "[    0.0] BIOS-provided physical RAM map:\n"
OLDER = "<6>[    0.0] e820: BIOS-provided physical RAM map:\n"
BARE = "[    0.1] Booting paravirtualized kernel on bare hardware\n"


@pytest.mark.parametrize(
    ("log", "whole"),
    [
        (VERSION + MEMORY, True),
        (VERSION + OLDER, True),
        (BARE, True),
        ("[    0.1] Booting kernel on Xen\n", True),
        (VERSION, False),  # what only informs is not kept
        (MEMORY, False),
        ("[    1.2] random: crng init done\n", False),
        ("", False),
    ],
)
def test_what_every_kernel_says_first_or_what_it_boots_on(log: str, whole: bool) -> None:
    assert Machine(dmesg=log).log_is_whole is whole


@pytest.mark.parametrize(("more", "told"), [("", None), ("[    0.1] Booting paravirtualized kernel on KVM\n", False)])
def test_a_kernel_that_does_not_look_for_a_host_says_nothing_of_it(more: str, told: bool | None) -> None:
    machine = Machine(hypervisor="kvm", kernel="6.1.0", dmesg=VERSION + MEMORY + more)
    assert machine.log_is_whole
    assert machine.feature("kvm", "CLOCKSOURCE2").value is told
