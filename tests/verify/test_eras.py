"""Every era's image, patched by its rules and judged by them: two roads to the same bytes, from 2.6.24 on."""

from __future__ import annotations

from functools import cache

import pytest

import pvops
from pvops import eras, sample
from pvops.kernel import Kernel

SHAPES = [(era, bits) for era in sample.ERAS for bits in eras.era(era).bits]
MACHINES = ("intel-haswell", "amd-epyc-rome")
BACKENDS = ("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv")


@cache
def opened(era: str, bits: int) -> Kernel:
    functions = sample.backend_functions(era, BACKENDS)
    return pvops.open(sample.build(era, bits, functions=functions, tables=True).elf)


def backends_of(kernel: Kernel) -> list[str]:
    found = []
    for name in BACKENDS:
        try:
            kernel.plan(name)
        except pvops.Error:
            continue  # no such guests yet, or without functions that a sample has not
        found.append(name)
    return found


@pytest.mark.parametrize(("era", "bits"), SHAPES, ids=str)
def test_what_the_rules_write_is_explained_in_every_byte(era: str, bits: int) -> None:
    kernel = opened(era, bits)
    for backend in backends_of(kernel):
        for machine in (None, *MACHINES) if backend in ("native", "kvm") else (None,):
            text = kernel.plan(backend, machine=machine).apply()
            report = kernel.verify(text)
            assert report, (backend, machine, report.unexplained[:3])
            assert report.backend == backend or text == kernel.plan("native", machine=machine).apply()


@pytest.mark.parametrize(("era", "bits"), SHAPES, ids=str)
def test_a_byte_that_no_rule_writes_is_not(era: str, bits: int) -> None:
    kernel = opened(era, bits)
    start = next(address for name, address, _, _ in kernel.image.sections() if name == ".text")
    text = bytearray(kernel.plan("native").apply())
    for place in ("sample_work_3", sample.tables.BARRIER, sample.EVERY_OP):
        address = kernel.address_of(place)
        assert address is not None
        changed = bytearray(text)
        changed[address + 4 - start] ^= 0xFF
        (run,) = kernel.verify(changed).unexplained
        assert run.address <= address + 4 < run.address + len(run.found)


@pytest.mark.parametrize(("era", "bits"), SHAPES, ids=str)
def test_one_cpu_has_no_need_of_lock(era: str, bits: int) -> None:
    kernel = opened(era, bits)
    lock = kernel.address_of(sample.tables.LOCKED)
    machine = pvops.Machine(name="one", possible_cpus=1, flags=frozenset({"fpu"}))
    report = kernel.verify(kernel.plan("native", machine=machine).apply())
    assert report
    assert report.cpus == "1"
    assert kernel.image.read(lock or 0, 1) == b"\xf0"


@pytest.mark.parametrize(
    ("made", "bits", "release", "called", "jumped"),
    [
        ("6.18", 64, "6.18.0", ["ftrace", "livepatch", "kprobes", "bpf"], None),
        ("6.18", 64, "6.19.0", ["ftrace", "livepatch", "kprobes", "bpf"], ["bpf"]),
        ("7.2", 64, "7.2.0", ["ftrace", "livepatch", "kprobes", "bpf"], ["bpf"]),
        ("6.18", 32, "6.19.0", ["ftrace", "kprobes"], None),
        ("7.2", 32, "7.2.0", ["ftrace", "kprobes"], None),
    ],
)
def test_who_may_have_a_function_go_outside_hangs_on_release_and_width(
    made: str, bits: int, release: str, called: list[str], jumped: list[str] | None
) -> None:
    """BPF's trampolines and live patches are x86-64's, and a trampoline is jumped to since 6.19 (25e4e3565d45)."""
    elf = sample.build(made, bits, tables=True).elf
    kernel = pvops.open(elf.replace(f"version {made}.0-pvops".encode(), f"version {release}-pvops".encode()))
    assert kernel.release == f"{release}-pvops-sample"
    start = next(address for name, address, _, _ in kernel.image.sections() if name == ".text")
    text, site = bytes(kernel.plan("native").apply()), kernel.tables.rows("mcount")[0][1]
    for opcode, owners in ((0xE8, called), (0xE9, jumped)):
        branch = bytes([opcode]) + (0x3000000).to_bytes(4, "little")
        (run,) = kernel.verify(text[: site - start] + branch + text[site - start + 5 :]).unexplained
        assert (run.owned and run.owned.owners) == owners


