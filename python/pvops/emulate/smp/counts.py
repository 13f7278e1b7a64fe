"""How often ops are called and calls go through memory: hooks where the text has such an instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import iced_x86

from pvops.emulate.patching import FORMS
from pvops.emulate.smp.text import instructions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.locks.kernel import LockImage
    from pvops.emulate.smp.boot import Write
    from pvops.emulate.smp.memory import Memory

_HLT = iced_x86.Code.HLT


class Counts:
    """Counts of what all CPUs executed since they started.

    Args:
        image: the guest.
        memory: which holds its text as it is.
    """

    def __init__(self, image: LockImage, memory: Memory) -> None:
        self.image = image
        self.ops: Counter[str] = Counter()
        self.indirect = 0
        self.slow = 0
        self._sites = image.sites()
        text = list(instructions(image, memory))
        self._indirect = [i.ip for i in text if i.is_call_near_indirect or i.is_jmp_near_indirect]
        #: Where the text has ``hlt``.
        self.halts = [i.ip for i in text if i.code == _HLT]

    def hooks(self) -> Mapping[int, Callable[[int], None]]:
        """What to call before which instruction."""
        out: dict[int, list[Callable[[int], None]]] = {}
        for address, op in self._sites.items():
            out.setdefault(address, []).append(partial(self._op, op))
        for address in self._indirect:
            out.setdefault(address, []).append(self._through)
        for name in self.image.protocol.slow:
            if name in self.image.symbols:
                out.setdefault(self.image.address(name), []).append(self._slow)
        return {address: partial(_each, called) for address, called in out.items()}

    def _op(self, op: str, at: int) -> None:
        self.ops[op] += 1

    def _through(self, at: int) -> None:
        self.indirect += 1

    def _slow(self, at: int) -> None:
        self.slow += 1

    def forms(self, patches: Iterable[Write] | None) -> dict[str, str]:
        """Op → what its sites are, joined by ``+``; `patches` None: as built."""
        found: dict[str, set[str]] = {op: set() for op in self._sites.values()}
        if patches is None:
            return dict.fromkeys(sorted(found), "indirect")
        for write in patches:
            if write.table == "paravirt":
                ud2 = write.bytes[:2] == b"\x0f\x0b"
                found[self._sites[write.address]].add("ud2" if ud2 else FORMS.get(write.kind, write.kind))
        return {op: "+".join(sorted(forms)) for op, forms in sorted(found.items())}


def _each(called: Iterable[Callable[[int], None]], at: int) -> None:
    for one in called:
        one(at)
