"""Goldens about code: what the original macros and the original assembler emitted, from the assembler's macros."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from golden.comparers_ops import config_of
from golden.data import Line
from pvops.assembler import Built, Image, label
from pvops.assembler.statements import Body
from pvops.backends import lguest
from pvops.backends.xen_direct import direct
from pvops.emulate.macros.paravirt import Paravirt
from pvops.eras import era
from pvops.eras.structs import Config


@cache
def macros(name: str, config: Config) -> Paravirt:
    """The macros, with sites for every slot: the harness calls lock ops too where the kernel would not."""
    return Paravirt(name, config.with_("SMP", "PARAVIRT_SPINLOCKS"))


def _clobbers(pv: Paravirt, text: str) -> int:
    """The value of ``CLBR_EAX|CLBR_EDX`` or ``(CLBR_ANY & ~CLBR_RDI)``."""
    kept, _, dropped = text.strip("()").partition(" & ~")
    value = 0
    for name in kept.split("|"):
        value |= pv.clobbers[name]
    return value & ~pv.clobbers[dropped] if dropped else value


def emitted(pv: Paravirt, macro: str, op: str) -> tuple[Body, ...]:
    """What one of our macros emits, called as the original was."""
    name, _, argument = macro.partition("(")
    match name:
        case "PVOP_VCALL0":
            return pv.PVOP_VCALL(op)
        case "PVOP_VCALLEE0":
            return pv.PVOP_VCALLEE(op)
        case "DISABLE_INTERRUPTS" | "ENABLE_INTERRUPTS":
            body: tuple[Body, ...] = getattr(pv, name)(_clobbers(pv, argument.removesuffix(")")))
            return body
        case _:
            name = {"ENABLE_INTERRUPTS_SYSEXIT32": "ENABLE_INTERRUPTS_SYSEXIT"}.get(name, name.removeprefix("__"))
            body = getattr(pv, name)()
            return body


def _structures(image: Image, pv: Paravirt, structs: dict[str, int]) -> None:
    """Labels for the ops structures, where the line has them."""
    for name, address in structs.items():
        image.section(f".{name}", address=address)(label(name))


def _row(built: Built) -> bytes:
    return built.sections[".parainstructions"][1]


def callsite(line: Line) -> dict[str, Any]:
    pv = macros(line["era"], config_of(line["era"], line["bits"], tuple(line["config"])))
    image = Image(pv.bits, base=int(line["address"], 16))
    _structures(image, pv, {line["op"].partition(".")[0]: int(line["op_struct"], 16)})
    image.text(emitted(pv, line["macro"], line["op"]))
    built = image.build()
    row = _row(built)
    fields = row[pv.word :]
    return {
        "code": built.sections[".text"][1].hex(),
        "type": fields[0],
        "len": fields[1],
        "clobbers": int.from_bytes(fields[2:4], "little"),
        # Up to the next row, which here there is not.
        "record": row.ljust(len(line["record"]) // 2, b"\0").hex(),
    }


#: The calls that the harness compiles after one PVOP of every slot: wrappers, then the assembler's macros.
_WRAPPERS = ("__raw_local_save_flags", "raw_local_irq_restore", "raw_local_irq_disable", "raw_local_irq_enable")
_STRINGS = ("CLI_STRING", "STI_STRING")
_CLOBBERS = {
    32: ("CLBR_NONE", "CLBR_ANY", "CLBR_EAX", "CLBR_ECX|CLBR_EDX", "CLBR_EAX|CLBR_EDX"),
    64: ("CLBR_NONE", "CLBR_ANY", "CLBR_RAX", "(CLBR_ANY & ~CLBR_RDI)", "CLBR_RET_REG"),
}
_EXITS = {
    32: ("INTERRUPT_RETURN", "ENABLE_INTERRUPTS_SYSEXIT"),
    64: (
        "INTERRUPT_RETURN",
        "ENABLE_INTERRUPTS_SYSEXIT32",
        "USERGS_SYSRET32",
        "USERGS_SYSRET64",
        "SWAPGS_UNSAFE_STACK",
        "SWAPGS",
        "PARAVIRT_ADJUST_EXCEPTION_FRAME",
    ),
}


def _harness(pv: Paravirt) -> Iterator[tuple[str, str]]:
    """(macro, op) of every site of the harness, in the order in which it compiles them."""
    for op in pv.template:
        yield ("PVOP_VCALLEE0" if op.op.callee_save else "PVOP_VCALL0"), op.name
    yield from ((wrapper, "") for wrapper in _WRAPPERS)
    if pv.shape.wrapper_saves:
        yield from ((string, "") for string in _STRINGS)
    for clobbers in _CLOBBERS[pv.bits]:
        yield f"DISABLE_INTERRUPTS({clobbers})", ""
        yield f"ENABLE_INTERRUPTS({clobbers})", ""
    yield from ((macro, "") for macro in _EXITS[pv.bits])


def parainstructions(line: Line) -> dict[str, Any]:
    """A whole section: every site of the harness. Only where its compiler put each is taken from the line."""
    pv = macros(line["era"], config_of(line["era"], line["bits"], tuple(line["config"])))
    given = bytes.fromhex(line["bytes"])
    stride = 8 if pv.bits == 32 else 16
    places = [int.from_bytes(given[at : at + pv.word], "little") for at in range(0, len(given), stride)]
    sites = list(_harness(pv))
    image = Image(pv.bits, base=places[0])
    far = 0xC040_0000 if pv.bits == 32 else 0xFFFF_FFFF_81A0_0000
    _structures(image, pv, {name: far + n * 0x1000 for n, name in enumerate(pv.template.struct_offsets)})
    for n, (place, (macro, op)) in enumerate(zip(places, sites, strict=False)):
        (image.text if n == 0 else image.section(f".text.{n}", address=place))(emitted(pv, macro, op))
    return {"rows": len(sites), "bytes": _row(image.build()).hex()}


def backend_template(line: Line) -> dict[str, Any] | None:
    """The code a backend copies: lguest's few instructions, and Xen's with the one call that it must relocate."""
    if line["backend"] == "lguest":
        by_op = lguest.code(era(line["era"]), int(line["symbols"]["lguest_data"], 16))
        return {"code": by_op[line["op"]].hex()}
    symbols = {name: int(address, 16) for name, address in line["symbols"].items()}
    image = Image(line["bits"], base=int(line["start"], 16))
    image.text(direct(line["bits"], smp=line["smp"])[line["op"]])
    for name in ("check_events", "per_cpu__xen_vcpu_info"):
        image.section(f".{name}", address=symbols[name])(label(name))
    code = image.build().sections[".text"][1]
    call = re.search(rb"\xe8....\Z", code, re.DOTALL)
    return {"code": code.hex(), "reloc_offset": call.start() + 1 if call else None}


COMPARERS: dict[str, Callable[[Line], dict[str, Any] | None]] = {
    "callsite": callsite,
    "parainstructions": parainstructions,
    "backend-template": backend_template,
}
