"""``pvops diff``, and the pages of ``diff`` and ``explain``."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import pvops as package
from cli.run import pvops, trouble
from pvops import sample
from pvops.kernel import Kernel
from pvops.machine.machine import Machine
from pvops.plan.diff import Comparison, compare
from pvops.plan.plan import Plan

_VOID = frozenset({"meta", "br"})


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order, nothing loaded, nothing run."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.words: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe", "object", "a")
        assert not {name for name, _ in attrs} & {"src", "href", "style"}
        self.seen.add(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def difference(*args: str | Path) -> Any:
    """The document of a difference that is there."""
    done = pvops("diff", *args, "--json")
    assert done.returncode == 1, done.stderr.decode()
    return json.loads(done.stdout)


def test_nothing_differs_from_itself(sample_kernel: Path, tmp_path: Path) -> None:
    done = pvops("diff", sample_kernel, "kvm", "kvm", "--html", tmp_path / "page.html")
    assert done.returncode == 0
    assert b"nothing differs" in done.stdout
    assert "nothing differs." in Page((tmp_path / "page.html").read_text()).words


def test_each_site_has_both_sides_and_their_reasons(sample_kernel: Path) -> None:
    found = difference(sample_kernel, "native", "kvm")
    assert found["schema"] == "pvops.diff/1"
    assert [found[side]["backend"] for side in "ab"] == ["native", "kvm"]
    kernel = package.open(sample_kernel)
    texts = {name: kernel.plan(name) for name in ("native", "kvm")}
    assert found["summary"]["sites"] == len(found["sites"]) > 0
    for site in found["sites"]:
        assert site["a"]["bytes"] != site["b"]["bytes"]
        assert site["table"] == "paravirt"
        assert f"{site['op']} holds " in site["a"]["reason"]
        assert site["a"]["reason"] != site["b"]["reason"]
        for side, name in (("a", "native"), ("b", "kvm")):
            (write,) = texts[name].at(int(site["address"], 16))
            assert write.bytes.hex() == site[side]["bytes"]
    assert sum(group["sites"] for group in found["groups"]) == len(found["sites"])
    assert sum(found["summary"]["by_op"].values()) == len(found["sites"])


def test_a_machine_names_its_backend_or_one_is_given_for_it(sample_kernel: Path, tmp_path: Path) -> None:
    guest = tmp_path / "guest.toml"
    guest.write_text('hypervisor = "kvm"\n')
    assert difference(sample_kernel, "native", guest)["b"] == {
        "name": "guest.toml",
        "backend": "kvm",
        "machine": str(guest),
        "passes": difference(sample_kernel, "native", "kvm")["b"]["passes"],
    }
    assert difference(sample_kernel, f"native:{guest}", guest)["a"]["backend"] == "native"


def test_the_machine_of_both_may_be_given_apart(sample_kernel: Path, tmp_path: Path) -> None:
    guest = tmp_path / "guest.toml"
    guest.write_text('hypervisor = "kvm"\n')
    found = difference(sample_kernel, "native", "kvm", "--machine", guest)
    assert [found[side]["machine"] for side in "ab"] == [str(guest)] * 2


def test_rows_are_the_sites(sample_kernel: Path) -> None:
    sites = difference(sample_kernel, "native", "kvm")["sites"]
    lines = [json.loads(line) for line in pvops("diff", sample_kernel, "native", "kvm", "--jsonl").stdout.splitlines()]
    assert [(row["address"], row["a"], row["b"]) for row in lines] == [
        (site["address"], site["a"]["bytes"], site["b"]["bytes"]) for site in sites
    ]
    table = csv.DictReader(pvops("diff", sample_kernel, "native", "kvm", "--csv").stdout.decode().splitlines())
    assert [row["address"] for row in table] == [site["address"] for site in sites]


def test_text_lists_each_site_and_the_summary_only_one_of_a_group(sample_kernel: Path) -> None:
    found = difference(sample_kernel, "native", "kvm")
    listed = re.compile(r"^[0-9a-f]{16}  ", re.M)
    text = pvops("diff", sample_kernel, "native", "kvm").stdout.decode()
    assert len(listed.findall(text)) == len(found["sites"])
    short = pvops("diff", sample_kernel, "native", "kvm", "--summary").stdout.decode()
    assert len(listed.findall(short)) == len(found["groups"])
    assert "sites" not in difference(sample_kernel, "native", "kvm", "--summary")


def test_neither_a_file_nor_a_backend_is_trouble(sample_kernel: Path) -> None:
    assert "no such file, no backend (native, kvm, " in trouble("diff", sample_kernel, "native", "nosuch")
    assert "no such file" in trouble("diff", sample_kernel, "kvm:nosuch", "native")
    assert "standard output" in trouble("diff", sample_kernel, "native", "kvm", "--html", "-", "--csv")


def test_the_page_holds_each_site_and_escapes_what_it_shows(sample_kernel: Path, tmp_path: Path) -> None:
    guest = tmp_path / "<b>&\"'.toml"
    guest.write_text('hypervisor = "kvm"\n')
    done = pvops("diff", sample_kernel, "native", guest, "--html", "-")
    assert done.returncode == 1
    page = Page(done.stdout.decode())
    assert "b" not in page.seen
    words = " ".join(page.words)
    assert guest.name in words
    for site in difference(sample_kernel, "native", "kvm")["sites"]:
        assert f"{int(site['address'], 16):016x}" in words
        assert site["b"]["disassembly"] in words


def test_an_explanation_has_a_page_too(sample_kernel: Path, tmp_path: Path) -> None:
    site = package.open(sample_kernel).sites[0]
    out = tmp_path / "page.html"
    done = pvops("explain", sample_kernel, f"{site.address:#x}", "--backend", "kvm", "--html", out)
    assert (done.returncode, done.stdout) == (0, b"")
    words = " ".join(Page(out.read_text()).words)
    assert f"{site.address:016x}" in words
    assert f"{site.op} holds " in words
    assert site.bytes.hex(" ") in words
    nowhere = tmp_path / "missing" / "page.html"
    assert str(nowhere) in trouble("explain", sample_kernel, f"{site.address:#x}", "--html", nowhere)


# Real kernels


def between(kernels_root: Path, kernel: Kernel, a: str, b: str) -> Comparison:
    """Two of a kernel's boots compared."""
    plans = []
    for mode in (a, b):
        facts = kernels_root / f"boots/{kernel.release}~{mode}.facts"
        if not facts.exists():
            pytest.skip(f"no {facts.name}")
        machine = Machine.load(facts)
        plans.append(kernel.plan(machine.backend.value or "native", machine=machine))
    return compare(plans[0], plans[1], (a, b))


