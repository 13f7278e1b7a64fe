"""What a backend puts into an era's structures by its source alone, with no image to read addresses from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

from pvops.errors import OpsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.definition import Era
    from pvops.eras.structs import Config, Pointer

#: Backends of the eras whose structures are filled by name: module and keyword arguments of its ``structs``.
_HISTORICAL: dict[str, tuple[str, dict[str, bool]]] = {
    "kvm": ("kvm_2010", {}),
    "lguest": ("lguest", {}),
    "vmi": ("vmi", {}),
    "xen": ("xen_2007", {}),
    "xen-placement": ("xen_2007", {"placement": True}),
}


def held_by(name: str, era: Era, config: Config) -> Mapping[str, Pointer]:
    """What each op of an era points to under a backend, by name of the op; None for NULL.

    Raises:
        OpsError: there is no such backend in that era, or what it puts there stands in an image only.
    """
    if name == "native":
        return {op: pointer for t in era.templates(config) for op, pointer in _native(era, config, t.symbol).items()}
    declared = [known for known, (module, _) in _HISTORICAL.items() if era.name in _module(module).ERAS]
    if name in declared:
        module, arguments = _HISTORICAL[name]
        structs = _module(module).structs(era, config, **arguments)
        pointers: Mapping[str, Pointer] = era.patch_template(config, *structs).pointers()
        return pointers
    if declared or era.backends == ("native",):
        raise OpsError(f"no backend {name} is declared for {era.name}: {', '.join(('native', *declared))}")
    raise OpsError(
        f"what {name} puts into the ops of {era.name} is read from a kernel: `pvops ops KERNEL --backend {name}`"
    )


def _module(name: str) -> ModuleType:
    return import_module(f"pvops.backends.{name}")


def _native(era: Era, config: Config, symbol: str) -> Mapping[str, Pointer]:
    template = era.template(config, symbol or None)
    names = {struct.__name__ for struct in template.structs}
    structs = [struct for struct in era.native(config) if type(struct).__name__ in names]
    return era.patch_template(config, *structs, symbol=symbol or None).pointers()
