"""What the sites of one kernel end up as, counted for pvops-against-alternatives.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from pvops import eras as ops
from pvops.kernel import Kernel
from pvops.plan.plan import Plan
from pvops.plan.writes import Write

BACKENDS = {"native": "native", "kvm": "KVM", "xen": "Xen PV"}

#: Prefixes that may stand before a relative branch.
_PREFIXES = b"\x2e\x36\x3e\x26\x64\x65\x66\xf2\xf3"


class Outcome(NamedTuple):
    """What one site ends up as.

    Attributes:
        code: its bytes after all passes.
        used: how many of them are not filling.
        kind: what the last write made of it; ``kept`` where there is none.
        function: what the op's slot holds.
    """

    code: bytes
    used: int
    kind: str
    function: str | None


class Replacement(NamedTuple):
    """What in one replacement refers to a place by its distance: the opcode it begins with, and what needs moving."""

    length: int
    call_first: bool
    jump_first: bool
    branch_later: bool
    rip: bool


class Measured:
    """One kernel and what is counted in it."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sites = [site for site in kernel.sites if site.op is not None]

    @cached_property
    def outcomes(self) -> Mapping[str, list[Outcome]]:
        """By backend, the outcome of each of `sites`, on the machine that a plan assumes where none is given."""
        return {backend: self._outcomes(self.kernel.plan(backend)) for backend in BACKENDS}

    def _outcomes(self, plan: Plan) -> list[Outcome]:
        writes: dict[int, list[Write]] = {site.address: [] for site in self.sites}
        for write in plan:
            found = writes.get(write.address)
            if found is not None and write.bytes:
                found.append(write)
        out = []
        for site in self.sites:
            code, function = bytearray(site.bytes), None
            for write in writes[site.address]:
                code[: len(write.bytes)] = write.bytes
                function = write.function
            assert len(code) == len(site.bytes)
            last = writes[site.address][-1] if writes[site.address] else None
            used, kind = (last.used, last.kind) if last else (len(code), "kept")
            out.append(Outcome(bytes(code), used, kind, function))
        return out

    @cached_property
    def distinct(self) -> list[int]:
        """How many different outcomes each of `sites` has under the backends."""
        return [len({one.code for one in row}) for row in zip(*self.outcomes.values(), strict=True)]

    @cached_property
    def callee_save(self) -> set[str]:
        """The ops whose callers keep all registers but the result's: a C function behind one needs a thunk."""
        era = ops.era(self.kernel.rules.era)
        config = self.kernel.ops.config or era.default_config(self.kernel.bits)
        return {op.name for template in era.templates(config) for op in template if op.op.callee_save}

    @cached_property
    def replacements(self) -> list[Replacement]:
        """Each row of ``.altinstructions``, by what its replacement has in it."""
        image = self.kernel.image
        address, size = next((a, s) for name, a, s, _ in image.sections() if name == ".altinstructions")
        rows = self.kernel.tables.rows("alternatives")
        # The length of the replacement is the last byte of a row in every layout since padlen went.
        stride = size // len(rows)
        raw = image.read(address, size)
        assert raw is not None
        assert stride * len(rows) == size
        out = []
        for index, *_, target in rows:
            length = raw[(index + 1) * stride - 1]
            code = image.read(target, length) if target is not None and length else b""
            out.append(self._replacement(target or 0, code or b""))
        return out

    def _replacement(self, address: int, code: bytes) -> Replacement:
        call = jump = later = rip = False
        for offset, length, text in self.kernel.image.disassemble(address, code, False) if code else ():
            one = code[offset : offset + length]
            leaves = _leaves(one.lstrip(_PREFIXES), address + offset + length, address, address + len(code))
            if offset == 0:
                call, jump = leaves == "call", leaves == "jump"
            elif leaves:
                later = True
            rip |= "(%rip)" in text
        return Replacement(len(code), call, jump, later, rip)


def _leaves(code: bytes, end: int, low: int, high: int) -> str | None:
    """Whether an instruction, without prefixes, is a branch by distance to outside [low, high)."""
    if code[:1] in (b"\xe8", b"\xe9") or (code[:1] == b"\x0f" and code[1:2] and code[1] & 0xF0 == 0x80):
        distance = int.from_bytes(code[-4:], "little", signed=True)
    elif code[:1] and (code[0] & 0xF0 == 0x70 or code[0] in (0xE0, 0xE1, 0xE2, 0xE3, 0xEB)):
        distance = int.from_bytes(code[-1:], "little", signed=True)
    else:
        return None
    if low <= end + distance < high:
        return None
    return "call" if code[0] == 0xE8 else "jump"


Kernels = Mapping[str, Measured]
