"""2.6.20 to 2.6.23: one struct paravirt_ops, sites with numbers of their own at first, of every op since 2.6.22."""

from __future__ import annotations

import pytest

import pvops
from pvops import sample
from pvops.eras import era, v2_6_22

FLAT = ("2.6.22", "2.6.23-flat")
NUMBERED = ("2.6.20", "2.6.21")


def opened(name: str, **built: object) -> pvops.Kernel:
    return pvops.open(sample.build(name, 32, **built).elf)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NUMBERED)
def test_seven_kinds_of_sites_are_inlined(name: str) -> None:
    """include/asm-i386/paravirt.h: PARAVIRT_IRQ_DISABLE is 0, …, PARAVIRT_STI_SYSEXIT 6; native_insns[]."""
    kernel = opened(name)
    assert kernel.rules.era == name
    written = {str(write.op).removeprefix("paravirt_ops."): write for write in kernel.plan("native")}
    assert {op: write.bytes.hex()[: 2 * n] for (op, write), n in zip(sorted(written.items()), SIZES, strict=True)} == {
        "iret": "cf",
        "irq_disable": "fa",
        "irq_enable": "fb",
        "irq_enable_sysexit": "fb0f35",
        "restore_fl": "509d",
        "save_fl": "9c58",
        "save_fl_irq_disable": "9c58fa",
    }
    assert [op.name.removeprefix("paravirt_ops.") for op in era(name).template(era(name).default_config())] == [
        "irq_disable",
        "irq_enable",
        "restore_fl",
        "save_fl",
        "save_fl_irq_disable",
        "iret",
        "irq_enable_sysexit",
    ]


#: Bytes of the instructions, by op in alphabetical order.
SIZES = (1, 1, 1, 3, 2, 2, 3)


@pytest.mark.parametrize("name", NUMBERED)
def test_the_site_of_two_calls_has_no_slot_of_its_own(name: str) -> None:
    kernel = opened(name)
    at = kernel.ops.names.index("paravirt_ops.save_fl_irq_disable")
    assert kernel.ops.slot(at) == 0
    assert kernel.ops.native["paravirt_ops.save_fl_irq_disable"].symbol == "native_save_fl"


def test_a_type_counts_the_data_in_front() -> None:
    """2.6.22 native_patch(): ``PARAVIRT_PATCH(x)`` is ``offsetof(struct paravirt_ops, x) / sizeof(void *)``."""
    found = era("2.6.22")
    template = found.template(found.default_config(X86_PAE=True))
    assert [op.name for op in template][:5] == [
        "paravirt_ops.kernel_rpl",
        "paravirt_ops.shared_kernel_pmd",
        "paravirt_ops.paravirt_enabled",
        "paravirt_ops.name",
        "paravirt_ops.patch",
    ]
    assert template.PARAVIRT_PATCH("paravirt_ops.patch") == 4
    assert found.asm_offsets(found.default_config())["PARAVIRT_enabled"] == 8


def test_2_6_23_is_2_6_22_with_the_schedulers_clock_and_a_late_hook() -> None:
    older, newer = ({*era(name).structs[0].ops} for name in FLAT)
    assert older - newer == {"get_scheduled_cycles"}
    assert newer - older == {"sched_clock", "post_allocator_init"}


@pytest.mark.parametrize("name", FLAT)
def test_page_table_entries_cost_nothing_and_the_rest_is_as_in_the_seed(name: str) -> None:
    """arch/i386/kernel/paravirt.c: the ops of `NOTHING` are nopped out, whatever they hold; 2.6.24 calls them."""
    kernel = opened(name)
    written = {str(write.op).removeprefix("paravirt_ops."): write for write in kernel.plan("native")}
    nops = bytes.fromhex("8db600000000")
    assert {op for op, write in written.items() if write.bytes == nops} >= {
        op for op in v2_6_22.NOTHING if "pmd" not in op
    }
    assert written["read_tsc"].bytes[:2].hex() == "0f31"
    assert written["io_delay"].kind == "called"
    assert written["pte_update"].kind == "nopped"
    seed = {str(write.op).partition(".")[2]: write.kind for write in opened("seed").plan("native")}
    same = seed.keys() & written.keys() - set(v2_6_22.NOTHING)
    assert {op: written[op].kind for op in same} == {op: seed[op] for op in same}


@pytest.mark.parametrize("name", FLAT + NUMBERED)
def test_what_it_writes_is_what_it_explains(name: str) -> None:
    kernel = opened(name)
    text = bytes(kernel.plan("native").apply())
    report = kernel.verify(text)
    assert report
    assert report.backend == "native"
    changed = bytearray(text)
    site = next(site for site in kernel.sites if site.rows)
    start = next(address for section, address, *_ in kernel.image.sections() if section == ".text")
    changed[site.address - start] ^= 0x40
    assert not kernel.verify(bytes(changed))


@pytest.mark.parametrize("backend", ["lguest", "xen"])
def test_guests_of_2_6_23_patch_as_the_seeds_do(backend: str) -> None:
    """The split of October 2007 changed no function: what each call becomes is the same."""
    kinds = []
    for name in ("2.6.23-flat", "seed"):
        functions = (*sample.backend_functions(name, ("native",)), *held(backend, name))
        kernel = opened(name, functions=functions)
        kinds.append({str(write.op).partition(".")[2]: write.kind for write in kernel.plan(backend)})
    flat, split = kinds
    assert flat.keys() >= {"irq_disable", "save_fl", "set_pte", "write_cr3"}
    assert {op: flat[op] for op in split.keys() & flat.keys()} == {op: split[op] for op in split.keys() & flat.keys()}


def held(backend: str, name: str) -> tuple[str, ...]:
    """The functions that a guest's slots hold, and the data its code refers to."""
    from pvops.backends.headers import held_by
    from pvops.backends.xen_2007 import LATER

    found = era(name)
    pointers = held_by(backend, found, found.default_config())
    symbols = [symbol.partition("+")[0] for symbol in pointers.values() if symbol is not None]
    later = LATER["2.6.24"].values() if backend == "xen" else ("lguest_data",)
    return tuple(dict.fromkeys((*symbols, *later)))


def test_vmi_is_refused_in_a_sentence() -> None:
    with pytest.raises(pvops.Error, match="what VMI's ROM answers is not in an image"):
        opened("2.6.22").plan("vmi")
