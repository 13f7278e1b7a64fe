"""Paths through a kernel that people know by name, as the functions and ops whose sites they pass.

A path names functions of arch/x86, kernel/ and mm/ that run one after the other in it; one that a kernel has not, has
inlined, or that calls no op adds nothing and is said to be missing. Functions count with all their sites, once each: no
loop is taken twice and no branch is left out, so a path is a weight to compare forms by and no profile. An op in a path
is one call of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.tuples import NamedTuple


class Path(NamedTuple):
    """A path.

    Attributes:
        what: what it is, in words.
        functions: whose sites it passes.
        ops: ops called once beside them, for what is inlined everywhere.
    """

    what: str
    functions: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()


PATHS: Mapping[str, Path] = {
    "local_irq_save": Path(
        "local_irq_save(): inlined everywhere", ops=("pv_irq_ops.save_fl", "pv_irq_ops.irq_disable")
    ),
    "local_irq_enable": Path("local_irq_enable(): inlined everywhere", ops=("pv_irq_ops.irq_enable",)),
    "set_pte": Path("set_pte(): inlined everywhere", ops=("pv_mmu_ops.set_pte",)),
    "spin_lock": Path("spin_lock(), uncontended", ("_raw_spin_lock",)),
    "spin_unlock": Path("spin_unlock()", ("_raw_spin_unlock",)),
    "spin_lock_irqsave": Path(
        "spin_lock_irqsave() and spin_unlock_irqrestore(), uncontended",
        ("_raw_spin_lock_irqsave", "_raw_spin_unlock_irqrestore"),
    ),
    "system_call": Path("a system call, in and out", ("do_syscall_64", "syscall_exit_to_user_mode")),
    "page_fault": Path(
        "a fault on a page of anonymous memory",
        ("exc_page_fault", "handle_mm_fault", "__handle_mm_fault", "do_anonymous_page"),
    ),
    "context_switch": Path(
        "from one process to another",
        ("__schedule", "switch_mm_irqs_off", "load_new_mm_cr3", "__switch_to", "finish_task_switch"),
    ),
    "fork_page_tables": Path("the page tables of a fork", ("copy_page_range", "copy_pte_range", "dup_mm")),
    "halt": Path("a CPU with nothing to do", ("do_idle", "default_idle")),
}
