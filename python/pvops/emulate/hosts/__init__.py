"""What can be below a guest, by name; the user's own can be added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvops.errors import RunError

if TYPE_CHECKING:
    from pvops.emulate.hosts.host import HostModel

#: The backends a guest of each era runs under.
BACKENDS = {
    "seed": ("native", "lguest", "xen", "xen-placement"),
    "2.6.33": ("native", "lguest", "xen", "xen-placement", "kvm"),
}


def of(name: str, era: str) -> type[HostModel]:
    """The host of a backend; `RunError` where an era has none of that name."""
    from importlib import import_module

    if name not in BACKENDS.get(era, ()):
        raise RunError(f"no guest of {era} runs under {name} (there are {', '.join(BACKENDS.get(era, ()))})")
    words = name.split("-")
    module = import_module(f"{__name__}.{'_'.join(words)}")
    found: type[HostModel] = getattr(module, "".join(word.capitalize() for word in words))
    return found
