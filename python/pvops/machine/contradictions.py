"""Facts of a machine that no kernel shows together: parts of several machines in one bundle, or one written by hand.

Sources: arch/x86/kernel/cpu/bugs.c retbleed_select_mitigation(), spectre_v2_select_mitigation(), arch/x86/mm/pti.c
pti_check_boottime_disable(), kernel/cpu.c mitigations_parse_cmdline(), 5.2 to 7.2.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.machine.machine import Machine

_V2, _RETBLEED = "spectre_v2", "retbleed"
#: What retbleed's mitigation takes of spectre_v2's: how each text begins. Where users may load BPF programs, text and
#: mitigation differ (``spectre_v2_show_state()``).
_TAKES = (
    ("Mitigation: Stuffing", ("Mitigation: Retpolines",)),
    ("Mitigation: IBRS", ("Mitigation: IBRS",)),
    (
        "Mitigation: Enhanced IBRS",
        ("Mitigation: Enhanced / Automatic IBRS", "Mitigation: Enhanced IBRS", "Vulnerable: eIBRS"),
    ),
)
_OFF = ("nospectre_v2", "spectre_v2=off")
#: Stable releases before print another flag (``kaiser``), distributions' none.
_PRINTS_PTI = (4, 15)


def contradiction(machine: Machine) -> str | None:
    """Two facts of a machine that exclude each other, in words; None where none that are known do."""
    texts = machine.vulnerabilities
    v2, retbleed = texts.get(_V2, "").strip(), texts.get(_RETBLEED, "").strip()
    for has, wanted in _TAKES:
        if retbleed.startswith(has) and v2 and not v2.startswith(wanted):
            takes = f'takes "{wanted[0]}"'
            return f'vulnerabilities/{_RETBLEED} says "{has}", which {takes}, and vulnerabilities/{_V2} "{v2}"'
    if v2.startswith("Mitigation:"):
        for word in _OFF:
            name, _, value = word.partition("=")
            if machine.option(name) == value if value else machine.has_option(name):
                return f'{word} is on the command line, and vulnerabilities/{_V2} says "{v2}"'
    meltdown = texts.get("meltdown", "").strip()
    prints = machine.release is not None and machine.release >= _PRINTS_PTI
    if prints and meltdown.startswith("Mitigation: PTI") and machine.flags is not None and "pti" not in machine.flags:
        return 'vulnerabilities/meltdown says "Mitigation: PTI", and the CPU\'s flags have no pti'
    return None
