"""``pvops explain``."""

from __future__ import annotations

from pathlib import Path

import pvops as package
from cli.run import document, pvops, trouble


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


def test_where_no_site_is_the_nearest_is_named(sample_kernel: Path) -> None:
    assert "no site at 0x1; the nearest is 0xffffffff81" in trouble("explain", sample_kernel, "0x1")


def test_an_unknown_symbol_is_trouble(sample_kernel: Path) -> None:
    assert "no symbol no_such_function" in trouble("explain", sample_kernel, "no_such_function")
