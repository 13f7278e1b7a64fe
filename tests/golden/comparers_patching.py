"""Goldens about patching: sites through apply_paravirt, its helpers, nops and the choice of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

from golden.comparers_ops import config_of, template_of
from golden.data import Line, lines
from kernels.given import given
from pvops import _core
from pvops.backends import lguest, vmi, xen_2007
from pvops.decide.patching import core_rules, core_slot
from pvops.eras import era, nops
from pvops.eras.patching import PatchFunction
from pvops.errors import KernelBug

#: Any address: stands for functions that no slot of these lines holds.
ELSEWHERE = 0xC0100000

HELPER_SLOTS: dict[str, Callable[[Line], _core.Slot]] = {
    "paravirt_patch_nop": lambda line: _core.Slot("nop"),
    "paravirt_patch_ignore": lambda line: _core.Slot("null").ignored(),
    "paravirt_patch_ident_32": lambda line: _core.Slot("ident32"),
    "paravirt_patch_ident_64": lambda line: _core.Slot("ident64"),
    "paravirt_patch_call": lambda line: _core.Slot("function", int(line["target"], 16)),
    "paravirt_patch_jmp": lambda line: _core.Slot("function", int(line["target"], 16), jump=True),
    "paravirt_patch_insns": lambda line: (
        _core.Slot("null").ignored()
        if line["insns"] is None
        else _core.Slot("null").inlined(bytes.fromhex(line["insns"]), no_room="keep")
    ),
}


@cache
def rules_of(name: str, bits: int, table: str, call_clobbers: int | None = None) -> _core.TemplateRules:
    paravirt = era(name).paravirt
    assert paravirt is not None
    clobbers = era(name).clobbers(bits)["CLBR_ANY"] if call_clobbers is None else call_clobbers
    return core_rules(paravirt, bits, table, call_clobbers=clobbers)


@cache
def code_templates() -> dict[tuple[str, int, bool, str], list[Line]]:
    """The code that backends copy, an input: by era, bits, SMP and backend."""
    found = defaultdict(list)
    for line in lines(given("goldens")):
        if line["kind"] == "backend-template":
            found[line["era"], line["bits"], line["smp"], line["backend"]].append(line)
    return found


@cache
def patch_function(name: str, bits: int, symbols: tuple[str, ...], backend: str) -> PatchFunction | None:
    the_era = era(name)
    if backend == "native":
        return the_era.patch_function(config_of(name, bits, symbols))
    if backend == "xen":
        return xen_2007.patch_function(the_era)
    if backend == "vmi":
        return vmi.patch_function(the_era)
    inputs = code_templates()[name, bits, "SMP" in symbols, backend]
    if backend == "xen-placement":
        code = {line["op"]: bytes.fromhex(line["code"]) for line in inputs}
        events = {line["op"]: line["reloc_offset"] for line in inputs if line["reloc_offset"] is not None}
        return xen_2007.patch_function(the_era, code, events)
    if backend == "lguest":
        data = int(inputs[0]["symbols"]["lguest_data"], 16)
        return lguest.patch_function(the_era, lguest.code(the_era, data))
    return None


def slot_of(line: Line) -> tuple[int, _core.Slot]:
    """The type of a line's op, and its slot as the line fills it."""
    name, bits, symbols = line["era"], line["bits"], tuple(line["config"])
    template = template_of(name, config_of(name, bits, symbols))
    place = template.op(line["op"])
    struct = next(s for s in template.structs if s.__name__ == place.struct)
    seen = template.config.holds(struct.called)
    held = str(line["pointer"])
    pointer = {"native": "function", "other": "function"}.get(held, held) if seen else "null"
    # Where the ROM was never asked (a site too long for the buffer), what it would answer cannot matter.
    answers: dict[int, tuple[str, int]] = dict.fromkeys(vmi.CALLS.values(), ("none", 0))
    if rom := line.get("rom"):
        answers[rom["call"]] = (str({"bad": 7}.get(rom["type"], rom["type"])), int(rom["eip"], 16))
    inputs = code_templates()[name, bits, "SMP" in symbols, line["backend"]]
    symbol_addresses = {n: int(a, 16) for i in inputs for n, a in i["symbols"].items()}
    slot = core_slot(
        place.name,
        pointer,
        int(line["target"], 16) if line["target"] else 0,
        jump=place.op.jump,
        patch=patch_function(name, bits, symbols, line["backend"]),
        resolve=lambda symbol: symbol_addresses.get(symbol, ELSEWHERE),
        rom=answers,
    )
    return place.type, slot


def paravirt(line: Line) -> dict[str, Any]:
    """One record through apply_paravirt."""
    op_type, slot = slot_of(line)
    out: dict[str, Any] = {"type": op_type}
    before = bytes.fromhex(line["before"])
    core = rules_of(line["era"], line["bits"], line["cpu_nops"])
    try:
        after, used, _, _ = _core.patch_site(slot, core, line["clobbers"], int(line["address"], 16), before)
    except KernelBug:
        return out | {"after": "BUG", "used": None}
    return out | {"after": after.hex(), "used": used}


def helper(line: Line) -> dict[str, Any]:
    """A function of paravirt.c called directly: what it leaves in the insn buffer, no nops."""
    core = rules_of(line["era"], line["bits"], "k8", line.get("target_clobbers", 0))
    slot = HELPER_SLOTS[line["function"]](line)
    address = int(line.get("address", "0"), 16)
    before = bytes.fromhex(line["before"])
    after, used, _, _ = _core.patch_site(slot, core, line.get("site_clobbers", 0), address, before, fill=False)
    return {"used": used, "buffer": after.hex()}


def fill(line: Line) -> dict[str, Any]:
    """add_nops."""
    return {"bytes": _core.fill_nops(line["cpu_nops"], line["len"]).hex()}


def nop_choice(line: Line) -> dict[str, Any]:
    """find_nop_table."""
    cpu = nops.Cpu(line["vendor"], line["family"], line.get("model", 0), frozenset(line["features"]))
    return {"table": era(line["era"]).nops.choose(line["bits"], cpu).table}


COMPARERS: dict[str, Callable[[Line], dict[str, Any] | None]] = {
    "paravirt": paravirt,
    "helper": helper,
    "nops": fill,
    "nop-choice": nop_choice,
}
