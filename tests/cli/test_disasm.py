"""``pvops disasm``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pvops as package
from cli.run import document, pvops, trouble
from image.nameless import without_symbols
from pvops.image.places import Place
from pvops.plan.listing import instructions


def a_function(kernel: package.Kernel) -> Place:
    """A function with a paravirt site in it."""
    site = next(s for s in kernel.sites if s.op == "pv_irq_ops.irq_enable")
    return kernel.whole(kernel.places(f"{site.address:#x}")[0])


def test_every_byte_of_the_function_is_as_patched(sample_kernel: Path) -> None:
    kernel = package.open(sample_kernel)
    place = a_function(kernel)
    found = document("disasm", sample_kernel, str(place.symbol))
    assert found["schema"] == "pvops.disasm/1"
    text = next(address for name, address, *_ in kernel.image.sections() if name == ".text")
    patched = bytes(kernel.plan().apply())[place.address - text :][: place.size]
    assert "".join(one["bytes"] for one in found["instructions"]) == patched.hex()
    starts = [int(one["address"], 16) for one in found["instructions"]]
    assert starts[0] == place.address
    assert starts == sorted(starts)


def test_what_a_pass_wrote_is_marked_with_it_and_with_its_site(sample_kernel: Path) -> None:
    kernel = package.open(sample_kernel)
    place = a_function(kernel)
    found = document("disasm", sample_kernel, str(place.symbol))["instructions"]
    sites = {f"{site.address:#x}" for site in kernel.sites.within(place.address, place.end)}
    assert {one["site"] for one in found if one["site"]} == sites
    assert {one["pass"] for one in found if one["site"]} == {"paravirt"}
    assert all(one["pass"] is None for one in found if one["site"] is None)


def test_any_address_within_means_the_function(sample_kernel: Path) -> None:
    place = a_function(package.open(sample_kernel))
    whole = document("disasm", sample_kernel, str(place.symbol))["instructions"]
    found = document("disasm", sample_kernel, f"{place.address + 1:#x}")
    assert found["instructions"] == whole
    assert found["functions"] == [
        {"symbol": place.symbol, "address": f"{place.address:#x}", "size": place.size},
    ]


def test_two_backends_stand_side_by_side(sample_kernel: Path) -> None:
    site = next(s for s in package.open(sample_kernel).sites if s.op == "pv_cpu_ops.io_delay")
    text = pvops(
        "disasm", sample_kernel, f"{site.address:#x}", "--backend", "native", "--backend", "kvm"
    ).stdout.decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"  {site.address:x}")]
    assert "call native_io_delay" in line
    assert "call kvm_io_delay" in line


def test_the_slide_moves_what_is_given_and_what_is_shown(sample_kernel: Path) -> None:
    place = a_function(package.open(sample_kernel))
    slid = f"{place.address + 0x200000:#x}"
    found = document("disasm", sample_kernel, slid, "--slide", "200000")
    assert found["instructions"][0]["address"] == f"{place.address:#x}"
    assert found["instructions"][0]["runtime_address"] == slid
    assert "hexadecimal number" in pvops("disasm", sample_kernel, slid, "--slide", "x").stderr.decode()


def test_where_no_function_is_named_the_address_is_shown_and_what_follows(sample_kernel: Path) -> None:
    named = package.open(sample_kernel)
    place, site = a_function(named), next(s for s in named.sites if s.op == "pv_irq_ops.irq_enable")
    bare = without_symbols(sample_kernel.read_bytes())
    assert not bare.image.symbol_count()
    found = instructions(bare.plan("native"), bare.whole(bare.places(f"{site.address + 1:#x}")[0]))
    assert found[0].address == site.address, "any byte of a site is that site"
    assert sum(len(one.bytes) for one in found) >= 64
    known = {one.address: one for one in instructions(named.plan("native"), place)}
    assert [one[:2] for one in found if one.address in known] == [
        one[:2] for one in known.values() if one.address >= site.address
    ]


def test_the_last_instruction_of_a_range_is_whole(sample_kernel: Path) -> None:
    site = next(s for s in package.open(sample_kernel).sites if s.op == "pv_cpu_ops.io_delay")
    found = document("disasm", sample_kernel, f"{site.address:#x}-{site.address + 2:#x}", "--backend", "kvm")
    assert [one["text"] for one in found["instructions"]] == ["call kvm_io_delay"]


def test_every_function_of_a_name(kernel: Callable[[str], package.Kernel]) -> None:
    found = document("disasm", kernel("6.1.0-56-amd64").name, "name_show")
    assert len(found["functions"]) == 10
    assert found["instructions"][0]["address"] == found["functions"][0]["address"]


def test_an_unknown_function_is_trouble(sample_kernel: Path) -> None:
    assert "no symbol no_such_function" in trouble("disasm", sample_kernel, "no_such_function")
