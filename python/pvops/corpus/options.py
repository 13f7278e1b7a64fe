"""What a kernel is built with, as far as its image tells."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.kernel import Kernel

#: Configuration symbol → the table whose rows show it.
_TABLES = {
    "JUMP_LABEL": "jump_labels",
    "HAVE_STATIC_CALL": "trampolines",
    "DYNAMIC_FTRACE": "mcount",
    "CALL_DEPTH_TRACKING": "call_sites",
    "X86_KERNEL_IBT": "ibt",
    "RETHUNK": "returns",
    "RETPOLINE": "retpolines",
}
#: Configuration symbol → the section that it makes.
_SECTIONS = {"SMP": ".smp_locks", "DEBUG_INFO_BTF": ".BTF", "CFI": ".cfi_sites"}
#: UTS_VERSION of a kernel for more than one CPU; since 7.3 no section shows it.
_SMP = re.compile(r"#\S+ SMP\b")


def options(kernel: Kernel) -> tuple[str, ...]:
    """The configuration symbols that an image shows; what it does not show may be set all the same.

    Raises:
        TableError: a table of the image is malformed.
    """
    counted = kernel.sites.counts().rows
    sized = {name for name, _, size, _ in kernel.image.sections() if size}
    found = ["PARAVIRT"] if len(kernel.ops) else []
    # Privileged instructions are ops with it, and before 4.20 always.
    if any(name.endswith(".write_cr0") for name in kernel.ops.names):
        found += ["PARAVIRT_XXL"]
    found += [option for option, section in _SECTIONS.items() if section in sized]
    if "SMP" not in found and _SMP.search(kernel.image.banner or ""):
        found += ["SMP"]
    found += [option for option, table in _TABLES.items() if counted.get(table)]
    if kernel.image.symbol_count():
        found += ["KALLSYMS"]
        # A variable of every kernel, which is no function.
        found += ["KALLSYMS_ALL"] if kernel.address_of("boot_cpu_data") is not None else []
    return tuple(found)


def compiler(kernel: Kernel) -> str | None:
    """What compiled a kernel, by its banner: ``gcc`` or ``clang``."""
    banner = (kernel.image.banner or "").lower()
    return "clang" if "clang" in banner else "gcc" if "gcc" in banner else None
