"""Backends as data: what is assigned under which conditions, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from pvops import backends
from pvops.backends.backend import Assign, Backend, Copy, Fill, Slot, callee_save
from pvops.eras.structs import Config
from pvops.errors import OpsError
from pvops.machine.machine import Machine

OPS = (
    "pv_cpu_ops.io_delay",
    "pv_cpu_ops.cpuid",
    "pv_irq_ops.halt",
    "pv_mmu_ops.flush_tlb_multi",
    "pv_mmu_ops.tlb_remove_table",
    "pv_mmu_ops.exit_mmap",
    "pv_lock_ops.queued_spin_lock_slowpath",
    "pv_lock_ops.queued_spin_unlock",
    "pv_lock_ops.wait",
    "pv_lock_ops.kick",
    "pv_lock_ops.vcpu_is_preempted",
)


class Image:
    """A kernel with every symbol but some, each at an address of its own."""

    def __init__(self, *without: str, bits: int = 64, words: dict[int, int] | None = None) -> None:
        self.bits = bits
        self.word = bits // 8
        self.without = without
        self.words = words or {}
        self.known: dict[str, int] = {}

    def address_of(self, symbol: str) -> int | None:
        if symbol in self.without:
            return None
        return self.known.setdefault(symbol, 0x1000 * (1 + len(self.known)))

    def symbol_at(self, address: int) -> str | None:
        return next((name for name, at in self.known.items() if at == address), None)

    def find_words(self, words: Mapping[int, int]) -> int | None:
        return None

    def read_word(self, address: int) -> int | None:
        return self.words.get(address)


def fill_of(
    image: Image | None = None,
    *,
    era: str = "6.1",
    machine: Machine | None = None,
    ops: tuple[str, ...] = OPS,
    config: Config | None = None,
) -> Fill:
    image = image or Image()
    native = {op: Slot(op, f"native_{op}", image.address_of(f"native_{op}"), "as built", "pv_ops") for op in ops}
    return Fill(era, image.bits, config or Config(), ops, native, image, machine)


def changed(name: str, fill: Fill) -> set[str]:
    slots = backends.get(name).fill(fill)
    assert list(slots) == list(fill.ops)
    return {op for op in fill.ops if slots[op].symbol != fill.native[op].symbol}


LOCKS = {op for op in OPS if op.startswith("pv_lock_ops") and not op.endswith("preempted")}
FLUSH = {"pv_mmu_ops.flush_tlb_multi", "pv_mmu_ops.tlb_remove_table"}
STEAL = {"pv_lock_ops.vcpu_is_preempted"}
DELAY = {"pv_cpu_ops.io_delay"}


def kvm(**given: object) -> Machine:
    words = {"eax": 0x2E2, "edx": 0, "flags": "fpu", "possible_cpus": 2, "cmdline": "", **given}
    leaf = {"eax": words.pop("eax"), "edx": words.pop("edx")}
    signature = {"eax": 0x40000001, "ebx": 0x4B4D564B, "ecx": 0x564B4D56, "edx": 0x4D}
    return Machine.from_dict({**words, "hypervisor": "kvm", "cpuid": {"0x40000000": signature, "0x40000001": leaf}})


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (None, LOCKS | FLUSH | STEAL | DELAY),
        (kvm(), LOCKS | FLUSH | STEAL | DELAY),
        (kvm(flags="fpu monitor"), LOCKS | STEAL | DELAY),
        (kvm(possible_cpus=1), STEAL | DELAY),
        (kvm(cmdline="quiet nopvspin"), FLUSH | STEAL | DELAY),
        (kvm(cmdline="nopv"), set()),
        (kvm(cmdline="nopv", kernel="Linux version 5.3.0"), set()),
        (kvm(cmdline="nopv", kernel="Linux version 4.19.0"), LOCKS | FLUSH | STEAL | DELAY),
        (kvm(cmdline="nopv", dmesg="[    0.000000] Hypervisor detected: KVM\n"), LOCKS | FLUSH | STEAL | DELAY),
        (kvm(edx=1), STEAL | DELAY),
        (kvm(eax=0x262), FLUSH | STEAL | DELAY),
        (kvm(eax=0x2C2), LOCKS | DELAY),
        (kvm(eax=0), set()),
    ],
)
def test_kvm_6_1(machine: Machine | None, expected: set[str]) -> None:
    assert changed("kvm", fill_of(machine=machine)) == expected


KVM_5_10_OPS = ("pv_init_ops.patch", "pv_time_ops.sched_clock", "pv_time_ops.steal_clock", *OPS)


@pytest.mark.parametrize(
    ("machine", "clock", "flush", "preempted"),
    [
        (kvm(flags="fpu monitor"), False, True, True),
        (kvm(possible_cpus=1), False, True, False),
        (kvm(eax=0x10002EB), True, True, True),
        (kvm(eax=0x10002EB, cmdline="no-kvmclock"), False, True, True),
        (kvm(eax=0x2E3), True, True, True),
        (kvm(cmdline="nopvspin"), False, True, False),
    ],
)
def test_kvm_5_10_asks_less_for_its_flush_and_more_for_preempted(
    machine: Machine, clock: bool, flush: bool, preempted: bool
) -> None:
    ops = tuple(op.replace("flush_tlb_multi", "flush_tlb_others") for op in KVM_5_10_OPS)
    slots = backends.get("kvm").fill(fill_of(era="5.10", machine=machine, ops=ops))
    assert (slots["pv_time_ops.sched_clock"].symbol == "kvm_sched_clock_read") == clock
    assert (slots["pv_mmu_ops.flush_tlb_others"].symbol == "kvm_flush_tlb_others") == flush
    assert (slots["pv_lock_ops.vcpu_is_preempted"].symbol == callee_save("__kvm_vcpu_is_preempted")) == preempted
    assert slots["pv_time_ops.steal_clock"].symbol == "kvm_steal_clock"


def test_a_kernel_for_one_cpu_has_no_flush_of_others() -> None:
    smp, flush = ("start_secondary", "native_smp_prepare_cpus"), "kvm_flush_tlb_multi"
    assert changed("kvm", fill_of(Image(flush, *smp))) & FLUSH == set()
    slot = backends.get("kvm").fill(fill_of(Image(flush, *smp), machine=kvm()))["pv_mmu_ops.tlb_remove_table"]
    assert slot.why.endswith("not tlb_remove_table: this kernel is built for one CPU")
    with pytest.raises(OpsError, match="but the image has no symbol"):
        changed("kvm", fill_of(Image(flush, smp[1]), config=Config("SMP")))
    assert changed("kvm", fill_of(Image(*smp))) & FLUSH == FLUSH, "5.12 has both without CONFIG_SMP"
    assert changed("kvm", fill_of(Image(*smp, "start_kernel"))) & FLUSH == FLUSH, "what is not named may be there"


def test_a_slot_says_why() -> None:
    slot = backends.get("kvm").fill(fill_of(machine=kvm()))["pv_lock_ops.wait"]
    assert slot.symbol == "kvm_wait"
    assert slot.why == (
        "KVM_HINTS_REALTIME is not set (cpuid leaf 0x40000001 edx bit 0), 2 possible CPUs (given),"
        " no nopvspin on the command line, KVM_FEATURE_PV_UNHALT is set (cpuid leaf 0x40000001 eax bit 7)"
    )
    assert slot.source == "arch/x86/kernel/kvm.c: kvm_spinlock_init, 6.1"


def test_a_slot_left_alone_says_why_too() -> None:
    slot = backends.get("kvm").fill(fill_of(machine=kvm(flags="monitor")))["pv_mmu_ops.flush_tlb_multi"]
    assert slot.why == (
        "as built; not kvm_flush_tlb_multi: X86_FEATURE_MWAIT is set (monitor in /proc/cpuinfo's flags)"
    )


def test_without_a_machine_everything_is_assumed_and_said_to_be() -> None:
    slots = backends.get("kvm").fill(fill_of())
    assert "assumed" in slots["pv_lock_ops.wait"].why
    other = Machine(hypervisor="none", cmdline="", possible_cpus=2, flags=["fpu"])
    assert (
        "assumed set (the machine runs on no hypervisor)"
        in backends.get("kvm").fill(fill_of(machine=other))[OPS[0]].why
    )


@pytest.mark.parametrize(
    ("features", "hints", "cmdline", "expected"),
    [
        (1 << 10, 1 << 10 | 1 << 2, "nopvspin", LOCKS | STEAL | FLUSH),
        (1 << 10, 1 << 10, "hv_nopvspin", set()),
        (0, 1 << 10, "", set()),
        (1 << 10, 1 << 2, "", FLUSH),
    ],
)
def test_hyper_v(features: int, hints: int, cmdline: str, expected: set[str]) -> None:
    line = f"Hyper-V: privilege flags low {features:#x}, high 0x0, hints {hints:#x}, misc 0x0\n"
    machine = Machine(dmesg=line, cmdline=cmdline, possible_cpus=1, hypervisor="hyperv")
    assert changed("hyperv", fill_of(machine=machine)) == expected


@pytest.mark.parametrize(
    ("features", "clock"),
    [(1 << 9 | 2, "read_hv_sched_clock_tsc"), (2, "read_hv_sched_clock_msr"), (0, "native_pv_time_ops.sched_clock")],
)
def test_hyper_v_5_10_clock(features: int, clock: str) -> None:
    machine = Machine(dmesg=f"Hyper-V: features {features:#x}, hints 0x0, misc 0x0\n", hypervisor="hyperv")
    slots = backends.get("hyperv").fill(fill_of(era="5.10", machine=machine, ops=KVM_5_10_OPS))
    assert slots["pv_time_ops.sched_clock"].symbol == clock


def test_hyper_v_has_no_pv_locks_on_i386() -> None:
    assert changed("hyperv", fill_of(Image("hv_qlock_wait", bits=32))) == FLUSH


@pytest.mark.parametrize(
    ("dmesg", "cmdline", "clock", "steal"),
    [
        ("", "", True, False),
        ("", "no-vmw-sched-clock", False, False),
        ("vmware: Failed to get TSC freq from the hypervisor\nvmware-stealtime: cpu 0", "", False, False),
        ("vmware: vmware-stealtime: cpu 0, pa 1", "", True, True),
    ],
)
def test_vmware_5_10(dmesg: str, cmdline: str, clock: bool, steal: bool) -> None:
    machine = Machine(dmesg=dmesg, cmdline=cmdline, hypervisor="vmware")
    slots = backends.get("vmware").fill(fill_of(era="5.10", machine=machine, ops=KVM_5_10_OPS))
    assert slots["pv_cpu_ops.io_delay"].symbol == "_paravirt_nop"
    assert (slots["pv_time_ops.sched_clock"].symbol == "vmware_sched_clock") == clock
    assert (slots["pv_time_ops.steal_clock"].symbol == "vmware_steal_clock") == steal


def test_vmware_after_the_nop_was_renamed() -> None:
    slots = backends.get("vmware").fill(fill_of(Image("_paravirt_nop"), era="6.12"))
    assert slots["pv_cpu_ops.io_delay"].symbol == "nop_func"


@pytest.mark.parametrize(
    ("cmdline", "dmesg", "expected"),
    [
        ("", "", LOCKS | STEAL),
        ("nopvspin", "", set()),
        ("xen_nopvspin", "", set()),
        ("xen_no_vector_callback", "", set()),
        ("xen_nopv", "", set()),
        ("nopv", "Linux version 4.19.0\nHypervisor detected: Xen HVM\n", LOCKS | STEAL),
        ("xen_nopv", "Linux version 4.19.0\n", set()),
        ("nopv", "Linux version 5.10.0\nHypervisor detected: Xen HVM\n", set()),
        ("nopv", "Booting paravirtualized kernel on Xen PVH\n", LOCKS | STEAL),
        ("", "Booting paravirtualized kernel on Xen HVM\nxen: PV spinlocks enabled\n", LOCKS | STEAL | {OPS[5]}),
        ("", "Booting paravirtualized kernel on Xen HVM\n", LOCKS | STEAL),
        (
            "",
            "Booting paravirtualized kernel on Xen HVM\nxen: PV spinlocks enabled\nHVMOP_pagetable_dying not supported",
            LOCKS | STEAL,
        ),
    ],
)
def test_xen_hvm(cmdline: str, dmesg: str, expected: set[str]) -> None:
    machine = Machine(cmdline=cmdline, dmesg=dmesg, possible_cpus=2, hypervisor="xen-hvm")
    assert changed("xen-hvm", fill_of(machine=machine)) == expected


def test_tables_are_read_where_the_image_has_them() -> None:
    image = Image()
    fill = fill_of(image, ops=("pv_cpu_ops.a", "pv_irq_ops.b", "pv_irq_ops.c"))
    f, table = image.address_of("f"), image.address_of("table")
    assert f
    assert table
    backend = Backend("x", "X", "x", {"6.1": (Copy("pv_irq_ops", "table", "x.c", whole=True),)})
    image.words = {table + 8: f, table + 16: 0}
    slots = backend.fill(fill)
    assert [slot.symbol for slot in slots.values()] == ["native_pv_cpu_ops.a", "f", None]
    assert slots["pv_irq_ops.c"].address is None
    alone = Backend("x", "X", "x", {"6.1": (Copy("pv_irq_ops", "table", "x.c", whole=False),)})
    image.words = {table: f, table + 8: f}
    assert [slot.symbol for slot in alone.fill(fill).values()][1:] == ["f", "f"]
    image.words = {table: f, table + 8: f + 1}
    with pytest.raises(OpsError, match=r"pv_irq_ops\.c is read from table at .* which is no function"):
        alone.fill(fill)


def test_a_table_without_a_symbol() -> None:
    fill = fill_of(Image("table"), ops=("pv_irq_ops.b", "pv_irq_ops.c"))
    with pytest.raises(OpsError, match="copied from table, but the image has no such symbol"):
        Backend("x", "X", "x", {"6.1": (Copy("pv_irq_ops", "table", "x.c", whole=True),)}).fill(fill)
    copy = Copy("pv_irq_ops", "table", "x.c", whole=True, otherwise={"c": "f"})
    slots = Backend("x", "X", "x", {"6.1": (copy,)}).fill(fill)
    assert [slot.symbol for slot in slots.values()] == [None, "f"]


def test_errors_name_backend_op_and_symbol() -> None:
    with pytest.raises(OpsError, match=r"backend kvm: pv_lock_ops\.wait becomes kvm_wait, but the image has no symbol"):
        backends.get("kvm").fill(fill_of(Image("kvm_wait"), config=Config("PARAVIRT_SPINLOCKS")))
    slots = backends.get("kvm").fill(fill_of(Image("kvm_wait")))
    assert "built without PARAVIRT_SPINLOCKS" in slots["pv_lock_ops.wait"].why
    with pytest.raises(OpsError, match=r"built without Xen PV \(no symbol xen_cpu_ops\)"):
        backends.get("xen").fill(fill_of(Image("xen_cpu_ops", "xen_start_kernel")))
    with pytest.raises(OpsError, match=r"backend kvm has no rules for era 3\.2 \(it has 2\.6\.26, 2\.6\.30, "):
        backends.get("kvm").fill(fill_of(era="3.2"))


def test_later_steps_win() -> None:
    steps = (Assign("pv_cpu_ops.io_delay", "early"), Assign("pv_cpu_ops.io_delay", "late"))
    assert Backend("x", "X", "x", {"6.1": steps}).fill(fill_of())["pv_cpu_ops.io_delay"].symbol == "late"


def test_names_and_lazy_attributes() -> None:
    assert backends.names() == ("native", "kvm", "xen", "xen-hvm", "vmware", "hyperv", "lguest", "vmi")
    assert backends.xen_hvm is backends.get("xen-hvm") is backends.get("xen_hvm")
    with pytest.raises(OpsError, match=r"no backend kmv \(did you mean kvm\?\); there are native, kvm, xen"):
        backends.get("kmv")
    with pytest.raises(AttributeError):
        backends.nothing  # noqa: B018
    assert [name for name in dir(backends) if not hasattr(backends, name)] == []


def test_importing_a_backends_module_leaves_the_backend_as_attribute() -> None:
    code = (
        "import sys, pvops.backends as b\n"
        "assert not [m for m in sys.modules if m.startswith('pvops.backends.')]\n"
        "from pvops.backends.xen import XEN_7_2\n"
        "assert b.xen.name == 'xen' and b.xen is b.get('xen')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
