"""The sample image: what is built is what the package reads back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pvops
from pvops import eras, sample
from pvops.cli import main

SHAPES = [(era, bits) for era in ("5.10", "6.1") for bits in (64, 32)]
EVERY_SHAPE = [(era, bits) for era in sample.ERAS for bits in eras.era(era).bits]
#: Images of these eras differ from another's in what a sample has not, or, RHEL 8's, in their ops alone.
ALIKE = {("5.10.0", 32): "5.10", ("4.18-el8", 32): "4.18", ("4.18-el8", 64): "4.18"}


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}-{shape[1]}")
def built(request: pytest.FixtureRequest) -> tuple[sample.Sample, pvops.Kernel]:
    """A sample of every era and pointer size, and the same opened."""
    made = sample.build(*request.param)
    return made, pvops.open(made.elf)


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert sample.build("5.10", 32) == sample.build("5.10", 32)


def test_every_row_is_read_back(built: tuple[sample.Sample, pvops.Kernel]) -> None:
    made, kernel = built
    rows = [(site.address, row.type, row.len, row.clobbers) for site in kernel.sites for row in site.rows]
    assert rows == [tuple(site) for site in made.sites]
    assert kernel.ops.address == made.pv_ops


def test_only_what_lies_in_the_image_is_named_in_its_disassembly(built: tuple[sample.Sample, pvops.Kernel]) -> None:
    _, kernel = built
    address = kernel.address_of("_paravirt_nop")
    assert address is not None
    call_itself, load_local = b"\xe8\xfb\xff\xff\xff", b"\x8b\x85\x30\xff\xff\xff"
    assert [text for _, _, text in kernel.image.disassemble(address, call_itself)] == ["call _paravirt_nop"]
    assert "-0xd0(" in kernel.image.disassemble(address, load_local)[0][2]


def test_symbols_and_release_are_read_back(built: tuple[sample.Sample, pvops.Kernel]) -> None:
    made, kernel = built
    assert {name: kernel.address_of(name) for name in made.symbols} == dict(made.symbols)
    assert kernel.release is not None
    assert kernel.release.endswith(".0-pvops-sample")


def test_its_ops_are_named_by_what_its_pv_ops_holds(built: tuple[sample.Sample, pvops.Kernel]) -> None:
    _, kernel = built
    names = [op.name for op in sample.native_ops(kernel.rules.era, kernel.bits)]
    assert list(kernel.ops.names) == names


def test_the_last_row_of_a_64_bit_table_is_cut_short() -> None:
    sizes = {bits: dict(_sections(sample.build("6.1", bits)))[".parainstructions"] for bits in (64, 32)}
    assert sizes[64] % 16 == 12
    assert sizes[32] % 8 == 0


def _sections(made: sample.Sample) -> list[tuple[str, int]]:
    return [(name, size) for name, _, size, _ in pvops.open(made.elf).image.sections()]


def test_5_10_inlines_what_6_1_calls() -> None:
    def kinds(era: str) -> dict[str, str]:
        return {str(write.op): write.kind for write in pvops.open(sample.build(era).elf).plan("native")}

    old, new = kinds("5.10"), kinds("6.1")
    assert (old["pv_irq_ops.irq_enable"], new["pv_irq_ops.irq_enable"]) == ("inlined", "called")
    assert (old["pv_mmu_ops.make_pte"], new["pv_mmu_ops.make_pte"]) == ("moved", "called")
    assert (old["pv_cpu_ops.iret"], old["pv_mmu_ops.exit_mmap"], new["pv_mmu_ops.exit_mmap"]) == (
        "jumped",
        "nopped",
        "nopped",
    )


def test_kvm_takes_the_locks(built: tuple[sample.Sample, pvops.Kernel]) -> None:
    _, kernel = built
    held = {write.op: write.function for write in kernel.plan("kvm")}
    assert held["pv_lock_ops.queued_spin_lock_slowpath"] == "__pv_queued_spin_lock_slowpath"


def test_ops_are_data() -> None:
    ops = [op._replace(function=None) if op.name == "pv_cpu_ops.io_delay" else op for op in sample.native_ops()]
    writes = [write for write in pvops.open(sample.build(ops=ops).elf).plan("native") if write.function is None]
    assert {(write.op, write.kind) for write in writes} == {("pv_cpu_ops.io_delay", "bug-called")}


def test_there_are_only_so_many_shapes() -> None:
    with pytest.raises(pvops.Error, match=r"no sample of era 2\.6\.23"):
        sample.build("2.6.23", 32)
    with pytest.raises(pvops.Error, match="16 bits"):
        sample.build("6.1", 16)
    with pytest.raises(pvops.Error, match=r"2\.6\.24 has 32 bits"):
        sample.build("2.6.24", 64)


@pytest.mark.parametrize(("era", "bits"), EVERY_SHAPE, ids=str)
def test_every_era_tells_its_own_image(era: str, bits: int) -> None:
    """Its image is told, its ops are named as its table has them, and every site becomes something by its rules."""
    made = sample.build(era, bits)
    kernel = pvops.open(made.elf)
    assert kernel.era == ALIKE.get((era, bits), era)
    assert list(kernel.ops.names) == [op.name for op in sample.native_ops(era, bits)]
    written = {write.address: write for write in kernel.plan("native")}
    assert written.keys() == {site.address for site in made.sites}
    usual = {"inlined"} if era in ("2.6.20", "2.6.21") else {"called", "nopped"}
    assert {write.kind for write in written.values()} >= usual


def test_the_command_writes_it(tmp_path: Path) -> None:
    out = tmp_path / "vmlinux"
    subprocess.run([sys.executable, "-m", "pvops.sample", str(out), "--era", "5.10", "--bits", "32"], check=True)
    assert out.read_bytes() == sample.build("5.10", 32).elf


@pytest.mark.parametrize(("changed", "status"), [(False, 0), (True, 1)])
def test_the_text_of_a_sample_is_judged_as_that_of_a_kernel(tmp_path: Path, changed: bool, status: int) -> None:
    image, memory = tmp_path / "sample", tmp_path / "memory"
    image.write_bytes(sample.build().elf)
    text = bytearray(pvops.open(image).plan("native").apply())
    text[0] ^= changed
    memory.write_bytes(text)
    assert main(["verify", str(image), str(memory)]) == status
