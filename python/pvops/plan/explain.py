"""What a site is as built, what each pass of some plans writes there, and what runs in the end: as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pvops.errors import TableError

if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage
    from pvops.image.sites import Site
    from pvops.plan.plan import Plan, Write


class Explanation:
    """One site, as built and as each of some plans leaves it."""

    def __init__(self, kernel: KernelImage, site: Site, plans: Sequence[Plan]) -> None:
        self.kernel = kernel
        self.site = site
        self.plans = plans

    def disassembly(self, address: int, code: bytes) -> str:
        """What bytes do at an address."""
        return "; ".join(text for _, _, text in self.kernel.image.disassemble(address, code))

    def facts(self) -> tuple[str, str]:
        """What the site is, ``pv_irq_ops.irq_enable``, and its measures, ``type 32, 6 bytes``."""
        site = self.site
        size = f"{len(site.bytes)} {'byte' if len(site.bytes) == 1 else 'bytes'}"
        what = site.op or ", ".join(dict.fromkeys(row.table for row in site.rows))
        return what, size if site.type is None else f"type {site.type}, {size}"

    def guesses(self, plan: Plan) -> list[str]:
        """What of the site's bytes is a first guess under a plan."""
        low, high = self.site.address, self.site.address + len(self.site.bytes)
        return [
            f"a first guess: the {open_.len} bytes may be {', '.join(open_.forms)}"
            for open_ in plan.undetermined
            if open_.address < high and open_.address + open_.len > low
        ]

    def document(self) -> Mapping[str, object]:
        """The explanation as data."""
        site = self.site
        return {
            "address": f"{site.address:#x}",
            "section": site.section,
            "symbol": site.symbol,
            "op": site.op,
            "type": site.type,
            "bytes": site.bytes.hex(),
            "disassembly": self.disassembly(site.address, site.bytes),
            "rows": [row.to_dict() for row in site.rows],
            "backends": [self._outcome(plan) for plan in self.plans],
        }

    def _outcome(self, plan: Plan) -> Mapping[str, object]:
        site = self.site
        writes = plan.at(site.address)
        now = bytearray(site.bytes)
        for write in writes:
            for i, byte in enumerate(write.bytes):
                if 0 <= write.address + i - site.address < len(now):
                    now[write.address + i - site.address] = byte
        return {
            "backend": plan.backend.name,
            "writes": [self._write(plan, write) for write in writes],
            "runs": now.hex(),
            "disassembly": self.disassembly(site.address, bytes(now)),
        }

    def _write(self, plan: Plan, write: Write) -> Mapping[str, object]:
        out: dict[str, object] = {
            "table": write.table,
            "index": write.row,
            "bytes": write.bytes.hex(),
            "used": write.used,
            "kind": write.kind,
            "reason": write.reason,
            "source": write.source,
        }
        if write.feature is not None:
            out["feature"] = write.feature
        if write.op is not None and write.op in plan.slots:
            slot = plan.slots[write.op]
            out |= {
                "function": slot.symbol,
                "function_address": f"{slot.address:#x}" if slot.address else None,
                "why": slot.why,
                "why_source": slot.source,
            }
        return out


def explanation(kernel: KernelImage, plans: Sequence[Plan], address: int) -> Explanation:
    """Explains the site that an address lies in.

    Raises:
        TableError: no site is there.
    """
    site = kernel.sites.at(address)
    if site is None:
        raise TableError(f"{kernel.name}: no site at {address:#x}", file=kernel.name, address=address)
    return Explanation(kernel, site, plans)
