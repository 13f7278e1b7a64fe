"""What a machine's kernel itself held: the state that decides its text, as `pvops verify` infers it from memory.

It is of one kernel: features are bits of that kernel's words, functions are addresses as linked. Where a machine's
description has it, nothing that it says is derived from facts.
"""

from __future__ import annotations

from collections.abc import Mapping

from pvops.errors import MachineError, there_are
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: What a slot holds whose calls say that they call something other than what was built, and not what.
SOME_FUNCTION = 1


class State(NamedTuple):
    """The state of one kernel on one machine; addresses are as linked.

    Attributes:
        kernel: its release.
        features: ``boot_cpu_data.x86_capability``, word by word.
        nops: name of the nop table.
        return_thunk: where returns jump; None where they return.
        uniprocessor: whether lock prefixes are patched away.
        its_pages: pages of ITS thunks, in the order they were allocated.
        slots: what each op's slot holds, by its address; 0 for NULL, `SOME_FUNCTION` where its calls do not say which.
        keys: whether a static key is on, by its address.
        static_calls: function of a static call, by address of its key; 0 for none.
        early_calls: keys of the static calls that were updated before a return thunk was chosen.
        constants: run-time constants, by name of their section.
        cfi: how indirect calls are checked (one of `CFI_MODES`), and what the hashes are xored with; None where the
            kernel has no ``.cfi_sites``.
        hid_bpf: the trampoline that HID-BPF has attached to a function of its own; None where it has not.
        xen: whether Xen PV wrote what no table names; None where the kernel has no such code.
        hvm_call: how the page that Xen filled for a guest with a machine of its own calls it (one of `HVM_CALLS`); None
            where Xen has filled none.
        inlines: whether ops are inlined by type (``native_patch()``); None where the kernel has none such.
    """

    kernel: str
    features: tuple[int, ...]
    nops: str
    return_thunk: int | None
    uniprocessor: bool
    its_pages: tuple[int, ...]
    slots: Mapping[int, int]
    keys: Mapping[int, bool]
    static_calls: Mapping[int, int]
    early_calls: tuple[int, ...]
    constants: Mapping[str, int]
    cfi: tuple[str, int] | None = None
    hid_bpf: int | None = None
    xen: bool | None = None
    inlines: bool | None = None
    hvm_call: str | None = None

    def moved(self, slide: int, bits: int) -> State:
        """The same state where the kernel slid: every address moved; constants are none of the kernel's addresses."""

        def moved(address: int) -> int:
            return address + slide & (1 << bits) - 1 if address else 0

        return self._replace(
            return_thunk=None if self.return_thunk is None else moved(self.return_thunk),
            its_pages=tuple(map(moved, self.its_pages)),
            slots={moved(slot): f if f == SOME_FUNCTION else moved(f) for slot, f in self.slots.items()},
            keys={moved(key): on for key, on in self.keys.items()},
            static_calls={moved(key): moved(function) for key, function in self.static_calls.items()},
            early_calls=tuple(map(moved, self.early_calls)),
        )

    def to_dict(self) -> dict[str, object]:
        """The state as a document holds it; `from_dict` makes it again."""
        return {
            "kernel": self.kernel,
            "features": [f"{word:#x}" for word in self.features],
            "nops": self.nops,
            "return_thunk": None if self.return_thunk is None else f"{self.return_thunk:#x}",
            "uniprocessor": self.uniprocessor,
            "its_pages": [f"{page:#x}" for page in self.its_pages],
            "slots": {f"{slot:#x}": f"{function:#x}" for slot, function in self.slots.items()},
            "keys": {f"{key:#x}": on for key, on in self.keys.items()},
            "static_calls": {f"{key:#x}": f"{function:#x}" for key, function in self.static_calls.items()},
            "early_calls": [f"{key:#x}" for key in self.early_calls],
            "constants": {name: f"{value:#x}" for name, value in self.constants.items()},
            **({} if self.cfi is None else {"cfi": {"mode": self.cfi[0], "seed": f"{self.cfi[1]:#x}"}}),
            **({} if self.hid_bpf is None else {"hid_bpf": f"{self.hid_bpf:#x}"}),
            **({} if self.xen is None else {"xen": self.xen}),
            **({} if self.inlines is None else {"inlines": self.inlines}),
            **({} if self.hvm_call is None else {"hvm_call": self.hvm_call}),
        }


