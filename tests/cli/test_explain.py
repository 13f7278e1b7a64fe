"""``pvops explain``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pvops as package
from cli.run import document, pvops, trouble
from pvops.plan.explain import explanation
from pvops.plan.sources import bare, told


def first_site(kernel: Path, op: str) -> int:
    return next(site.address for site in package.open(kernel).sites if site.op == op)


def test_says_what_stands_there_what_is_written_and_why(sample_kernel: Path) -> None:
    address = first_site(sample_kernel, "pv_irq_ops.irq_enable")
    text = pvops("explain", sample_kernel, f"{address:#x}").stdout.decode()
    assert f"{address:016x}  pv_irq_ops.irq_enable  type 32, 6 bytes" in text
    assert "built         ff 15 " in text
    assert "paravirt      e8 " in text
    assert "pv_irq_ops.irq_enable holds " in text
    assert "a direct call [arch/x86/kernel/paravirt.c: paravirt_patch()]" in text


def test_each_decision_is_data_kind_bytes_reason_source(sample_kernel: Path) -> None:
    address = first_site(sample_kernel, "pv_cpu_ops.io_delay")
    found = document("explain", sample_kernel, f"{address:#x}", "--backend", "native", "--backend", "kvm")
    assert found["schema"] == "pvops.explain/1"
    (site,) = found["sites"]
    assert [b["backend"] for b in site["backends"]] == ["native", "kvm"]
    for backend in site["backends"]:
        (write,) = backend["writes"]
        assert write["kind"] == "called"
        assert write["bytes"] == backend["runs"]
        assert write["reason"]
        assert write["source"]
    assert [b["writes"][0]["function"] for b in site["backends"]] == ["native_io_delay", "kvm_io_delay"]


def test_an_address_may_be_given_as_the_listing_prints_it(sample_kernel: Path) -> None:
    address = first_site(sample_kernel, "pv_irq_ops.irq_enable")
    assert (
        pvops("explain", sample_kernel, f"{address:016x}").stdout
        == pvops("explain", sample_kernel, f"{address:#x}").stdout
    )


def test_a_symbol_means_all_its_sites(sample_kernel: Path) -> None:
    kernel = package.open(sample_kernel)
    symbol = str(kernel.sites[0].symbol).partition("+")[0]
    theirs = [f"{s.address:#x}" for s in kernel.sites if str(s.symbol).partition("+")[0] == symbol]
    found = document("explain", sample_kernel, symbol)
    assert [site["address"] for site in found["sites"]] == sorted(theirs)


def test_a_range_means_all_the_sites_that_touch_it(sample_kernel: Path) -> None:
    kernel = package.open(sample_kernel)
    low, high = sorted(site.address for site in kernel.sites)[:3:2]
    found = document("explain", sample_kernel, f"{low:#x}-{high:#x}")
    assert [site["address"] for site in found["sites"]] == [
        f"{site.address:#x}" for site in kernel.sites.within(low, high)
    ]
    assert len(found["sites"]) == 2


def test_any_byte_of_a_site_is_that_site(sample_kernel: Path) -> None:
    address = first_site(sample_kernel, "pv_irq_ops.irq_enable")
    found = document("explain", sample_kernel, f"{address + 5:#x}")
    assert found["sites"][0]["address"] == f"{address:#x}"


def test_an_address_outside_the_image_is_trouble_that_says_where_the_image_is(sample_kernel: Path) -> None:
    assert "0x1 lies outside the image as linked, 0xffffffff81" in trouble("explain", sample_kernel, "0x1")


def test_an_address_of_a_running_kernel_asks_for_its_slide(sample_kernel: Path) -> None:
    address = first_site(sample_kernel, "pv_irq_ops.irq_enable")
    slid = f"{address + 0x1C00_0000:#x}"
    assert "--slide" in trouble("explain", sample_kernel, slid)
    found = document("explain", sample_kernel, slid, "--slide", "1c000000")
    (site,) = found["sites"]
    assert (site["address"], site["runtime_address"], found["slide"]) == (f"{address:#x}", slid, "0x1c000000")
    assert pvops("explain", sample_kernel, slid, "--slide", "0x1c000000").stdout.startswith(slid[2:].encode())


def test_an_unknown_symbol_is_trouble_with_the_nearest(sample_kernel: Path) -> None:
    assert "no symbol no_such_function" in trouble("explain", sample_kernel, "no_such_function")
    hint = "no symbol Native_io_dealy (did you mean native_io_delay?)"
    assert hint in trouble("explain", sample_kernel, "Native_io_dealy")


def test_an_offset_is_decimal_as_in_gdb_or_hexadecimal_as_in_an_oops(sample_kernel: Path) -> None:
    kernel = package.open(sample_kernel)
    site = next(s for s in kernel.sites if s.op == "pv_irq_ops.irq_enable")
    symbol, _, offset = str(site.symbol).partition("+")
    at = int(offset, 16) + 1
    (function,) = kernel.places(symbol)
    for where in (
        f"{symbol}+{at}",
        f"<{symbol}+{at}>",
        f"{symbol} + {at}",
        f"{symbol}+{at:#x}",
        f"{symbol}+{at:#x}/{function.size:#x}",
    ):
        assert document("explain", sample_kernel, where)["sites"][0]["address"] == f"{site.address:#x}", where
    assert "is no offset" in trouble("explain", sample_kernel, f"{symbol}+3z")


def test_code_that_no_table_names_is_answered(sample_kernel: Path) -> None:
    kernel = package.open(sample_kernel)
    name, low, size, _ = next(section for section in kernel.image.sections() if section[3])
    address = next(a for a in range(low, low + size) if kernel.sites.at(a) is None)
    done = pvops("explain", sample_kernel, f"{address:#x}")
    assert done.returncode == 0, done.stderr
    assert f"{address:016x}  as built; no pass writes here".encode() in done.stdout
    (site,) = document("explain", sample_kernel, f"{address:#x}")["sites"]
    assert (site["rows"], site["section"]) == ([], name)
    assert site["backends"][0]["runs"] == site["bytes"]


def test_data_is_no_code(sample_kernel: Path) -> None:
    name, low, _, _ = next(s for s in package.open(sample_kernel).image.sections() if not s[3] and s[1] and s[2])
    assert f"lies in {name}, which is no code" in trouble("explain", sample_kernel, f"{low:#x}")


def test_a_name_of_several_functions_means_all_of_them(kernel: Callable[[str], package.Kernel]) -> None:
    opened = kernel("6.1.0-56-amd64")
    places = opened.places("name_show")
    assert len(places) == len({place.address for place in places}) == 10
    theirs = list(opened.sites_of("name_show"))
    assert all(any(place.address <= address < place.end for place in places) for address in theirs)
    found = document("explain", opened.name, "name_show")
    assert [int(site["address"], 16) for site in found["sites"]] == theirs
    assert [place["symbol"] for place in found["places"]] == ["name_show"] * 10


def test_without_a_machine_a_usual_one_is_assumed_and_named(kernel: Callable[[str], package.Kernel]) -> None:
    opened = kernel("6.1.0-56-amd64")
    done = pvops("explain", opened.name, "do_syscall_64+0x6e")
    assert b"no --machine: intel-icelake-server, a usual CPU" in done.stderr
    assert document("explain", opened.name, "do_syscall_64")["machine"] == "intel-icelake-server"
    assert document("explain", opened.name, "do_syscall_64", "--machine", "baseline")["machine"] is None


@pytest.mark.parametrize("command", ["explain", "disasm"])
def test_a_machine_that_runs_on_a_hypervisor_takes_its_backend_and_says_so(
    command: str, sample_kernel: Path, tmp_path: Path
) -> None:
    guest = tmp_path / "guest.json"
    guest.write_text('{"flags": "fpu hypervisor", "hypervisor": "kvm"}')
    place = f"{first_site(sample_kernel, 'pv_cpu_ops.io_delay'):#x}"
    done = pvops(command, sample_kernel, place, "--machine", guest)
    asked = pvops(command, sample_kernel, place, "--machine", guest, "--backend", "kvm")
    assert done.stdout == asked.stdout
    told = f"pvops: no --backend: {guest} runs on kvm (--backend native: on none)\n"
    assert done.stderr.decode() == told + asked.stderr.decode()
    assert pvops(command, sample_kernel, place, "--machine", guest, "--backend", "native").stdout != done.stdout


def test_a_hypervisor_without_ops_is_taken_as_native_and_said(sample_kernel: Path, tmp_path: Path) -> None:
    guest = tmp_path / "guest.json"
    guest.write_text('{"flags": "fpu hypervisor", "hypervisor": "jailhouse"}')
    done = pvops("explain", sample_kernel, f"{first_site(sample_kernel, 'pv_cpu_ops.io_delay'):#x}", "--machine", guest)
    assert done.stderr.decode() == f"pvops: {guest}: given: jailhouse has no ops of its own; taken as native\n"


@pytest.mark.parametrize("command", ["explain", "disasm"])
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("sample_lock+0x4/0x10", ""),
        ("sample_lock+0x4/0x20", "sample_lock has 0x10 bytes here, not 0x20: the oops may be of another build\n"),
        ("sample_lock+0x14", "sample_lock has only 0x10 bytes: 0x14 lies behind it\n"),
    ],
)
def test_what_speaks_against_a_place_is_said(command: str, place: str, said: str, sample_kernel: Path) -> None:
    done = pvops(command, sample_kernel, place, "--machine", "intel-haswell")
    assert (done.returncode, done.stderr.decode().replace("pvops: ", "")) == (0, said)


def test_what_is_assumed_is_followed_by_how_to_tell_it(sample_kernel: Path) -> None:
    place = f"{first_site(sample_kernel, 'pv_cpu_ops.io_delay'):#x}"
    done = pvops("explain", sample_kernel, place, "--machine", "intel-haswell", "--backend", "kvm")
    assert b"KVM_FEATURE_NOP_IO_DELAY is assumed set" in b" ".join(done.stdout.split())
    assert done.stderr.decode().count("pvops machine --collect") == 1
    native = pvops("explain", sample_kernel, place, "--machine", "intel-haswell")
    assert (b"assumed" in native.stdout, native.stderr) == (False, b"")


def test_a_constant_in_an_instruction_is_a_number_and_no_instructions(
    kernel: Callable[[str], package.Kernel],
) -> None:
    opened = kernel("7.2.13+deb14-amd64")
    sites = list(opened.sites.of_table("runtime_const"))
    assert {len(site.bytes) for site in sites} == {1, 8}
    for size in (1, 8):
        site = next(site for site in sites if len(site.bytes) == size)
        [found] = document("explain", opened.name, f"{site.address:#x}")["sites"]
        assert int(found["disassembly"], 16) == int.from_bytes(site.bytes, "little")


def test_boots_that_differ_in_the_source_of_a_reason_alone_are_one(kernel: Callable[[str], package.Kernel]) -> None:
    opened = kernel("6.1.0-56-amd64")
    plans = [opened.plan(backend, machine="intel-haswell") for backend in ("native", "kvm", "xen")]
    place = opened.places("do_one_initcall+0x1ba")[0].address
    shared, xen = explanation(opened, plans, place).boots()
    assert (shared.names, xen.names) == ("native, kvm", "xen")
    [said] = [reason for _, why in shared.writes for reason in why if "XENPV" in reason]
    assert "native: preset intel-haswell; kvm: under kvm)" in said


def test_sources_that_differ_are_told_by_whose_they_are() -> None:
    one = "taken, it is not set (rule xen_start_kernel(): preset intel-haswell) [alternative.c: apply_alternatives()]"
    other = one.replace("preset intel-haswell", "under kvm")
    assert bare(one) == bare(other) == "taken, it is not set"
    assert told(["native", "kvm"], [one, one]) == one
    assert told(["native", "kvm"], [one, other]) == one.replace(
        "preset intel-haswell", "native: preset intel-haswell; kvm: under kvm"
    )
