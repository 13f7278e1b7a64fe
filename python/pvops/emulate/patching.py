"""``apply_paravirt()`` in a running guest: what its structures hold now decides what its sites become.

The core plans the writes, as for any kernel (`_core.Plan.boot`); here the template comes from the guest's memory, where
its own init code has put it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import pvops._core as _core
from pvops.errors import RunError, there_are
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.cpu import Cpu
    from pvops.emulate.guest.built import BuiltGuest
    from pvops.emulate.macros.paravirt import Paravirt
    from pvops.eras.patching import PatchFunction
    from pvops.kernel import Kernel

#: Nop tables that a guest's CPU may ask for; the seed has no P6.
NOPS = ("k8", "k7", "p6", "generic")

#: What a write of the core makes of a site, in the report's words.
FORMS = {"inlined": "inlined", "called": "call", "jumped": "jmp", "nopped": "nop", "kept": "left", "bug": "ud2"}


class Patch(NamedTuple):
    """What became of one site.

    Attributes:
        address: of the site.
        op: whose call it is.
        form: ``inlined``, ``nop``, ``call``, ``jmp``, ``ud2``, or ``left`` as it was.
        bytes: what stands there now; empty where nothing was written.
        used: how many of them are not filling.
        reason: why, in words.
    """

    address: int
    op: str
    form: str
    bytes: bytes
    used: int
    reason: str


def held(image: BuiltGuest, cpu: Cpu) -> dict[str, int]:
    """What each op's slot holds now, by op."""
    out = {}
    for op in image.pv.template:
        at = image.address(op.struct) + op.offset - image.pv.template.struct_offsets[op.struct]
        out[op.name] = cpu.pointer(at)
    return out


def patch_function(image: BuiltGuest, name: str, placed: bool) -> PatchFunction | None:
    """The patch function that ``pv_init_ops.patch`` points to, by its name; `placed`: Xen's vcpu_info is."""
    era = image.pv.era
    if name == "native_patch":
        return era.patch_function(image.config)
    if name == "lguest_patch":
        from pvops.backends import lguest

        return lguest.patch_function(era, lguest.code(era, image.address("lguest_data")))
    if name == "xen_patch":
        from pvops.backends import xen_2007
        from pvops.emulate.guest.xen_placed import direct_code

        code, check_events = direct_code(image) if placed else ({}, {})
        return xen_2007.patch_function(era, code, check_events)
    return None


class Patched(Protocol):
    """A guest's kernel, as far as patching it asks."""

    @property
    def era(self) -> str:
        """The name of its kernel's era."""

    @property
    def pv(self) -> Paravirt:
        """Its paravirt macros."""

    @property
    def kernel(self) -> Kernel:
        """The image, opened as any kernel."""

    @property
    def symbols(self) -> Mapping[str, int]:
        """Name → address."""

    def address(self, name: str) -> int:
        """The address of a symbol; `RunError` where there is none."""


def plan(
    image: BuiltGuest, pointers: Mapping[str, int], nops: str, features: Iterable[int] = (), *, placed: bool = False
) -> _core.Plan:
    """The writes for a guest whose structures hold these functions.

    Args:
        image: the guest.
        pointers: op → address held.
        nops: of `NOPS`.
        features: numbers of the CPU's features, for alternatives.
        placed: Xen's vcpu_info is where the guest wants it.

    Raises:
        RunError: the patch function is none that is known, or the nop table is none of the era's.
    """
    known = [name for name in NOPS if name != "p6" or image.era != "seed"]
    if nops not in known:
        raise RunError(f"no nop table {nops} in {image.era}{there_are(nops, known)}")
    function = patch_function(image, image.place(pointers["pv_init_ops.patch"]), placed)
    return planned(image, pointers, function, nops, features)


def planned(
    image: Patched,
    pointers: Mapping[str, int],
    function: PatchFunction | None,
    nops: str,
    features: Iterable[int] = (),
    keys: Mapping[int, bool] | None = None,
) -> _core.Plan:
    """The writes, as the core plans them for any kernel.

    Args:
        image: the guest.
        pointers: op → address held.
        function: the patch function; None for the default rules.
        nops: the nop table.
        features: numbers of the CPU's features, for alternatives.
        keys: address of a static key → whether it is on.

    Raises:
        RunError: the era has no pass over paravirt sites.
    """
    from pvops import eras
    from pvops.decide.patching import core_rules, core_slot

    era_rules = eras.era(image.era).paravirt
    if era_rules is None:
        raise RunError(f"{image.era} has no apply_paravirt()")
    identities = {image.address(n): f"ident{b}" for n, b in era_rules.identities.items() if n in image.symbols}
    nop = image.address(era_rules.nop)
    template = []
    for op in image.pv.template:
        address = pointers[op.name]
        kind = "null" if not address else "nop" if address == nop else identities.get(address, "function")
        template.append(core_slot(op.name, kind, address, jump=op.op.jump, patch=function, resolve=image.address))
    clobbers = image.pv.clobbers["CLBR_ANY"]
    words = [0] * 16
    for number in features:
        words[number // 32] |= 1 << number % 32
    rules = core_rules(era_rules, image.pv.bits, nops, call_clobbers=clobbers)
    on = {address: (held, True) for address, held in (keys or {}).items()}
    boot = _core.Boot(words, {}, nops, template=template, rules=rules, keys=on)
    return _core.Plan.boot(image.kernel.tables, boot, eras.era(image.era).passes[-1].name)


def apply(image: BuiltGuest, cpu: Cpu, nops: str = "k8", features: Iterable[int] = ()) -> list[Patch]:
    """Patches a guest's text in its memory for what its structures hold now; may be done again, for something else.

    Every site is first what it was as built: the seed's patcher does not read what an earlier turn left.
    """
    done = []
    names = {op.type: op.name for op in image.pv.template}
    types = [row[2] for row in image.kernel.paravirt.rows()] if image.kernel.paravirt is not None else []
    text = image.built.sections[".text"]
    raw = bytearray(text[1])
    spans = {address: length for address, (_, length) in image.sites().items()} | image.alternatives()
    placed = bool(cpu.word(image.address("have_vcpu_info_placement")))
    writes = plan(image, held(image, cpu), nops, features, placed=placed)
    for address, table, row, code, kind, reason, used, _ in writes.writes():
        if code:
            raw[address - text[0] : address - text[0] + len(code)] = code
            spans[address] = max(spans.get(address, 0), len(code))
        if table == "paravirt":
            form = "ud2" if code[:2] == b"\x0f\x0b" else FORMS.get(kind, kind)
            done.append(Patch(address, names[types[row]], form, code, used, reason))
    for address, length in spans.items():
        cpu.write(address, bytes(raw[address - text[0] : address - text[0] + length]))
    return done