#: Parts that a document may lack.
_OPTIONAL = ("return_thunk", "cfi", "hid_bpf", "xen", "inlines", "hvm_call")
#: Intel's instruction, and AMD's.
HVM_CALLS = ("vmcall", "vmmcall")
#: How indirect calls are checked: callers too (``paranoid``), arguments cleared (``bhi``), all by a call (``warn``).
CFI_MODES = (
    *("off", "kcfi", "fineibt", "fineibt,paranoid"),
    *("fineibt,bhi", "fineibt,paranoid,bhi", "fineibt,bhi,warn", "fineibt,paranoid,bhi,warn"),
)


def from_dict(document: object, name: str) -> State:
    """The state that a document holds; what is missing or of a wrong type is a `MachineError` that names it."""
    if not isinstance(document, Mapping):
        _bad(name, "", "must be a table")
    missing = [key for key in State._fields if key not in document and key not in _OPTIONAL]
    unknown = [str(key) for key in document if key not in State._fields]
    if missing or unknown:
        _bad(name, (missing or unknown)[0], "is missing" if missing else "unknown key")

    def text(key: str) -> str:
        value = document[key]
        return value if isinstance(value, str) else _bad(name, key, "must be a string")

    def numbers(key: str, bits: int) -> tuple[int, ...]:
        value = document[key]
        if not isinstance(value, list):
            _bad(name, key, "must be a list of numbers")
        return tuple(_number(item, bits, name, key) for item in value)

    def table(key: str) -> Mapping[object, object]:
        value = document[key]
        return value if isinstance(value, Mapping) else _bad(name, key, "must be a table")

    def flag(value: object, key: str) -> bool:
        return value if isinstance(value, bool) else _bad(name, key, "must be true or false")

    def optional(key: str) -> bool | None:
        return None if document.get(key) is None else flag(document[key], key)

    thunk, hid_bpf = document.get("return_thunk"), document.get("hid_bpf")
    hvm_call = document.get("hvm_call")
    if hvm_call is not None and hvm_call not in HVM_CALLS:
        _bad(name, "hvm_call", f"must be one of {', '.join(HVM_CALLS)}")
    return State(
        kernel=text("kernel"),
        features=numbers("features", 32),
        nops=text("nops"),
        return_thunk=None if thunk is None else _number(thunk, 64, name, "return_thunk"),
        uniprocessor=flag(document["uniprocessor"], "uniprocessor"),
        its_pages=numbers("its_pages", 64),
        slots={_number(k, 64, name, "slots"): _number(v, 64, name, "slots") for k, v in table("slots").items()},
        keys={_number(k, 64, name, "keys"): flag(v, "keys") for k, v in table("keys").items()},
        static_calls={
            _number(k, 64, name, "static_calls"): _number(v, 64, name, "static_calls")
            for k, v in table("static_calls").items()
        },
        early_calls=numbers("early_calls", 64),
        constants={str(k): _number(v, 64, name, "constants") for k, v in table("constants").items()},
        cfi=_cfi(document.get("cfi"), name),
        hid_bpf=None if hid_bpf is None else _number(hid_bpf, 64, name, "hid_bpf"),
        xen=optional("xen"),
        inlines=optional("inlines"),
        hvm_call=None if hvm_call is None else str(hvm_call),
    )


def _cfi(document: object, name: str) -> tuple[str, int] | None:
    if document is None:
        return None
    if not isinstance(document, Mapping) or set(document) != {"mode", "seed"}:
        _bad(name, "cfi", "must be a table of mode and seed")
    mode = document["mode"]
    if mode not in CFI_MODES:
        _bad(name, "cfi", f"no mode {str(mode)[:40]!r}{there_are(str(mode)[:40], CFI_MODES)}")
    return str(mode), _number(document["seed"], 32, name, "cfi")


def _number(value: object, bits: int, name: str, key: str) -> int:
    """A number, as such or written in decimal or hexadecimal."""
    number: int | None = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str) and len(value) <= 20:
        try:
            number = int(value, 0)
        except ValueError:
            number = None
    if number is None or not 0 <= number < 1 << bits:
        _bad(name, key, f"no number of {bits} bits: {str(value)[:40]!r}")
    return number


def _bad(name: str, key: str, reason: str) -> NoReturn:
    part = f"state.{key}" if key else "state"
    raise MachineError(f"{name}: part {part}: {reason}", reason=reason, file=name, section=part)
