"""Which backend a kernel takes on a machine."""

from __future__ import annotations

from pvops.errors import OpsError
from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.image.kernel_image import KernelImage
    from pvops.machine.machine import Machine


class Choice(NamedTuple):
    """A backend by its command line name, and its source."""

    name: str
    why: str


#: What the log calls the one below a kernel with CONFIG_PARAVIRT that runs on none.
_ON = "paravirtualized kernel on "
_NONE = "bare hardware"


def chosen(kernel: KernelImage, machine: Machine | None, era: str | None = None) -> Choice:
    """`backend_for`, to plan by: what a guest's ops hold cannot be read from an image that names no function.

    Where the machine's state says what they held, that is what the plan takes.

    Raises:
        OpsError: also where the kernel runs as a guest of some hypervisor, and nothing tells what that puts into ops.
    """
    choice = backend_for(kernel, machine, era)
    if machine is None or choice.name != "native" or not kernel.ops.names or kernel.image.symbol_count():
        return choice
    if machine.state is not None:
        return choice
    name, why = machine.backend
    on = machine.logged(_ON)
    if on is not None and not on.startswith(f"{_ON}{_NONE}"):
        why = f'log: "{on}"'
    elif on is not None or name in (None, "native"):
        return choice
    image = f"the image of {kernel.release}" if kernel.release else "the image"
    reason = f"{why}, and {image} names no function: what the ops hold there is not known (--backend native: on none)"
    raise OpsError(f"{kernel.name}: {reason}", reason=reason, file=kernel.name)


def backend_for(kernel: KernelImage, machine: Machine | None, era: str | None = None) -> Choice:
    """The backend of the machine's hypervisor, where the kernel has that guest code; native where not.

    Args:
        kernel: the kernel.
        machine: what it boots on.
        era: whose rules it patches by; its own where none is given.

    Raises:
        OpsError: nothing tells by which rules this kernel patches.
    """
    from pvops import backends

    if machine is None:
        return Choice("native", "no machine given")
    name, why = machine.backend
    if name is None or name == "native":
        return Choice("native", why)
    if name not in backends.of_images():
        return Choice("native", f"{why}: {name} has no ops of its own")
    era = era or kernel.rules.era
    try:
        backend = backends.get(name, era)
    except OpsError as error:
        return Choice("native", f"{why}; {error}")
    if backend.steps(era) is None:
        return Choice("native", f"{why}; kernels of era {era} have no code for {backend.title}")
    needs = [symbol for symbol in backend.needs.split("|") if symbol]
    if needs and not any(kernel.address_of(symbol) is not None for symbol in needs):
        reason = "the kernel is built without" if kernel.image.symbol_count() else "the image names no function of"
        return Choice("native", f"{why}; {reason} {backend.title} (no symbol {needs[0]})")
    return Choice(name, why)
