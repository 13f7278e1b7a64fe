"""Backends of 2.6 on an opened image: what their init code puts into the structures, by name, found in the image.

Their static tables are declared (`pvops.backends.headers`), not read from the image: the kernels of that time can be
built in many ways, and few images are about. What stands here is what ``alternative_instructions()`` finds.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.backends import lguest, xen_2007
from pvops.backends.backend import Backend, Fill, Slot
from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.definition import Era
    from pvops.eras.patching import PatchFunction

#: name → title, `Machine.hypervisor`, where its structures are filled, the eras for which it is declared so, and
#: functions that every kernel has which is built with it.
_BACKENDS = {
    "lguest": ("lguest", "lguest", "lguest_init()", lguest.ERAS, "lguest_init|lguest_write_cr3"),
    "xen": (
        "Xen PV",
        "xen-pv",
        "arch/x86/xen/enlighten.c: xen_start_kernel()",
        xen_2007.ERAS,
        "xen_start_kernel|xen_write_cr3",
    ),
}


class HistoricalBackend(Backend):
    """A backend whose ops are declared by name, era by era."""

    def fill(self, fill: Fill) -> dict[str, Slot]:
        from pvops import eras as ops
        from pvops.backends.headers import held_by

        # First: which configurations it runs in says nothing of a kernel that has none of it.
        self._built_in(fill)
        held = dict(held_by(self.name, ops.era(fill.era), fill.config))
        source = f"{_BACKENDS[self.name][2]}, {fill.era}"
        # A structure that it does not fill stays as it was built: that of the locks.
        filled = {op.partition(".")[0] for op, symbol in held.items() if symbol is not None}
        data = {op.name for op in ops.era(fill.era).template(fill.config) if op.op.data}
        slots = {
            op: self._slot(fill, op, held.get(op), "its init code puts it there", source)
            if op.partition(".")[0] in filled and op not in data
            else fill.native[op]
            for op in fill.ops
        }
        for op, symbol in self._later(fill).items():
            if op in slots and fill.image.address_of(symbol) is not None:
                slots[op] = self._slot(fill, op, symbol, "put there once the kernel has its own page tables", source)
        return slots

    def steps(self, era: str) -> tuple[()] | None:
        """No steps: what it puts in is declared whole."""
        return () if era in _BACKENDS[self.name][3] else None

    def possible(self, fill: Fill) -> dict[str, set[int]]:
        """See `Backend.possible`: what its init code puts there depends on no machine."""
        return {op: {slot.address or 0} for op, slot in self.fill(fill).items() if slot != fill.native[op]}

    def patch_function(self, fill: Fill, native: PatchFunction | None) -> PatchFunction | None:
        from pvops import eras as ops

        era: Era = ops.era(fill.era)
        patcher = self.patcher(fill)
        if patcher == "lguest_patch":
            data = fill.image.address_of("lguest_data")
            if data is None:
                raise OpsError("lguest_patch writes the address of lguest_data, and the image has no such symbol")
            return lguest.patch_function(era, lguest.code(era, data))
        if patcher == "xen_patch":
            return xen_2007.patch_function(era)
        return native if native is not None and native.name == patcher else None

    def _later(self, fill: Fill) -> Mapping[str, str]:
        if self.name != "xen":
            return {}
        later = xen_2007.LATER["2.6.33" if fill.era == "2.6.33" else "2.6.24"]
        if fill.era == "2.6.23-flat":
            return {f"paravirt_ops.{op.partition('.')[2]}": symbol for op, symbol in later.items()}
        return later

    def _slot(self, fill: Fill, op: str, symbol: str | None, why: str, source: str) -> Slot:
        if symbol is None:
            return Slot(op, None, None, f"{why}: NULL", source)
        name, _, offset = symbol.partition("+")
        address = fill.image.address_of(name)
        if address is None:
            raise OpsError(f"backend {self.name}: {op} holds {symbol}, but the image has no symbol of that name")
        return Slot(op, symbol, address + int(offset or "0", 0), why, source)


def get(name: str, era: str) -> Backend | None:
    """The backend of a name for images of an era, where it is declared by name; else None.

    Raises:
        OpsError: no image can say what it does.
    """
    if name == "vmi":
        raise OpsError(f"no backend vmi for images of {era}: what VMI's ROM answers is not in an image")
    title, hypervisor, _, eras, needs = _BACKENDS.get(name, ("", "", "", (), ""))
    return HistoricalBackend(name, title, hypervisor, {}, needs=needs) if era in eras else None
