"""A kernel's image with what follows from it alone: its rules, its ops, its feature numbers, its sites."""

from __future__ import annotations

from _thread import RLock
from functools import cached_property

import pvops._core as _core
from pvops.image.view import KernelView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pvops.eras import Version
    from pvops.eras.rules import Rules
    from pvops.image.numbers import Numbers
    from pvops.image.ops import KernelOps
    from pvops.image.sites import Sites

    T = TypeVar("T")


#: How far before a function its hash is where functions are aligned to 16 bytes: every kernel looks there.
_NEAR = 16


class KernelImage(KernelView):
    """An image whose era is known as far as it tells. Plans, what decides them, and the verifier take one.

    Args:
        image: the core's image.
        path: the file it was opened from; None where it has none. ``name`` is for people, and may not lead there.
    """

    def __init__(self, image: _core.Image, path: str | None = None) -> None:
        super().__init__(image)
        self.path = path
        self._lock = RLock()
        self._kept: dict[Callable[[Any], object], Any] = {}

    def keep(self, what: Callable[[KernelImage], T]) -> T:
        """What a function makes of this image: made once and kept with it, also where several threads ask at a time."""
        with self._lock:
            if what not in self._kept:
                self._kept[what] = what(self)
            found: T = self._kept[what]
            return found

    @property
    def era(self) -> str | None:
        """The era whose ops and rules it has, by its functions, rows and release; None where they do not tell."""
        from pvops.eras import recognise
        from pvops.errors import OpsError, TableError

        try:
            rows = self._alternatives
        except TableError:
            rows = None
        try:
            return recognise.era_of(self, self.release, rows, self.sources, self._dated).era.name
        except OpsError:
            return None

    @property
    def _alternatives(self) -> str | None:
        """The layout of ``.altinstructions``; None where there is none."""
        return self.tables.alternatives_layout if self.has_section(".altinstructions") else None

    @cached_property
    def rules(self) -> Rules:
        """The rules this kernel patches by.

        Raises:
            OpsError: nothing in the image tells them.
        """
        from pvops.eras import recognise

        found = recognise.of_image(self, self.release, self._alternatives, self.sources, self._dated)
        # The functions that tell are not a module's: they stand there by its release.
        return found._replace(reason=f"a module of {self.release}") if self.image.is_module else found

    def _dated(self) -> Version | None:
        """The release that the names of its features tell."""
        from pvops.image import dated

        return dated.by_names(self)

    def by_release(self) -> list[str]:
        """What is taken from the version beside `rules`, as nothing in the image tells it: sentences, with the commit.

        Raises:
            OpsError: nothing in the image tells its rules.
            TableError: a table is malformed.
        """
        said = []
        built, sealed = self.tables.preambles if self.has_section(".cfi_sites") else (_NEAR, None)
        if built != _NEAR and sealed is None:
            far = dict(_core.PassRules(self.rules.passes).choices())["far_preambles"] == "yes"
            said.append(
                f"hashes lie {built} bytes before their functions, and the kernel looks for them "
                f"{built if far else _NEAR} bytes before: its version says so, as no code of it does "
                "(24c8147abb39, 7.0, and stable)"
            )
        numbers = self.feature_numbers
        named = (numbers.name(number) for number in numbers.consulted())
        if declared := [name.name for name in named if name is not None and not name.verified]:
            what = f"the number of {declared[0]}" if len(declared) == 1 else f"the numbers of {', '.join(declared)}"
            said.append(f"{what}: as {numbers.declared.release} declares, and nothing in the image confirms")
        if self.sources is None:
            said.append("no banner names a version: what hangs on it is as on the machine's release, or as in 6.1")
        return said

    @cached_property
    def ops(self) -> KernelOps:
        """The image's ops: where they lie, what they are called, and what its own ``pv_ops`` holds.

        Raises:
            TableError: the sites disagree about the address of the ops, or there are none.
        """
        from pvops.image.ops import KernelOps

        return KernelOps(self, self._likely)

    def _likely(self) -> str | None:
        return self.era

    def disassembly(self, address: int, code: bytes) -> str:
        """What bytes do at an address; of a constant that the kernel writes into an instruction, the number."""
        if address in self._constants:
            return f"{int.from_bytes(code, 'little'):#x}"
        return "; ".join(text for _, _, text in self.image.disassemble(address, code))

    @cached_property
    def _constants(self) -> frozenset[int]:
        return frozenset(site.address for site in self.sites.of_table("runtime_const"))

    @cached_property
    def feature_numbers(self) -> Numbers:
        """Which feature each number of ``.altinstructions`` stands for.

        Raises:
            TableError: the table is malformed.
        """
        from pvops.image import numbers

        return numbers.of_image(self)

    @cached_property
    def sites(self) -> Sites:
        """Every site of every table.

        Raises:
            TableError: a table is malformed.
        """
        from pvops.image.sites import Sites

        return Sites(self, lambda: self.ops, self._pass_order)

    def _pass_order(self) -> list[str]:
        """The tables in the order of the kernel's passes; nothing where nothing tells its rules."""
        from pvops.errors import OpsError

        try:
            return _core.pass_order(self.rules.passes)
        except OpsError:
            return []
