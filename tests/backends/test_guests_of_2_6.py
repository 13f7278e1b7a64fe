"""KVM, Xen and lguest of 2.6.26 to 2.6.33 on images: what their init code puts into the structures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import pytest

import pvops
from pvops import sample
from pvops.backends import xen_patch
from pvops.eras.patching import Inline
from pvops.errors import OpsError
from pvops.kernel import Kernel
from pvops.plan.plan import Plan


def opened(era: str, bits: int, more: Iterable[str] = ()) -> Kernel:
    functions = (*sample.backend_functions(era, ("native", "kvm", "xen")), *more)
    return pvops.open(sample.build(era, bits, functions=functions, tables=True).elf)


def slots(plan: Plan) -> dict[str, str | None]:
    return {op: slot.symbol for op, slot in plan.slots.items()}


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("era", ["2.6.26", "2.6.27", "2.6.30", "2.6.33"])
def test_kvm_has_the_clock_of_its_time(era: str, bits: int) -> None:
    held = slots(opened(era, bits).plan("kvm"))
    assert held["pv_time_ops.sched_clock"] == "kvm_clock_read"
    wallclock = None if era == "2.6.33" else "kvm_get_wallclock"  # x86_platform's since 2.6.32
    assert held.get("pv_time_ops.get_wallclock") == wallclock
    assert held.get("pv_time_ops.get_tsc_khz") == (
        "kvm_get_tsc_khz" if era == "2.6.30" else slots(opened(era, bits).plan("native")).get("pv_time_ops.get_tsc_khz")
    )
    # No host offers page tables by hypercall any more.
    assert held["pv_mmu_ops.set_pte"] == "native_set_pte"


@pytest.mark.parametrize(
    ("era", "bits", "op", "function"),
    [
        ("2.6.26", 32, "pv_time_ops.get_cpu_khz", "xen_cpu_khz"),
        ("2.6.26", 32, "pv_cpu_ops.read_cr0", "native_read_cr0"),
        ("2.6.26", 32, "pv_irq_ops.irq_enable", "xen_irq_enable_direct"),
        ("2.6.26", 32, "pv_mmu_ops.set_pte", "xen_set_pte"),
        ("2.6.27", 64, "pv_cpu_ops.usergs_sysret64", "xen_sysret64"),
        ("2.6.27", 64, "pv_mmu_ops.set_pgd", "xen_set_pgd"),
        ("2.6.27", 64, "pv_lock_ops.spin_lock", "xen_spin_lock"),
        ("2.6.30", 64, "pv_mmu_ops.pte_val", "__raw_callee_save_xen_pte_val"),
        ("2.6.30", 64, "pv_cpu_ops.swapgs", "_paravirt_nop"),
        ("2.6.30", 64, "pv_cpu_ops.read_pmc", "native_read_pmc"),
    ],
)
def test_xen_fills_what_its_tables_name(era: str, bits: int, op: str, function: str) -> None:
    held = slots(opened(era, bits).plan("xen"))
    assert held[op] == function
    # A structure is copied whole: what its table leaves out is NULL.
    assert held["pv_cpu_ops.read_tscp"] is None


@pytest.mark.parametrize(
    ("era", "backend", "said"),
    [
        # Without PAE no i386 kernel of 2.6.32 has Xen in it: that is what is said.
        ("2.6.33", "xen", r"built without Xen PV \(no symbol xen_start_kernel\)"),
        ("2.6.24", "xen", r"built without Xen PV \(no symbol xen_start_kernel\)"),
        ("2.6.33", "lguest", r"built without lguest \(no symbol lguest_init\)"),
    ],
)
def test_a_kernel_without_a_guest_s_code_is_said_to_have_none(era: str, backend: str, said: str) -> None:
    kernel = pvops.open(sample.build(era, 32, functions=("start_kernel",)).elf)
    with pytest.raises(OpsError, match=f"^this kernel is {said}$"):
        kernel.plan(backend)


def test_lguest_of_2_6_27_inlines_its_flag() -> None:
    kernel = opened("2.6.27", 32, (*_lguest("2.6.27"), "lguest_data"))
    writes = {str(write.op): write for write in kernel.plan("lguest")}
    data = kernel.address_of("lguest_data") or 0
    assert writes["pv_irq_ops.save_fl"].bytes[:5] == b"\xa1" + data.to_bytes(4, "little")
    assert writes["pv_mmu_ops.read_cr2"].function == "lguest_read_cr2"


class Code:
    """An image with xen_irq_enable_direct of i386: movb $0,…; testb $0xff,…; jz 1f; call check_events; 1:"""

    bits, word = 32, 4
    code = bytes.fromhex("64c60500000000 00 64f60500000000 ff 7405 e8fbffffff c3 90 90 90")
    names: ClassVar = {"": 0x1000, "_end": 0x1000 + 23, "_reloc": 0x1000 + 19}

    def address_of(self, symbol: str) -> int | None:
        return self.names.get(symbol.removeprefix("xen_irq_enable_direct"))

    def symbol_at(self, address: int) -> str | None:
        return None

    def find_words(self, words: Mapping[int, int]) -> int | None:
        return None

    def read_word(self, address: int) -> int | None:
        return int.from_bytes(self.code[address - 0x1000 :][:4], "little")


def test_xen_patch_takes_code_up_to_its_end_and_moves_the_call_in_it() -> None:
    inline = xen_patch.direct(Code(), "xen_irq_enable_direct")
    guard = "xen_irq_enable_direct"  # what the slot holds where Xen let the kernel place vcpu_info
    assert inline == Inline(Code.code[:23], guard, "default", reloc=19, reloc_target="check_events")
    assert xen_patch.direct(Code(), "xen_save_fl_direct") is None


def _lguest(era: str) -> list[str]:
    from pvops.backends import lguest
    from pvops.eras import era as era_of

    config = era_of(era).default_config(32)
    held = era_of(era).patch_template(config, *lguest.structs(era_of(era), config)).pointers()
    return [symbol for symbol in held.values() if symbol]
