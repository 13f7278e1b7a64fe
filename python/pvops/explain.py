"""What a site becomes, and why, in words and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pvops.cli.output import Style, hex_address, spaced
from pvops.errors import TableError

if TYPE_CHECKING:
    from pvops.kernel import Kernel
    from pvops.plan import Plan, Write
    from pvops.sites import Site


class Explanation:
    """One site, as built and as each of some plans leaves it."""

    def __init__(self, kernel: Kernel, site: Site, plans: Sequence[Plan]) -> None:
        self.kernel = kernel
        self.site = site
        self.plans = plans

    def _disassembly(self, address: int, code: bytes) -> str:
        return "; ".join(text for _, _, text in self.kernel.image.disassemble(address, code))

    def text(self, style: Style | None = None) -> str:
        """The explanation as a person would give it, to paste into a mail."""
        style = style or Style("never")
        site = self.site
        width = max(len(site.bytes) * 3, 18)
        head = f"type {site.type}, {len(site.bytes)} {'byte' if len(site.bytes) == 1 else 'bytes'}"
        if site.symbol:
            head += f", in {site.symbol}"
        built = style.code(self._disassembly(site.address, site.bytes))
        lines = [
            f"{style.bold(f'{site.address:016x}')}  {style.bold(site.op)}  {head}",
            f"  {'built':<10}  {spaced(site.bytes):<{width}} {built}",
        ]
        for plan in self.plans:
            for write in plan.at(site.address):
                code = style.runs(self._disassembly(write.address, write.bytes))
                lines.append(f"  {plan.backend.name:<10}  {spaced(write.bytes):<{width}} {code}")
                for reason in self.reasons(plan, write):
                    lines += _wrapped(reason, indent=14)
        return "\n".join(lines)

    def reasons(self, plan: Plan, write: Write) -> list[str]:
        """Why a write is what it is, one sentence a line."""
        slot = plan.slots[write.op]
        holds = f"{write.op} holds {slot.symbol or (hex_address(slot.address) if slot.address else 'NULL')}"
        lines = [f"{holds}: {slot.why} [{slot.source}]"]
        became = {
            "called": "a direct call",
            "jumped": "a direct jump: the op never returns",
            "nopped": "nothing to do: nops",
            "moved": "it returns its argument: a mov",
            "inlined": f"inlined: {write.reason}",
            "trapped": "NULL must never be called: ud2",
            "bug-called": f"NULL must never be called: a call of {plan.rules.null}()",
            "kept": f"kept: {write.reason}",
        }[write.kind]
        lines.append(f"{became} [{write.source}]")
        rest = len(write.bytes) - write.used
        if rest:
            lines.append(f"{rest} {'byte' if rest == 1 else 'bytes'} of {plan.nops.table} nops: {plan.nops.why}")
        return lines

    def document(self) -> Mapping[str, object]:
        """The explanation as data."""
        site = self.site
        return {
            "address": hex_address(site.address),
            "section": site.section,
            "symbol": site.symbol,
            "op": site.op,
            "type": site.type,
            "bytes": site.bytes.hex(),
            "disassembly": self._disassembly(site.address, site.bytes),
            "rows": [row.to_dict() for row in site.rows],
            "backends": [self._outcome(plan) for plan in self.plans],
        }

    def _outcome(self, plan: Plan) -> Mapping[str, object]:
        writes = plan.at(self.site.address)
        runs = writes[-1].bytes if writes else self.site.bytes
        return {
            "backend": plan.backend.name,
            "writes": [self._write(plan, write) for write in writes],
            "runs": runs.hex(),
            "disassembly": self._disassembly(self.site.address, runs),
        }

    def _write(self, plan: Plan, write: Write) -> Mapping[str, object]:
        slot = plan.slots[write.op]
        return {
            "table": write.table,
            "index": write.row,
            "bytes": write.bytes.hex(),
            "used": write.used,
            "kind": write.kind,
            "reason": write.reason,
            "source": write.source,
            "function": slot.symbol,
            "function_address": hex_address(slot.address) if slot.address else None,
            "why": slot.why,
            "why_source": slot.source,
            "nops": plan.nops.table,
        }


def explanation(kernel: Kernel, plans: Sequence[Plan], address: int) -> Explanation:
    """Explains the site that an address lies in.

    Raises:
        TableError: no site is there.
    """
    site = kernel.sites.at(address)
    if site is None:
        raise TableError(f"{kernel.name}: no paravirt site at {address:#x}", file=kernel.name, address=address)
    return Explanation(kernel, site, plans)


def _wrapped(sentence: str, indent: int, columns: int = 110) -> list[str]:
    """A sentence as lines that fit a mail; what is behind its first is indented further."""
    from textwrap import wrap

    pad = " " * indent
    return wrap(
        sentence,
        columns,
        initial_indent=pad,
        subsequent_indent=pad + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
