"""Data that do not change cannot be changed by accident: one object may be part of many plans and images."""

from __future__ import annotations

import copy
import pickle

import pytest

from pvops.assembler import addr, label
from pvops.assembler.operands import eax, mem
from pvops.assembler.statements import Within, align, function, u32
from pvops.assembler.values import Local
from pvops.assembler.x86 import je, jmp, movl
from pvops.backends import kvm
from pvops.backends.conditions import always
from pvops.eras import era
from pvops.eras.structs import Config
from pvops.machine.machine import Machine
from pvops.render.terminal import Style

SEED = era("seed")
NATIVE = SEED.patch_template(SEED.default_config())

FROZEN = (
    *(NATIVE, NATIVE.template, NATIVE.structs["pv_irq_ops"], SEED.info, Style("never")),
    *(label("a"), align(16), u32(1), Within(".rodata"), jmp("a"), movl(1, eax), movl, je, eax, mem(4, eax), Local("a")),
    *(function("f")[1], addr("a"), kvm, always, Config("SMP"), Machine()),
)


@pytest.mark.parametrize("value", FROZEN, ids=lambda value: type(value).__name__)
def test_no_attribute_can_be_set(value: object) -> None:
    names = getattr(value, "__dataclass_fields__", None) or getattr(value, "_fields", None) or ["symbols"]
    names = [*names, *getattr(value, "__dict__", ())]
    for name in names:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_what_structures_and_templates_hold_cannot_be_changed() -> None:
    for held in (NATIVE.structs, NATIVE.structs["pv_irq_ops"].values, NATIVE.template.struct_offsets, SEED.info.values):
        with pytest.raises(TypeError):
            held["pv_irq_ops"] = None  # type: ignore[index]


def test_a_configuration_can_be_copied_and_crosses_to_other_processes() -> None:
    config = Config("SMP", "X86_64")
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config
    assert config.without("SMP") == Config("X86_64")
    assert config.bits == 64
