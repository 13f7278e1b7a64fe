"""A kernel is booted with modules and dumped: each is judged, and a change of one is found where it was made."""

from __future__ import annotations

import lzma
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pvops
from boot.conftest import MODULES
from boot.guest import Guest
from boot.initramfs import built_init, initramfs
from boot.modes import chosen
from pvops.errors import DumpError, ImageError
from pvops.kernel import Kernel
from pvops.schemas import schema

pytestmark = pytest.mark.boot


@pytest.fixture(scope="module")
def core(
    qemu: Path, booted_kernel: Path, modules: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A guest that loaded them, with KASLR."""
    folder = tmp_path_factory.mktemp("modules")
    init = built_init(folder, pvops.open(booted_kernel).bits)
    path = folder / "core"
    mode = chosen(kaslr=True)[0]
    try:
        with Guest(qemu, booted_kernel, initramfs(init, map(unpacked, modules)), mode) as guest:
            guest.facts()
            guest.dump(path)
        yield path
    finally:
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def kernel(booted_kernel: Path) -> Kernel:
    return pvops.open(booted_kernel)


def keeps_to_its_schema(report: pvops.Report) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(schema("verify")).validate(report.to_dict())


def unpacked(module: Path) -> bytes:
    """What the kernel takes; which compression it knows is its build's choice."""
    packed = module.read_bytes()
    return lzma.decompress(packed) if packed.startswith(b"\xfd7zXZ") else packed


def test_every_byte_of_modules_is_explained(kernel: Kernel, core: Path, modules: list[Path]) -> None:
    report = kernel.verify(core, modules=modules)
    keeps_to_its_schema(report)
    assert report, [*report.unexplained, *(run for module in report.modules for run in module.unexplained)][:5]
    assert [module.name for module in report.modules] == list(reversed(MODULES))
    for module in report.modules:
        assert module.judged
        assert sum(module.explained.values()) > 0, module.name


def test_modules_without_a_file_are_listed_and_not_judged(kernel: Kernel, core: Path, modules: list[Path]) -> None:
    report = kernel.verify(core, modules=modules[:1])
    assert report
    assert [(module.name, module.judged) for module in report.modules][-2:] == [("mbcache", False), ("crc16", True)]
    assert all(module.why == "no file of it was given" for module in report.modules[:-1])


def test_a_change_of_a_module_is_found_where_it_was_made(kernel: Kernel, core: Path, modules: list[Path]) -> None:
    report = kernel.verify(core, modules=modules)
    keeps_to_its_schema(report)
    kvm = next(module for module in report.modules if module.name == "kvm")
    walk = Walk(core, kernel)
    # In a function, at its very end, and in the zeros behind all code.
    for offset in (0x120, 0x3001, kvm.size - 1):
        at = walk.offset(kvm.address + offset)
        with changing(core, at):
            changed = kernel.verify(core, modules=modules)
        assert changed.verdict == "modified"
        runs = [(module.name, run.address, run.wrong) for module in changed.modules for run in module.unexplained]
        assert runs == [("kvm", kvm.address + offset, 1)]
        assert not changed.unexplained


@contextmanager
def changing(core: Path, at: int) -> Iterator[None]:
    """A bit of a byte of a file is flipped, for a while."""
    with core.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[at] ^= 0x10
        try:
            yield
        finally:
            memory[at] ^= 0x10


class Walk:
    """Where in a dump an address of the kernel's lies, by its own page tables."""

    def __init__(self, core: Path, kernel: Kernel) -> None:
        with core.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        found = pvops.memory.open(core).find(kernel)
        top, text = kernel.address_of("init_top_pgt"), found.section(".text").address
        assert top is not None
        assert found.physical is not None
        self.top = top - text + found.physical
        self.levels = next(n for n in (4, 5) if self.physical(text + found.slide, n) == found.physical)

    def offset(self, address: int) -> int:
        """The offset in the file."""
        physical = self.physical(address, self.levels)
        assert physical is not None
        offset = self.in_file(physical)
        assert offset is not None
        return offset

    def in_file(self, physical: int) -> int | None:
        table, count = self.number(32, 8), self.number(56, 2)
        for header in range(table, table + 56 * count, 56):
            offset, start, size = (self.number(header + at, 8) for at in (8, 24, 32))
            if self.number(header, 4) == 1 and start <= physical < start + size:
                return offset + physical - start
        return None

    def physical(self, address: int, levels: int) -> int | None:
        table = self.top
        for shift in (48, 39, 30, 21, 12)[-levels:]:
            at = self.in_file(table + (address >> shift & 0x1FF) * 8)
            entry = 0 if at is None else self.number(at, 8)
            if not entry & 1:
                return None
            table = entry & 0x000F_FFFF_FFFF_F000
            if shift == 12 or (shift <= 30 and entry & 0x80):
                low = (1 << shift) - 1
                return table & ~low | address & low
        return None

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.bytes[at : at + size], "little")


