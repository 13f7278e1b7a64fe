"""What a patch function (``pv_init_ops.patch``) does with a site before the default rules see it.

``native_patch``, ``lguest_patch``, ``xen_patch`` and ``vmi_patch`` are each a switch over op types. Here the switch is
data: op → `Inline` or `Rom`. What is not in the switch goes to ``paravirt_patch_default`` or is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.tuples import NamedTuple


class Inline(NamedTuple):
    """Code copied over the site in place of a call.

    Attributes:
        code: the instructions, bytes.
        guard: inline only while the op's slot holds this function (``queued_spin_unlock`` since 4.2); empty: whatever
            it holds.
        no_room: what happens where the code is longer than the site: ``"keep"`` the indirect call (native_patch to
            2.6.33), ``"default"`` rules (lguest, Xen) or ``"bug"`` (later kernels).
        unless: not on a CPU with this flag of /proc/cpuinfo; empty: on every CPU.
        reloc: offset in ``code`` of a rel32 to fix up for the new place (Xen's ``call check_events``), or -1.
        reloc_target: what that rel32 refers to; only with ``reloc``.
    """

    code: bytes
    guard: str = ""
    no_room: str = "keep"
    reloc: int = -1
    reloc_target: str = ""
    unless: str = ""


class Rom(NamedTuple):
    """Ask VMI's ROM for this call number; its relocation decides (``patch_internal``, 2.6.24 vmi_32.c)."""

    call: int


class PatchFunction(NamedTuple):
    """One backend's ``pv_init_ops.patch``.

    Attributes:
        name: ``native_patch``.
        source: kernel version and file.
        switch: what it does by op; everything else goes to ``otherwise``.
        otherwise: ``"default"`` (paravirt_patch_default) or ``"ignore"`` (leave the site as it is).
        labelled: what some releases of the era inline too: those whose image names the label before the code.
    """

    name: str
    source: str
    switch: Mapping[str, Inline | Rom]
    otherwise: str = "default"
    labelled: Mapping[str, Inline] = {}


def inline_all(
    name: str,
    source: str,
    code: Mapping[str, str],
    *,
    no_room: str = "keep",
    guard: Mapping[str, str] | None = None,
) -> PatchFunction:
    """A patch function that inlines these ops and leaves the rest to the default rules.

    Args:
        name: ``native_patch``.
        source: kernel version and file.
        code: op → instructions in hex.
        no_room: see `Inline`.
        guard: op → the function it must hold to be inlined, for those that are asked.
    """
    guards = guard or {}
    return PatchFunction(
        name,
        source,
        {op: Inline(bytes.fromhex(text), guards.get(op, ""), no_room) for op, text in code.items()},
    )
