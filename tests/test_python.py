"""The nouns as Python objects: short representations, containers, pickles, and the words of the command line."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

import pvops
from pvops import backends
from pvops.cli import main
from pvops.eras import era, eras
from pvops.errors import ImageError, OpsError
from pvops.kernel import open_stdin
from pvops.lock import simulate
from pvops.plan.diff import compare
from pvops.plan.explain import explanation
from pvops.plan.writes import Undetermined, Write

#: The longest line that a person reads at a prompt without scrolling.
LINE = 200


@pytest.fixture
def opened(sample_kernel: Path) -> pvops.Kernel:
    return pvops.open(sample_kernel)


@pytest.fixture
def nouns(opened: pvops.Kernel) -> list[object]:
    """An object of each kind that a user holds."""
    plan, other = opened.plan(), opened.plan("kvm")
    site = opened.sites[0]
    return [
        opened,
        opened.sites,
        site,
        site.rows[0],
        plan,
        plan.at(site.address)[0],
        plan.machine,
        plan.backend,
        explanation(opened, [plan, other], site.address),
        compare(plan, other),
        opened.places(f"{site.address:#x}")[0],
        pvops.memory.open(bytes(0x10000)),
        opened.image,
        opened.ops,
        opened.rules,
        opened.sites.columns,
        plan.undetermined_bytes,
        plan.explain(site.address),
        next(iter(plan.slots.values())),
        compare(plan, other).sites[0],
        compare(plan, other).groups[0],
        simulate.simulate(simulate.Case(protocol="pv-ticket", vcpus=2, pcpus=1, duration=0.01)),
    ]


def test_a_representation_is_one_short_line_with_addresses_in_hexadecimal(nouns: list[object]) -> None:
    for noun in nouns:
        shown = repr(noun)
        assert len(shown) <= LINE, shown
        assert "\n" not in shown
        assert " object at 0x" not in shown
        for address in (getattr(noun, "address", None),):
            assert not isinstance(address, int) or f"{address:#x}" in shown


def test_what_is_left_over_is_shown_as_bytes_and_a_few_rows_of_many(opened: pvops.Kernel) -> None:
    text = bytearray(opened.plan().apply())
    text[0x10] ^= 0xFF
    report = opened.verify(bytes(text))
    (left,) = report.unexplained
    assert repr(left) == (
        f"<unexplained {left.address:#x} {left.symbol}: is {left.found.hex(' ')}, should be {left.expected.hex(' ')}>"
    )
    assert repr(left) in repr(report.unexplained)
    votes = report.votes
    assert repr(votes).endswith(f"… {len(votes) - 3:,} more]")


def test_what_is_long_is_cut() -> None:
    write = Write(0x81000000, "alternatives", 3, bytes(255), 255, "inlined", "", "", None, None, None)
    assert repr(write) == "<Write 0x81000000 alternatives row 3: 00 00 00 00 00 00 00 00 00 00 00…, inlined>"
    unknown = Undetermined(0x81000000, 255, "alternatives", 3, ("90" * 255,) * 5)
    assert len(repr(unknown)) <= LINE


def test_in_a_notebook_it_is_a_piece_of_html(opened: pvops.Kernel) -> None:
    plan, other = opened.plan(), opened.plan("kvm")
    result = simulate.simulate(simulate.Case(protocol="pv-ticket", vcpus=2, pcpus=1, duration=0.01))
    shown = [
        (opened._repr_html_(), opened.name),
        (opened.sites._repr_html_(), f"{len(opened.sites)} sites"),
        (plan._repr_html_(), "under native"),
        (compare(plan, other)._repr_html_(), "sites differ"),
        (explanation(opened, [plan], opened.sites[0].address)._repr_html_(), str(opened.sites[0].op)),
        (plan.explain("sample_lock+3")._repr_html_(), "queued_spin_lock_slowpath"),
        (result._repr_html_(), "pv-ticket: 2 virtual CPUs on 1"),
    ]
    for html, word in shown:
        assert word in html
        assert "<table>" in html
        assert "<script" not in html


def test_sites_are_found_by_address_and_by_place(opened: pvops.Kernel) -> None:
    site = opened.sites[3]
    assert site.address in opened.sites
    assert site.address + len(site.bytes) - 1 in opened.sites
    assert site in opened.sites
    assert 0x1000 not in opened.sites
    assert opened.sites[site.address].address == opened.sites[site.address + 1].address == site.address
    assert [s.address for s in opened.sites[2:5]] == [s.address for s in opened.sites][2:5]
    assert site.address in [s.address for s in opened.sites[str(site.symbol)]]
    free = next(a for a in range(site.address, site.address + 0x1000) if opened.sites.at(a) is None)
    with pytest.raises(IndexError, match=f"no site at {free:#x}"):
        opened.sites[free]
    with pytest.raises(IndexError):
        opened.sites[len(opened.sites)]
    with pytest.raises(ImageError, match="no symbol nowhere"):
        opened.sites["nowhere"]


def test_what_the_command_line_takes_python_takes(opened: pvops.Kernel) -> None:
    site = opened.sites[0]
    plan = opened.plan("KVM", machine="intel-haswell")
    assert plan.machine is not None
    assert (plan.backend, plan.machine.name) == (backends.kvm, "intel-haswell")
    assert opened.plan(machine="baseline").machine is None
    assert plan.explain(str(site.symbol)) == plan.explain(site.address)


def test_a_plan_is_under_the_backend_of_its_machine(opened: pvops.Kernel) -> None:
    guest = pvops.Machine(name="guest", hypervisor="kvm")
    assert opened.plan(machine=guest).backend == backends.kvm
    assert opened.slots(machine=guest)["pv_cpu_ops.io_delay"].symbol == "kvm_io_delay"
    assert opened.plan("native", machine=guest).backend == opened.plan().backend == backends.native


def test_a_kernel_and_a_plan_cross_to_another_process(sample_kernel: Path) -> None:
    for source in (sample_kernel, sample_kernel.read_bytes()):
        kernel = pvops.open(source)
        plan = kernel.plan("kvm", machine="amd-epyc-milan")
        again = pickle.loads(pickle.dumps(plan))
        assert bytes(again.apply()) == bytes(plan.apply())
        assert again.machine == plan.machine
        assert pickle.loads(pickle.dumps(kernel)).sites[0].address == kernel.sites[0].address


def test_sites_explanations_and_comparisons_cross_too(opened: pvops.Kernel) -> None:
    plan, other = opened.plan(), opened.plan("kvm")
    for chosen in (opened.sites, opened.sites.of_table("paravirt"), opened.sites.for_op("pv_irq_ops.save_fl")):
        again = pickle.loads(pickle.dumps(chosen))
        assert [site.address for site in again] == [site.address for site in chosen]
    site = opened.sites[3]
    crossed = pickle.loads(pickle.dumps(site))
    assert (crossed.address, crossed.symbol, crossed.rows) == (site.address, site.symbol, site.rows)
    found = explanation(opened, [plan, other], site.address)
    assert pickle.loads(pickle.dumps(found)).document() == found.document()
    assert pickle.loads(pickle.dumps(compare(plan, other))).by_pass == compare(plan, other).by_pass
    ops = pickle.loads(pickle.dumps(opened.ops))
    assert (ops.address, ops.names, ops.by_slot) == (opened.ops.address, opened.ops.names, opened.ops.by_slot)
    assert all(pickle.loads(pickle.dumps(era(name))) is era(name) for name in eras())
    text = plan.explain(site.address)
    assert pickle.loads(pickle.dumps(text))._repr_html_() == text._repr_html_()


def test_backends_and_ops_cross_too(opened: pvops.Kernel) -> None:
    for name in backends.of_images():
        assert pickle.loads(pickle.dumps(backends.get(name))) is backends.get(name)
    assert repr(pickle.loads(pickle.dumps(opened.ops))) == repr(opened.ops)


def test_a_report_crosses_too(kernel: Callable[[str], pvops.Kernel]) -> None:
    opened = kernel("6.1.0-50-686-pae")
    report = opened.verify(bytes(opened.plan().apply()))
    again = pickle.loads(pickle.dumps(report))
    assert again == report
    assert len(repr(report)) <= LINE
    assert again.verdict == "clean"
    assert report.kernel in report._repr_html_()


def test_a_kernel_from_a_pipe_cannot_cross(sample_kernel: Path) -> None:
    with sample_kernel.open("rb") as file:
        before = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            kernel = open_stdin()
        finally:
            os.dup2(before, 0)
            os.close(before)
    with pytest.raises(OpsError, match="from a pipe"):
        pickle.dumps(kernel)


@pytest.mark.parametrize("number", [-1, 1 << 64, 1 << 70])
def test_a_number_that_is_no_address_is_nowhere(opened: pvops.Kernel, number: int) -> None:
    plan = opened.plan("kvm")
    assert (opened.place(number), opened.symbol_at(number), opened.read_word(number)) == (None, None, None)
    assert (plan.at(number), opened.sites.at(number), number in opened.sites) == ([], None, False)
    assert plan.raw(number, number + 1) == []
    assert plan.raw(-1, 1 << 70) == plan.raw()


def test_a_machine_of_bytes_is_a_type_error_that_says_what_takes_them() -> None:
    with pytest.raises(TypeError, match=r"Machine\.parse"):
        pvops.Machine.load(b"x")  # type: ignore[arg-type]


def test_a_function_is_listed_as_the_command_lists_it(opened: pvops.Kernel, capsys: pytest.CaptureFixture[str]) -> None:
    listing = opened.disasm("sample_lock+3", "kvm", machine="intel-haswell")
    assert main(["disasm", opened.name, "sample_lock+3", "--backend", "kvm", "--machine", "intel-haswell"]) == 0
    assert f"{listing}\n" == capsys.readouterr().out
    assert [one.table for one in listing if one.address == 0xFFFFFFFF81000453] == ["paravirt"]
    again = opened.disasm(0xFFFFFFFF81000453, "kvm", machine="intel-haswell")
    assert list(again) == list(listing) == list(pickle.loads(pickle.dumps(listing)))
    assert len(repr(listing)) <= LINE
    assert "call __pv_queued_spin_lock_slowpath" in listing._repr_html_()
    with pytest.raises(TypeError, match="an address or a text"):
        opened.disasm(None)  # type: ignore[arg-type]


def test_a_place_is_explained_as_the_command_explains_it(
    opened: pvops.Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    explained = opened.explain("sample_lock+3", "kvm", machine="intel-haswell")
    assert main(["explain", opened.name, "sample_lock+3", "--backend", "kvm", "--machine", "intel-haswell"]) == 0
    assert f"{explained}\n" == capsys.readouterr().out
    assert explained == opened.plan("kvm", machine="intel-haswell").explain(0xFFFFFFFF81000453)


def test_boots_are_compared_as_the_command_compares_them(
    opened: pvops.Kernel, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    facts = tmp_path / "guest.json"
    assert main(["machine", "--from", "amd-epyc-milan", "-o", str(facts)]) == 0
    capsys.readouterr()
    for a, b in (("native", "KVM"), ("intel-haswell", "kvm:amd-epyc-milan"), ("native", "kvm:baseline")):
        compared = opened.diff(a, b, machine="intel-haswell")
        main(["diff", opened.name, a, b, "--machine", "intel-haswell", "--summary"])
        assert f"{compared}\n" == capsys.readouterr().out
    plan = opened.plan("native", machine="intel-haswell")
    assert opened.diff(plan, opened.plan("kvm", machine="intel-haswell")).names == ("native", "kvm")
    assert opened.diff(plan, str(facts)).names == ("intel-haswell", str(facts))
    assert opened.diff(plan, plan).sites == []
    with pytest.raises(TypeError, match="not NoneType"):
        opened.diff(plan, None)  # type: ignore[arg-type]
    with pytest.raises(pvops.errors.InputError, match="did you mean kvm"):
        opened.diff(plan, "kvmm")
    with pytest.raises(OpsError, match="of some places"):
        opened.diff(opened.plan("kvm", places=opened.places("sample_lock")), plan)


def test_one_thing_alone_is_taken_where_several_may_be_given(opened: pvops.Kernel, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.write_bytes(opened.plan().apply())
    assert opened.verify(memory, allow="ftrace")
    with pytest.raises(pvops.errors.InputError, match=r"^x\.ko: "):
        opened.verify(memory, modules="x.ko")
    [(path, report)] = opened.verify_many(memory, machine="intel-haswell", allow="kprobes")
    assert (path, bool(report)) == (str(memory), True), report
    for jobs in (0, -1):
        with pytest.raises(OpsError, match="at least 1"):
            opened.verify(memory, jobs=jobs)
        with pytest.raises(OpsError, match="at least 1"):
            list(opened.verify_many([memory], jobs=jobs))


def test_a_place_is_in_the_sites_or_not(opened: pvops.Kernel) -> None:
    assert "sample_lock" in opened.sites
    assert "sample_loc" not in opened.sites
    assert opened.places(0xFFFFFFFF81000453) == opened.places("0xffffffff81000453")
    with pytest.raises(IndexError, match="there are 107"):
        opened.sites[107]
    with pytest.raises(TypeError, match="not by float"):
        opened.sites[1.5]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not int"):
        opened.plan(5)  # type: ignore[arg-type]
