"""What a site is as built, what each pass of some plans writes there, and what runs in the end: as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pvops import display
from pvops.errors import TableError
from pvops.plan.reasons import sentences
from pvops.plan.sources import bare, told
from pvops.plan.writes import LONGEST
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage
    from pvops.image.places import Place
    from pvops.image.sites import Site
    from pvops.plan.plan import Plan
    from pvops.plan.writes import Write


class Boot(NamedTuple):
    """What a site comes to under some backends.

    Attributes:
        names: the backends, ``native, kvm``.
        plan: a plan of theirs.
        writes: each write, and why, a sentence a line.
    """

    names: str
    plan: Plan
    writes: list[tuple[Write, list[str]]]


class Explanation:
    """One site, or an instruction that no table names, as built and as each of some plans leaves it.

    Attributes:
        kernel: whose it is.
        site: what is explained; an instruction that no table names has no rows.
        plans: the boots.
        slide: how far the kernel slid whose addresses are shown; those of `document` stay as linked.
    """

    def __init__(self, kernel: KernelImage, site: Site, plans: Sequence[Plan], slide: int = 0) -> None:
        self.kernel = kernel
        self.site = site
        self.plans = plans
        self.slide = slide

    def __repr__(self) -> str:
        backends = ", ".join(plan.backend.name for plan in self.plans)
        return f"<Explanation of {self.site.address:#x} {self.site.symbol or ''} under {backends}>"

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")

    def disassembly(self, address: int, code: bytes) -> str:
        """What bytes do at an address."""
        return self.kernel.disassembly(address, code)

    def facts(self) -> tuple[str, str]:
        """What the site is, ``pv_irq_ops.irq_enable``, and its measures, ``type 32, 6 bytes``."""
        site = self.site
        size = f"{len(site.bytes)} {'byte' if len(site.bytes) == 1 else 'bytes'}"
        what = site.op or ", ".join(dict.fromkeys(row.table for row in site.rows))
        if not what:
            written = any(plan.at(site.address) for plan in self.plans)
            what = "in no table" if written else "as built; no pass writes here"
        return what, size if site.type is None else f"type {site.type}, {size}"

    def boots(self) -> list[Boot]:
        """The boots by what they come to: those whose writes and reasons are the same, whatever told the facts."""
        found: dict[object, list[Plan]] = {}
        for plan in self.plans:
            writes = plan.at(self.site.address)
            same = [(w.table, w.address, w.bytes, *map(bare, sentences(plan, w))) for w in writes]
            found.setdefault((tuple(same), tuple(self.guesses(plan))), []).append(plan)
        return [self._boot(plans) for plans in found.values()]

    def _boot(self, plans: Sequence[Plan]) -> Boot:
        names = list(dict.fromkeys(plan.backend.name for plan in plans))
        writes = plans[0].at(self.site.address)
        said = [[sentences(plan, write) for write in plan.at(self.site.address)] for plan in plans]
        reasons = [
            [told([plan.backend.name for plan in plans], one) for one in zip(*of_write, strict=True)]
            for of_write in zip(*said, strict=True)
        ]
        return Boot(", ".join(names), plans[0], list(zip(writes, reasons, strict=True)))

    def guesses(self, plan: Plan) -> list[str]:
        """What of the site's bytes is a first guess under a plan."""
        low, high = self.site.address, self.site.address + len(self.site.bytes)
        return [
            f"a first guess: the {f'{open_.len} bytes' if open_.len > 1 else 'byte'} may be {', '.join(open_.forms)}"
            for open_ in plan.undetermined_at(low, high)
        ]

    def document(self) -> Mapping[str, object]:
        """The explanation as data."""
        site = self.site
        return {
            "address": f"{site.address:#x}",
            **({"runtime_address": f"{site.address + self.slide:#x}"} if self.slide else {}),
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


def explanation(kernel: KernelImage, plans: Sequence[Plan], address: int, slide: int = 0) -> Explanation:
    """Explains the site that an address lies in, or the instruction there where no table names one.

    Args:
        kernel: the kernel.
        plans: the boots.
        address: as linked.
        slide: how far the kernel slid whose addresses are to be shown.

    Raises:
        TableError: no code is there.
    """
    return Explanation(kernel, kernel.sites.at(address) or as_built(kernel, address), plans, slide)


def explanations(
    kernel: KernelImage, plans: Sequence[Plan], places: Sequence[Place], slide: int = 0
) -> list[Explanation]:
    """Explains every site at some places, and at a place of one address without a site the instruction there.

    Raises:
        TableError: a place of one address has no code.
    """
    found: dict[int, Explanation] = {}
    look_up = kernel.sites.near if len(places) == 1 else kernel.sites.within
    for place in places:
        sites = look_up(place.address, place.end)
        if not sites and place.symbol is None and place.size == 1:
            sites = [as_built(kernel, place.address)]
        for site in sites:
            found.setdefault(site.address, Explanation(kernel, site, plans, slide))
    return list(found.values())


def as_built(kernel: KernelImage, address: int) -> Site:
    """The instruction that an address lies in, as a site that no table names.

    Raises:
        TableError: no code is there.
    """
    section = next((s for s in kernel.image.sections() if s[1] <= address < s[1] + s[2]), None)
    if section is None or not section[3]:
        where = f"lies in {section[0]}, which is no code" if section else "lies in no section"
        raise TableError(f"{kernel.name}: {address:#x} {where}", file=kernel.name, address=address)
    found = kernel.image.symbol_at(address)
    start = max(address - found[1], section[1]) if found else address
    code = kernel.image.read(start, min(address - start + LONGEST, section[1] + section[2] - start)) or b""
    for offset, length, _ in kernel.image.disassemble(start, code, False):
        if start + offset <= address < start + offset + length:
            return kernel.sites.unlisted(start + offset, code[offset : offset + length])
    raise TableError(f"{kernel.name}: the file has no bytes at {address:#x}", file=kernel.name, address=address)
