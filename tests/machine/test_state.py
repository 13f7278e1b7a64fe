"""What a kernel held, as a document has it."""

from __future__ import annotations

from typing import Any

import pytest

from pvops.errors import MachineError
from pvops.machine.state import State, from_dict

STATE = State(
    kernel="6.12.0-made",
    features=(1, 0x8000_0000),
    nops="x86",
    return_thunk=None,
    uniprocessor=False,
    its_pages=(0xFFFF_FFFF_C000_0000,),
    slots={0xFFFF_FFFF_8200_0000: 0},
    keys={0xFFFF_FFFF_8200_0008: True},
    static_calls={0xFFFF_FFFF_8200_0010: 0xFFFF_FFFF_8100_0000},
    early_calls=(),
    constants={"runtime_ptr_USER_PTR_MAX": 0x7FFF_FFFF_F000},
)


@pytest.mark.parametrize("cfi", [None, ("off", 0), ("kcfi", 0xFFFF_FFFF), ("fineibt", 7), ("fineibt,paranoid", 1)])
def test_a_state_is_read_back_as_it_was(cfi: tuple[str, int] | None) -> None:
    state = STATE._replace(cfi=cfi)
    document = state.to_dict()
    assert ("cfi" in document) == (cfi is not None)
    assert from_dict(document, "made") == state


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"cfi": "kcfi"}, "part state.cfi: must be a table of mode and seed"),
        ({"cfi": {"mode": "kcfi"}}, "part state.cfi: must be a table of mode and seed"),
        (
            {"cfi": {"mode": "none", "seed": 0}},
            r"part state.cfi: no mode .none. \(there are off, kcfi, fineibt, fineibt,paranoid, fineibt,bhi, ",
        ),
        ({"cfi": {"mode": "kcfi", "seed": 1 << 32}}, "part state.cfi: no number of 32 bits: '4294967296'"),
        ({"colour": 1}, "part state.colour: unknown key"),
    ],
)
def test_what_makes_no_state_is_named(given: dict[str, Any], why: str) -> None:
    with pytest.raises(MachineError, match=why):
        from_dict(STATE.to_dict() | given, "made")
