"""The kernel of a guest as the backends in it see it: its era, its configuration, its assembled image."""

from __future__ import annotations

from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.assembler import Built
    from pvops.emulate.macros.paravirt import Paravirt
    from pvops.eras.structs import Config


class GuestKernel(Protocol):
    """What a backend's part of a guest image asks of the rest."""

    @property
    def pv(self) -> Paravirt:
        """The kernel's paravirt macros, of its era."""

    @property
    def config(self) -> Config:
        """The configuration it is built with."""

    @property
    def built(self) -> Built:
        """The assembled image."""

    def address(self, name: str) -> int:
        """The address of a symbol; `RunError` where there is none."""
