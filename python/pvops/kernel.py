"""An opened kernel image: its sites, its ops, and the plans made for it."""

from __future__ import annotations

import os

import pvops._core as _core
from pvops import display
from pvops.errors import ImageError, OpsError, TableError, wanted
from pvops.image.kernel_image import KernelImage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Executor

    from typing_extensions import Buffer

    from pvops.backends.backend import Backend, Slot
    from pvops.eras.rules import Rules
    from pvops.errors import Error
    from pvops.image.memory import Progress
    from pvops.image.places import Place
    from pvops.machine.machine import Machine
    from pvops.plan.diff import Comparison
    from pvops.plan.explained import Explained
    from pvops.plan.listing import Listing
    from pvops.plan.plan import Plan
    from pvops.verify.judged import Source
    from pvops.verify.report import Report


def open(source: str | os.PathLike[str] | Buffer) -> Kernel:
    """Opens a kernel: a vmlinuz of any compression, also in a unified kernel image, an ELF vmlinux, or a module
    (``.ko``, compressed or not).

    Nothing in it is ever executed. An uncompressed file is mapped, and uncompressed bytes stay where they are: whoever
    changes them changes the kernel.

    >>> pvops.open("vmlinux-sample")
    <Kernel 6.1.0-pvops-sample x86_64>
    >>> pvops.open(b"no kernel")
    Traceback (most recent call last):
    pvops.errors.ImageError: <bytes>: is neither an ELF file, nor a bzImage, nor in a compression the kernel supports

    Args:
        source: a path, or the bytes of an image: anything with the buffer protocol (``bytes``, ``mmap.mmap``, …).

    Raises:
        InputError: the file cannot be read.
        ImageError: it is no kernel image, or a broken one; the message names file, offset and reason.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        return _opened(_core.Image.open(path), os.path.abspath(path))
    from pvops.image.buffers import contiguous

    return _opened(_core.Image.from_bytes("<bytes>", contiguous(source, "a path or bytes")), source)


def open_stdin() -> Kernel:
    """Opens the kernel that standard input holds."""
    return _opened(_core.Image.from_stdin())


#: Sections that linker scripts of the kernel make, on x86 in every release: one of them is in any vmlinux.
_OF_KERNELS = frozenset({"__ex_table", "__ksymtab", ".altinstructions", ".parainstructions", ".smp_locks"})


def _opened(image: _core.Image, source: str | Buffer | None = None) -> Kernel:
    kernel = Kernel(image, source)
    names = {name for name, *_ in image.sections()}
    if image.release is None and not image.is_module and names and names.isdisjoint(_OF_KERNELS):
        why = "is an ELF file, and no Linux kernel: it has neither the kernel's banner nor one of its tables"
        raise ImageError(f"{image.name}: {why}", reason=why, file=image.name)
    if image.is_module:
        from pvops.image.modules import linked

        return Kernel(linked(kernel), source)
    return kernel


def _described(machine: Machine | str | os.PathLike[str] | None) -> Machine | None:
    """The machine that is meant; None where none is given, or a CPU of which nothing is known."""
    from pvops.machine.machine import Machine
    from pvops.machine.presets import BASELINE

    if machine is None or isinstance(machine, Machine):
        return machine
    return None if machine == BASELINE else Machine.load(machine)


class Kernel(KernelImage):
    """An opened kernel image. Make one with `pvops.open`.

    It crosses to other processes by the path it was opened from, or by its bytes.

    >>> kernel = pvops.open("vmlinux-sample")
    >>> kernel.release, kernel.bits, len(kernel.sites)
    ('6.1.0-pvops-sample', 64, 107)
    >>> kernel.slots("kvm")["pv_cpu_ops.io_delay"]
    <pv_cpu_ops.io_delay = kvm_io_delay at 0xffffffff810003b0>
    >>> kernel.whole(kernel.places("sample_lock+3")[0])
    <Place 0xffffffff81000450, 16 bytes, sample_lock>
    >>> [hex(address) for address in kernel.sites_of("sample_lock")]
    ['0xffffffff81000453']
    """

    def __init__(self, image: _core.Image, source: str | Buffer | None = None) -> None:
        super().__init__(image, source if isinstance(source, str) else None)
        self._source = source

    def __reduce__(self) -> tuple[object, ...]:
        if self._source is None:
            raise OpsError(f"{self.name}: was read from a pipe, which another process cannot read again")
        return open, (self._source if isinstance(self._source, str) else bytes(memoryview(self._source)),)

    def _repr_html_(self) -> str:
        return display.show(self, "fragment")

    def plan(
        self,
        backend: Backend | str | None = None,
        *,
        machine: Machine | str | os.PathLike[str] | None = None,
        rules: Rules | None = None,
        places: Sequence[Place] | None = None,
    ) -> Plan:
        """What this kernel writes to its own text under a backend, on a machine.

        Args:
            backend: a backend or its name; without one that of the machine's hypervisor, native where it tells of none.
            machine: what it boots on: a machine, or what ``--machine`` takes (a file, a preset's name, ``baseline`` for
                a CPU of which nothing is known). Without one it is a CPU usual in servers when the kernel came out, by
                `Machine.usual`; what neither tells is assumed, and the plan says what.
            rules: other rules than the image's own.
            places: plan these alone, which takes a fraction of the time: what is written there is what the whole plan
                has there. Such a plan has no text and no image, and is compared with no other; that the kernel would
                stop elsewhere is not told.

        Raises:
            OpsError: the backend does not fit this kernel.
            KernelBug: the kernel would stop in its patching code.
        """
        from pvops.plan.plan import Plan

        return Plan(self, *self._asked(backend, machine, rules), places)

    def explain(
        self,
        where: int | str,
        backend: Backend | str | None = None,
        *,
        machine: Machine | str | os.PathLike[str] | None = None,
    ) -> Explained:
        """What a place becomes under a backend, on a machine, and why: what ``pvops explain`` prints. That place alone
        is planned; a plan that there is has [its own][pvops.Plan.explain].

        Args:
            where: an address, or a place as `places` takes it.
            backend: as `plan` takes it.
            machine: as `plan` takes it.

        Raises:
            ImageError: there is no such symbol, or the address lies outside the image.
            TableError: no code is there.
            OpsError: the backend does not fit this kernel.
        """
        return self.plan(backend, machine=machine, places=self.places(where)).explain(where)

    def disasm(
        self,
        where: int | str,
        backend: Backend | str | None = None,
        *,
        machine: Machine | str | os.PathLike[str] | None = None,
    ) -> Listing:
        """The function that a place lies in, as it runs under a backend, on a machine: its instructions, each with the
        pass that wrote it. Printed, it is what ``pvops disasm`` prints. Arguments and errors are those of `explain`.
        """
        from pvops.plan.listing import Listing

        places = [self.whole(place) for place in self.places(where)]
        return Listing.of(self.plan(backend, machine=machine, places=places), places)

    def diff(
        self, a: Plan | str, b: Plan | str, *, machine: Machine | str | os.PathLike[str] | None = None
    ) -> Comparison:
        """What runs otherwise in one boot than in another, site by site, and why. Printed, it is what ``pvops diff
        --summary`` prints.

        Args:
            a, b: plans, or what the command line takes: a backend (``"kvm"``), a machine (``"guest.facts"``,
                ``"intel-haswell"``), or both (``"kvm:guest.facts"``).
            machine: that of the sides that name none.

        Raises:
            InputError: a side is no backend, no preset and no file.
            OpsError: a plan is of another kernel, or of some places; or a backend does not fit this kernel.
        """
        from pvops.plan.diff import compare
        from pvops.plan.sides import called

        names, plans = zip(*(self._side(side, machine) for side in (a, b)), strict=True)
        beside = (plans[1], plans[0])
        made = [name or called(plan, other) for name, plan, other in zip(names, plans, beside, strict=True)]
        return compare(plans[0], plans[1], (made[0], made[1]) if made[0] != made[1] else ("A", "B"))

    def _side(self, side: Plan | str, machine: Machine | str | os.PathLike[str] | None) -> tuple[str, Plan]:
        """A side of a comparison: what it was called, if anything, and its plan."""
        from pvops.plan.plan import Plan
        from pvops.plan.sides import parse

        if isinstance(side, str):
            name, backend, path = parse(side)
            return name, self.plan(backend or None, machine=machine if path is None else path)
        wanted(side, Plan, "a plan or its name")
        if side.kernel is not self and (side.kernel.name, side.kernel.release) != (self.name, self.release):
            raise OpsError(f"{self.name}: a plan of {side.kernel.name}: a diff is of one kernel")
        if side.places is not None:
            raise OpsError(f"{self.name}: a plan of some places is compared with no other")
        return "", side

    def slots(
        self, backend: Backend | str | None = None, *, machine: Machine | str | os.PathLike[str] | None = None
    ) -> Mapping[str, Slot]:
        """What each op holds under a backend, on a machine, as `plan` takes them, and why; nothing is planned.

        Raises:
            OpsError: the backend does not fit this kernel.
        """
        from pvops.decide.boot import slots

        return slots(self, *self._asked(backend, machine, None))

    def usual_machine(self, backend: Backend | str = "native") -> Machine:
        """The machine that is taken where none is given: see `plan`."""
        from pvops import backends
        from pvops.backends.backend import Backend
        from pvops.machine.machine import Machine

        if isinstance(backend, str):
            backend = backends.get(backend, self.rules.era)
        wanted(backend, Backend, "a backend or its name")
        return Machine.usual(self.release, backend.hypervisor)

    def _asked(
        self, backend: Backend | str | None, machine: Machine | str | os.PathLike[str] | None, rules: Rules | None
    ) -> tuple[Backend, Machine | None, Rules]:
        """The backend, machine and rules that are meant; see `plan`."""
        from pvops import backends
        from pvops.backends.backend import Backend
        from pvops.decide.backend import chosen
        from pvops.eras.rules import Rules

        if rules is not None:
            wanted(rules, Rules, "a kernel's rules")
        rules = rules or self.rules
        described = _described(machine)
        if backend is None:
            backend = chosen(self, described, rules.era).name
        if isinstance(backend, str):
            backend = backends.get(backend, rules.era)
        wanted(backend, Backend, "a backend or its name")
        return backend, self.usual_machine(backend) if machine is None else described, rules

    def verify(
        self,
        source: Source,
        *,
        machine: Machine | str | os.PathLike[str] | None = None,
        allow: Iterable[str] = (),
        modules: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] = (),
        progress: Progress | None = None,
        jobs: int | None = None,
    ) -> Report:
        """Explains every byte of this kernel's ``.text`` in memory, or says that nothing explains it.

        What decides the text and is not in the image is inferred from all sites together: one bit for each feature, one
        state for each static key, one target for each static call, and so on. The few that disagree are unexplained.

        Args:
            source: a dump's path or bytes, open `pvops.memory.Memory`, or any ``(address, size) -> bytes`` that reads
                virtual addresses: drgn's ``prog.read``, volatility3's ``layer.read``.
            machine: what it ran on, where that is known, or what ``--machine`` takes: what its description settles is
                not inferred.
            allow: who else may have written text: ``ftrace``, ``livepatch``, ``kprobes``, ``bpf``, ``modules``.
            modules: files of modules that are loaded: their text is judged too, by the state the kernel was found in.
            progress: called now and then with (bytes done, bytes there are) while the kernel is searched for.
            jobs: how many threads may judge at once; without it as many as the CPUs this process may use.

        Returns:
            A report, which is true where the text is clean.

        Raises:
            InputError: the memory cannot be read.
            DumpError: it is malformed, or this kernel is not in it; the message says what is. Or a module is not
                loaded, or in another build.
            OpsError: the machine does not fit this kernel, or nothing tells by which rules it patches.
        """
        from pvops.verify.judged import verify

        known = _described(machine)
        return verify(self, source, machine=known, allow=allow, modules=modules, progress=progress, jobs=jobs)

    def verify_many(
        self,
        sources: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        *,
        executor: Executor | None = None,
        machine: Machine | str | os.PathLike[str] | None = None,
        allow: Iterable[str] = (),
        jobs: int | None = None,
    ) -> Iterator[tuple[str, Report | Error]]:
        """Verifies many dumps at once: (path, report) in the order given; of a dump that cannot be judged, the error.

        Where no executor is given, a script is guarded by ``if __name__ == "__main__":``: each process imports it.

        Args:
            sources: paths, or one.
            executor: any `concurrent.futures.Executor`; processes of this machine where none is given. A Dask cluster's
                is ``Client.get_executor()``; its workers open the kernel and the dumps by the same paths. Dumps of a
                process that died are judged again.
            machine: as in `verify`.
            allow: as in `verify`.
            jobs: how many processes there are without an executor, and threads in each; by the CPUs without it.

        Raises:
            OpsError: this kernel was not opened from a file.
        """
        from pvops.verify.many import verify_many

        known = _described(machine)
        return verify_many(self, sources, executor=executor, machine=known, allow=allow, jobs=jobs)

    def places(self, where: int | str, *, slide: int = 0) -> list[Place]:
        """The places that a text means, as the command line takes it: an address, ``LOW-HIGH``, a function, or
        ``function+58`` in decimal or hexadecimal; several where several functions have one name.

        Args:
            where: the place, or an address as a number; `pvops.image.places.parse` has all forms.
            slide: how far the kernel slid whose addresses are given.

        Raises:
            ImageError: there is no such symbol, or the address lies outside the image.
        """
        from pvops.image.places import as_text, parse

        return parse(self, as_text(where), slide)

    def moved(self, slide: int) -> Kernel:
        """The same kernel where one that slid has it: every address, and every field that holds one, moved.

        Args:
            slide: in bytes; below 0, or as the same number modulo 2**64, where it runs below where it was linked.

        Raises:
            ImageError: the image does not say where its addresses stand, or would leave the address space.
        """
        return Kernel(self.image.moved(slide & (1 << 64) - 1))

    def whole(self, place: Place) -> Place:
        """The function that a place of one address lies in, or some instructions from there on where none is named; any
        other place as it is."""
        from pvops.image.places import Place, extent, some

        wanted(place, Place, "a place")
        if place.size > 1 or place.symbol is not None:
            return place
        found = self.image.symbol_at(place.address)
        if found is None:
            site = self.sites.at(place.address)
            return some(self, place.address if site is None else site.address)
        start = place.address - found[1]
        return Place(start, extent(self, start), found[0])

    def sites_of(self, where: int | str, *, slide: int = 0) -> Sequence[int]:
        """The addresses of the sites at the places that a text names, in order: ``kernel.sites[address]`` is each.

        Args:
            where: the places, as `places` takes them.
            slide: how far the kernel slid whose addresses are given; those returned are as linked.

        Raises:
            ImageError: there is no such symbol, or the address lies outside the image.
            TableError: there is no site.
        """
        places = self.places(where, slide=slide)
        found = [site.address for place in places for site in self.sites.within(place.address, place.end)]
        if not found:
            low = places[0].address
            nearest = self.sites.nearest(low)
            near = (
                "" if nearest is None else f"; the nearest is {nearest.address:#x} in {nearest.symbol or 'no symbol'}"
            )
            raise TableError(f"{self.name}: no site at {where}{near}", file=self.name, address=low)
        return list(dict.fromkeys(found))

    def __repr__(self) -> str:
        return f"<Kernel {self.release or self.name} {self.arch}>"
