"""Kernel modules: what of the kernel they are for has to be made up to plan their patching.

A module says which release it is for (``vermagic``), and names what it uses itself. What its patching uses besides is
the kernel's: the array of ops and the functions in it, those that backends put there, the thunks of returns. They get
addresses of their own here, with the names that the release's era declares.
"""

from __future__ import annotations

import pvops._core as _core
from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pvops.eras.definition import Era
    from pvops.image.view import KernelView

#: Functions that passes write calls of or jumps to, whatever the ops are (`src/plan/landmarks.rs`).
_ALWAYS = (
    *("__x86_return_thunk", "srso_return_thunk", "retbleed_return_thunk", "__static_call_return0"),
    *("__static_call_return", "__WARN_trap", "__fentry__"),
)


def linked(module: KernelView) -> _core.Image:
    """A module's image with what its patching needs of the kernel; as it was where no era is known of its release."""
    from pvops import eras as ops
    from pvops.eras import recognise
    from pvops.eras.patching import Inline

    try:
        era = ops.era(recognise.era_of_release(module.release)[0])
    except OpsError:
        return module.image
    config = era.default_config(module.bits)
    arrays = []
    for template in era.templates(config):
        pointers = era.patch_template(config, symbol=template.symbol).pointers()
        arrays.append((template.symbol, [pointers[op.name] for op in template]))
    names = {*_ALWAYS, *_of_backends(era), *_of_rules(era)}
    patch = era.patch_function(config)
    if patch is not None:
        names |= {patch.name, *(do.guard for do in patch.switch.values() if isinstance(do, Inline) and do.guard)}
    return module.image.linked_to(sorted(names), arrays)


def _of_rules(era: Era) -> Iterator[str]:
    yield from era.functions
    if era.paravirt is not None:
        yield from (era.paravirt.nop, *era.paravirt.identities)
        if era.paravirt.null != "ud2":
            yield era.paravirt.null


def _of_backends(era: Era) -> Iterator[str]:
    """Every function that a backend may put into a slot; without the kernel's static tables, so what those hold."""
    from pvops import backends
    from pvops.backends.backend import Copy

    for name in backends.of_images():
        backend = backends.get(name)
        steps = backend.steps(era.name) or ()
        tables = {step.table for step in steps if isinstance(step, Copy)}
        yield from [symbol for symbol in backend.needs.split("|") if symbol and symbol not in tables][-1:]
        for step in steps:
            if isinstance(step, Copy):
                yield from (function.partition("|")[0] for function in (step.otherwise or {}).values())
            else:
                yield step.symbol.partition("|")[0]