def test_what_is_not_loaded_is_an_error_that_lists_what_is(kernel: Kernel, core: Path, modules: list[Path]) -> None:
    renamed = core.with_name("absent.ko")
    renamed.write_bytes(unpacked(modules[0]).replace(b"name=crc16", b"name=crc99"))
    with pytest.raises(DumpError, match=r"crc99 is not loaded \(there are: kvm, irqbypass, .*crc16\)"):
        kernel.verify(core, modules=[renamed])
    with pytest.raises(DumpError, match="crc16 is given twice"):
        kernel.verify(core, modules=[modules[0], modules[0]])


def test_another_build_of_a_module_is_refused(kernel: Kernel, core: Path, modules: list[Path]) -> None:
    # A kernel that loads it does not look at its build ID.
    other = core.with_name("crc16.ko")
    note = struct.pack("<III4s", 4, 20, 3, b"GNU\0")
    built = bytearray(unpacked(modules[0]))
    at = built.index(note) + len(note)
    built[at] ^= 1
    other.write_bytes(built)
    with pytest.raises(DumpError, match="is another build of crc16 than the one loaded"):
        kernel.verify(core, modules=[other])


def test_a_module_wants_those_it_depends_on(kernel: Kernel, core: Path, modules: list[Path]) -> None:
    ext4 = modules[MODULES.index("ext4")]
    with pytest.raises(ImageError, match="which neither the kernel nor the modules given have"):
        kernel.verify(core, modules=[ext4])


def without_btf(file: Path) -> Kernel:
    """A kernel packed with xz, as it were without types: its sections of them have other names."""
    packed = file.read_bytes()
    setup = (packed[0x1F1] or 4) + 1
    offset, size = struct.unpack_from("<II", packed, 0x248)
    start = setup * 512 + offset
    payload = packed[start : start + size]
    if not payload.startswith(b"\xfd7zXZ"):
        pytest.skip("the kernel is not packed with xz")
    elf = lzma.LZMADecompressor().decompress(payload)
    names = elf.rindex(b"\0.BTF\0")  # behind the sections themselves
    return pvops.open(elf[:names] + elf[names:].replace(b"\0.BTF", b"\0.XTF"))


def test_without_types_the_same_is_read(kernel: Kernel, booted_kernel: Path, core: Path, modules: list[Path]) -> None:
    untyped = without_btf(booted_kernel)
    given = [module for module in modules if module.name.split(".")[0] not in ("ext4", "kvm")]
    expected, found = kernel.verify(core, modules=given), untyped.verify(core, modules=given)
    assert found.verdict == "clean", found.unexplained[:5]
    typed = {"dynamic_debug", "lsm_hook", "mirrored_call", "sched_feature", "tracepoint"}  # by BTF alone, and said
    typed |= {"variable", "netfilter_hook", "cgroup_bpf"}
    assert found.data.counts == {what: count for what, count in expected.data.counts.items() if what not in typed}
    unheard = "tracepoints, debug messages, security hooks, x86_pmu, apic, features of the scheduler"
    unheard += ", keys that variables tell of, hooks of netfilter, BPF programs of control groups"
    assert found.data.unheard == [f"{unheard}: the image has no BTF"]
    for one, other in zip(expected.modules, found.modules, strict=True):
        assert (one.name, one.address, one.size, one.judged) == (other.name, other.address, other.size, other.judged)
        assert one.explained == other.explained
    with pytest.raises(DumpError, match="has per-CPU data, and the kernel's image no BTF"):
        untyped.verify(core, modules=modules)