_PAIRS = [
    ("6.1.0-56-amd64", "native-max-smp2", "xenpv-max-smp2"),
    ("6.1.0-56-amd64", "native-max-smp2", "native-max-smp1"),
    ("6.1.0-56-amd64", "native-max-smp2", "native-max-smp2-mitoff"),
    ("5.10.0-46-amd64", "native-max-smp2", "kvm-max-smp2"),
    ("6.12.117+deb12-amd64", "kvm-max-smp2", "xenpv-max-smp2"),
    ("5.10.0-30-686-pae", "native-max-smp2", "native-qemu32-smp1"),
]


@pytest.mark.kernels
@pytest.mark.parametrize(("release", "a", "b"), _PAIRS)
def test_every_byte_that_differs_is_in_a_site(
    release: str, a: str, b: str, kernel: Callable[[str], Kernel], kernels_root: Path
) -> None:
    opened = kernel(release)
    comparison = between(kernels_root, opened, a, b)
    address, size = next((s, n) for name, s, n, _ in opened.image.sections() if name == ".text")
    before, after = bytearray(comparison.a.apply()), comparison.b.apply()
    assert before != after
    assert all(x.address + len(x.built) <= y.address for x, y in pairwise(comparison.sites))
    for site in comparison.sites:
        if site.section == ".text":
            at = site.address - address
            assert before[at : at + len(site.built)] == site.a.bytes
            assert after[at : at + len(site.built)] == site.b.bytes
            assert site.a.bytes != site.b.bytes
            before[at : at + len(site.built)] = site.b.bytes
        assert site.a.reasons
        assert site.b.reasons
    assert before == after
    assert len(after) == size


@pytest.mark.kernels
def test_the_causes_are_the_ones_to_expect(kernel: Callable[[str], Kernel], kernels_root: Path) -> None:
    opened = kernel("6.1.0-56-amd64")
    xen = between(kernels_root, opened, "native-max-smp2", "xenpv-max-smp2")
    assert next(iter(xen.by_subject)) == ("alternatives", "!X86_FEATURE_XENPV")
    (enable,) = [g for g in xen.groups if (g.subject, g.op) == ("!X86_FEATURE_XENPV", "pv_irq_ops.irq_enable")]
    assert xen.disassembly(enable.sites[0].address, enable.a.bytes).startswith("sti")
    assert "it is not set" in " ".join(enable.a.reasons)
    assert "xen_irq_enable_direct" in " ".join(enable.b.reasons)
    one = between(kernels_root, opened, "native-max-smp2", "native-max-smp1")
    assert next(iter(one.by_pass)) == "smp_locks"
    assert {(s.a.bytes[:1], s.b.bytes[:1]) for s in one.sites if s.table == "smp_locks"} == {(b"\xf0", b"\x3e")}
    off = between(kernels_root, opened, "native-max-smp2", "native-max-smp2-mitoff")
    assert next(iter(off.by_pass)) == "retpolines"


@pytest.mark.kernels
@pytest.mark.parametrize("release", ["6.1.0-56-amd64", "6.12.117+deb12-amd64", "7.2.13+deb14-amd64"])
def test_sites_that_differ_alike_are_one_group(release: str, kernel: Callable[[str], Kernel]) -> None:
    opened = kernel(release)
    found = compare(opened.plan("native"), opened.plan("xen"))
    assert len(found.groups) < 150 < 4000 < len(found.sites)
    (enable,) = [g for g in found.groups if g.op == "pv_irq_ops.irq_enable"]
    assert enable.subject == "!X86_FEATURE_XENPV"
    assert {site.a.bytes for site in enable.sites} == {bytes.fromhex("fb0f1f440000")}


def test_a_side_may_be_the_cpu_of_which_nothing_is_known(tmp_path: Path) -> None:
    image = tmp_path / "vmlinux"
    image.write_bytes(sample.build(tables=True).elf)
    found = difference(image, "native:baseline", "native:intel-haswell")
    assert [found[side]["name"] for side in "ab"] == ["native:baseline", "native:intel-haswell"]
    assert pvops("diff", image, "baseline", "native", "--machine", "baseline").returncode == 0


def test_what_a_plan_has_of_passes_is_counted_once_and_not_for_each_site(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = package.open(sample.build("6.1", 64, tables=True).elf)
    asked: list[Plan] = []
    by_pass = Plan.by_pass

    def counted(plan: Plan) -> list[tuple[str, int]]:
        asked.append(plan)
        return by_pass(plan)

    monkeypatch.setattr(Plan, "by_pass", counted)
    sides = kernel.plan("native", machine="baseline"), kernel.plan("kvm", machine="intel-haswell")
    assert len(compare(*sides).sites) > 10
    assert len(asked) == len(sides)
