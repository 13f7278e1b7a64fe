"""Goldens about the structures themselves: numbers, offsets, sizes and initial values."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from golden.data import Line
from pvops.backends import lguest, xen_2007
from pvops.eras import era
from pvops.eras.structs import Config, OpsStruct
from pvops.eras.template import PatchTemplate, Template


@cache
def config_of(name: str, bits: int, symbols: tuple[str, ...]) -> Config:
    return era(name).config(bits, symbols)


@cache
def template_of(name: str, config: Config) -> Template:
    return era(name).template(config)


@cache
def structs_of(name: str, config: Config, backend: str) -> tuple[OpsStruct, ...]:
    the_era = era(name)
    match backend:
        case "native":
            return the_era.native(config)
        case "lguest":
            return lguest.structs(the_era, config)
        case "xen":
            return xen_2007.structs(the_era, config)
        case "xen-placement":
            return xen_2007.structs(the_era, config, placement=True)
        case _:
            raise ValueError(backend)


def _place(line: Line) -> tuple[str, Config]:
    return line["era"], config_of(line["era"], line["bits"], tuple(line["config"]))


def template(line: Line) -> dict[str, Any]:
    op = template_of(*_place(line)).op(line["op"])
    return {"type": op.type, "offset": op.offset}


def asm_offset(line: Line) -> dict[str, Any]:
    name, config = _place(line)
    return {"value": era(name).asm_offsets(config).get(line["name"])}


def layout(line: Line) -> dict[str, Any]:
    name, config = _place(line)
    return {"value": era(name).layout(config).get(line["name"])}


def ops_initial(line: Line) -> dict[str, Any]:
    """The value is what the structure holds; whether the patcher sees it is another matter (pv_lock_ops)."""
    name, config = _place(line)
    op = template_of(name, config).op(line["op"])
    filled = PatchTemplate(template_of(name, config), *structs_of(name, config, line["backend"]))
    return {"type": op.type, "value": filled.structs[op.struct][op.field]}


COMPARERS: dict[str, Callable[[Line], dict[str, Any] | None]] = {
    "template": template,
    "asm-offset": asm_offset,
    "layout": layout,
    "ops-initial": ops_initial,
}
