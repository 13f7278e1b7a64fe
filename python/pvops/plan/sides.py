"""The sides of a comparison as they are named: a backend, a machine, or both."""

from __future__ import annotations

import os

from pvops import backends
from pvops.errors import InputError, UsageError, nearest
from pvops.machine import presets
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.plan.plan import Plan


class Named(NamedTuple):
    """A side, as a text names it.

    Attributes:
        name: what to call it.
        backend: empty where the machine tells.
        machine: a file, a preset's name, ``-`` or ``baseline``; None where a backend alone is named.
    """

    name: str
    backend: str
    machine: str | None


def parse(given: str) -> Named:
    """What a text names: ``kvm``, ``guest.facts``, ``intel-haswell``, ``kvm:guest.facts``.

    Raises:
        UsageError: it names no machine behind a colon.
        InputError: there is neither a file nor a backend nor a preset of that name; the nearest is named.
    """
    if given.casefold() in backends.names():
        return Named(given.casefold(), given.casefold(), None)
    backend, colon, path = given.partition(":")
    backend = backend.casefold()
    if not colon or backend not in backends.names():
        backend, path = "", given
    if colon and backend and not path:
        raise UsageError(f"{given}: names no machine behind the colon; {backend} alone is the backend")
    if path == presets.BASELINE:
        return Named(given, backend, path)
    if path != "-" and not os.path.exists(path) and path not in presets.NAMES:
        hint = nearest(path, (*backends.names(), *presets.NAMES, presets.BASELINE))
        known = f"no backend ({', '.join(backends.names())}) and no preset (`pvops machine --presets`)"
        raise InputError(f"{path}: no such file, {known}{hint}", file=path)
    return Named(given, backend, path)


def called(plan: Plan, beside: Plan) -> str:
    """What to call a plan beside another: by its backend, by its machine, or by both, as they are unlike."""
    machine, other = (presets.BASELINE if one.machine is None else one.machine.name for one in (plan, beside))
    if plan.backend.name == beside.backend.name:
        return machine
    return plan.backend.name if machine == other else f"{plan.backend.name}:{machine}"