@pytest.mark.parametrize(
    ("made", "bits", "release", "nops"),
    [
        ("2.6.26", 64, "2.6.20", ("k8", "k8")),
        ("2.6.26", 64, "2.6.24", ("p6", "k8")),
        ("2.6.24", 32, "2.6.21", ("generic", "k8")),
        ("2.6.24", 32, "2.6.24", ("p6", "k8")),
    ],
)
def test_old_kernels_without_paravirt_have_the_other_passes(
    made: str, bits: int, release: str, nops: tuple[str, str]
) -> None:
    """x86-64 had no ops before 2.6.26, and a vmlinux of 2.6.20 to 2.6.23 is patched as well."""
    elf = sample.build(made, bits, ops=(), tables=True).elf.replace(
        f"version {made}-pvops".encode(), f"version {release}-pvops".encode()
    )
    kernel = pvops.open(elf.replace(b"pv_init_ops", b"no_init_ops"))
    for machine, table in zip(MACHINES, nops, strict=True):
        plan = kernel.plan("native", machine=machine)
        assert plan.nops.table == table
        assert {write.table for write in plan} == {"alternatives", "smp_locks"}
        assert kernel.verify(plan.apply())


def test_a_call_that_clobbers_more_than_its_site_lets_go_stays_indirect() -> None:
    """apply_paravirt() up to 4.18 looks at what a site lets go (5800dc5c19f3): callee-save sites keep the call."""
    for era, kept in (("4.10", True), ("4.14", True), ("4.19", False)):
        kernel = opened(era, 64)
        plan = kernel.plan("kvm")
        unlocks = {write.kind for write in plan if write.op == "pv_lock_ops.queued_spin_unlock"}
        assert unlocks == {"kept" if kept else "called"}
        text = plan.apply()
        report = kernel.verify(text)
        assert report
        assert report.backend == "kvm"
        assert kernel.plan(machine=pvops.Machine.from_dict(report.machine)).apply() == text


@pytest.mark.parametrize(("option", "stays"), [(b"noreplace-paravirt\0", True), (b"noreplace-paravirf\0", False)])
def test_an_option_leaves_calls_of_ops_as_they_are_where_the_kernel_has_it(option: bytes, stays: bool) -> None:
    elf = sample.build("3.10", 64, tables=True).elf
    kernel = pvops.open(elf.replace(b"made by pvops.sample", (option + b"le")[:20].ljust(20), 1))
    machine = pvops.Machine(name="plain", cmdline="noreplace-paravirt")
    kinds = {write.kind for write in kernel.plan("native", machine=machine) if write.table == "paravirt"}
    assert (kinds == {"kept"}) == stays
    text = kernel.plan("native", machine=machine).apply()
    report = kernel.verify(text)
    assert report
    assert kernel.plan(machine=pvops.Machine.from_dict(report.machine)).apply() == text


@pytest.mark.parametrize(
    ("era", "bits"), [(era, bits) for era, bits in SHAPES if era in ("2.6.30", "2.6.33", "2.6.34", "2.6.38")]
)
def test_calls_of_the_tracer_become_one_nop_on_every_cpu_up_to_2_6_39(era: str, bits: int) -> None:
    """``ftrace_dyn_arch_init()`` takes the first nop that runs; an AMD CPU's other nops are K8's.

    ``arch_init_ideal_nop5()`` of 2.6.37 to 2.6.39 does not try nopl on i386, which hypervisors broke.
    """
    kernel = opened(era, bits)
    nop = "3e8d742600" if (era, bits) == ("2.6.38", 32) else "0f1f440000"
    start = next(address for name, address, _, _ in kernel.image.sections() if name == ".text")
    sites = [row[1] for row in kernel.tables.rows("mcount")]
    assert sites
    for machine in MACHINES:
        text = bytes(kernel.plan("native", machine=machine).apply())
        assert {text[site - start : site - start + 5] for site in sites} == {bytes.fromhex(nop)}
        assert kernel.verify(text).explained["mcount"] == sum(
            before != after
            for site in sites
            for before, after in zip(kernel.image.read(site, 5) or b"", text[site - start :], strict=False)
        )
