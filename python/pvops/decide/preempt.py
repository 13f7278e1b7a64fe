"""Dynamic preemption (CONFIG_PREEMPT_DYNAMIC, 5.12 and later): which mode a boot chose."""

from __future__ import annotations

import re

from pvops.decide.answers import Facts


def preempt_mode(facts: Facts) -> tuple[str | None, str]:
    """The mode of dynamic preemption: none, voluntary, full or lazy; None where the kernel has none or nothing tells.

    kernel/sched/core.c preempt_dynamic_init(), setup_preempt_mode().
    """
    # "Dynamic Preempt: unsupported mode: lazy" says that the option changes nothing.
    if found := re.search(r"Dynamic Preempt: (\w+)[^\S\n]*$", facts.machine.dmesg, re.MULTILINE):
        return found[1], f'log: "Dynamic Preempt: {found[1]}"'
    if facts.logged("Dynamic Preempt: ") is False:
        return None, 'log: no "Dynamic Preempt"'
    given = facts.option("preempt")
    if given in ("none", "voluntary", "full", "lazy"):
        return given, f"preempt={given} on the command line"
    built = facts.built.preemption if facts.built is not None else None
    if built is not None:
        return built, "preempt_dynamic_init() of the image"
    return ("lazy" if facts.version >= (6, 18) else "voluntary"), "assumed: the default of Debian's kernels"
