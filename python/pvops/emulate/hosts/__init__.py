"""What can be below a guest, by name; the user's own can be added."""

from __future__ import annotations

from pvops.errors import RunError, there_are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.emulate.guest.built import BuiltGuest
    from pvops.emulate.hosts.host import HostModel

#: The backends a guest of each era runs under, on i386.
BACKENDS = {
    "seed": ("native", "lguest", "xen", "xen-placement"),
    "2.6.33": ("native", "lguest", "xen", "xen-placement", "kvm"),
}


def of(name: str, era: str) -> type[HostModel]:
    """The host of a backend; `RunError` where an era has none of that name."""
    from importlib import import_module

    if name not in BACKENDS.get(era, ()):
        raise RunError(f"no guest of {era} runs under {name}{there_are(name, BACKENDS.get(era, ()))}")
    words = name.split("-")
    module = import_module(f"{__name__}.{'_'.join(words)}")
    found: type[HostModel] = getattr(module, "".join(word.capitalize() for word in words))
    return found


def below(image: BuiltGuest) -> dict[str, type[HostModel]]:
    """The hosts of a guest, by name of the backend."""
    if image.bits == 64:
        from pvops.emulate.hosts.wide import HOSTS

        return dict(HOSTS)
    return {name: of(name, image.era) for name in BACKENDS[image.era]}
