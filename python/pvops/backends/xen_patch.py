"""``xen_patch()`` to 4.13: the irq ops' direct code, copied over sites that have the room for it.

From 2.6.30 on C's sites of the irq ops are a call alone, and the code is longer on i386 and x86-64 alike: then default
rules are all there is. Before, i386's sites save registers around the call, and ``xen_irq_disable_direct`` fits; so it
does later where assembler saves them (``ldt_ss`` of 3.2). It copies only what ``xen_vcpu_setup()`` put into the slots:
where Xen let the kernel say where vcpu_info is.

Source: arch/x86/xen/enlighten.c and xen-asm_32.S of 2.6.26, 2.6.27 and 2.6.30 (``ENDPATCH``, ``RELOC``).
"""

from __future__ import annotations

from pvops.backends.backend import Backend, Fill, ImageView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.patching import Inline, PatchFunction

_OPS = ("irq_enable", "irq_disable", "save_fl", "restore_fl")
#: No such code is longer.
_LONGEST = 64


class PatchingBackend(Backend):
    """A backend whose ``pv_init_ops.patch`` may be ``xen_patch``."""

    def patch_function(self, fill: Fill, native: PatchFunction | None) -> PatchFunction | None:
        """See `Backend.patch_function`."""
        if native is None or self.patcher(fill) != "xen_patch":
            return super().patch_function(fill, native)
        from pvops.eras.patching import PatchFunction

        found = {f"pv_irq_ops.{op}": direct(fill.image, f"xen_{op}_direct") for op in _OPS}
        switch = {op: inline for op, inline in found.items() if inline is not None}
        return PatchFunction("xen_patch", f"{fill.era} arch/x86/xen/enlighten.c", switch)


def direct(image: ImageView, name: str) -> Inline | None:
    """The code between a function and its ``_end``, with what of it is relative; None where no symbol says."""
    start, end = image.address_of(name), image.address_of(f"{name}_end")
    if start is None or end is None or not start < end <= start + _LONGEST:
        return None
    words = [image.read_word(at) for at in range(start, end, image.word)]
    if None in words:
        return None
    code = b"".join((word or 0).to_bytes(image.word, "little") for word in words)[: end - start]
    from pvops.eras.patching import Inline

    place = image.address_of(f"{name}_reloc") or 0
    reloc = place - start if start < place < end else -1
    return Inline(code, guard=name, no_room="default", reloc=reloc, reloc_target="check_events" if reloc >= 0 else "")
