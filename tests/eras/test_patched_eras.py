"""What distributions and stable releases put into an era's ops: told by an image's functions, or by what sites call."""

from __future__ import annotations

import pytest

import pvops
from image.nameless import native_bodies, without_symbols
from pvops import eras, sample
from pvops.backends.headers import held_by
from pvops.decide.slots import inlining
from pvops.eras import recognise
from pvops.eras.patching import Inline
from pvops.errors import OpsError
from pvops.kernel import Kernel

FLUSH = "pv_mmu_ops.lazy_mode.flush"
LAST = "pv_lazy_flush_ops.flush"
LIMIT = "pv_cpu_ops.load_user_cs_desc"
PATCHED = [
    *(("2.6.26", 32), ("2.6.27", 32), ("2.6.30", 32), ("2.6.33", 32), ("2.6.34", 32), ("2.6.38", 32)),
    *(("3.0", 32), ("3.1", 32), ("3.3", 32), ("3.5", 32)),
]


#: Enough text that is no site: else nothing says whose it is.
MORE = tuple(f"more_{n}" for n in range(200))


def ops(era: str, bits: int, *patches: str) -> tuple[sample.SampleOp, ...]:
    """An era's ops with patches; Xen's guests of i386 need PAE."""
    on = patches if bits == 64 else (*patches, "X86_PAE")
    return sample.native_ops(era, bits, **dict.fromkeys(on, True))


def patched(era: str, bits: int, patch: str, without: str = "") -> Kernel:
    """A sample of an era whose ops are those of its tree with a patch, and what Xen's code has."""
    functions = [name for name in sample.backend_functions(era, ("native", "kvm", "xen")) if name != without]
    if era == "2.6.33":  # whose guests are declared whole
        found = eras.era(era)
        declared = held_by("xen", found, found.default_config(32, X86_PAE=True, EXEC_SHIELD=True))
        functions += [name for name in declared.values() if name]
    return pvops.open(sample.build(era, bits, ops=ops(era, bits, patch), functions=(*functions, *MORE)).elf)


@pytest.mark.parametrize(
    ("era", "bits", "patch", "op"),
    [
        ("3.0", 64, "LAZY_FLUSH", FLUSH),
        ("3.1", 32, "LAZY_FLUSH", FLUSH),
        ("3.1", 32, "DEBIAN_FLUSH", LAST),
        ("3.1", 64, "DEBIAN_FLUSH", LAST),
        ("3.3", 64, "LAZY_FLUSH", FLUSH),
        ("3.5", 64, "LAZY_FLUSH", FLUSH),
    ],
)
def test_an_op_that_stable_releases_took_over_is_told_by_the_sites(era: str, bits: int, patch: str, op: str) -> None:
    """511ba86e1d38: nine in ten pointers are as without it, but what stands behind it has another type."""
    kernel = patched(era, bits, patch)
    assert kernel.rules.era == era
    assert kernel.ops.named_by.startswith(f"era {era} with {patch}, ")
    assert list(kernel.ops.names) == [op.name for op in ops(era, bits, patch)]
    assert kernel.plan("native").slots[op].symbol == "_paravirt_nop"
    assert kernel.plan("xen").slots[op].symbol in ("xen_flush_lazy_mmu", "paravirt_flush_lazy_mmu")


@pytest.mark.parametrize(("era", "bits"), PATCHED)
def test_exec_shield_is_told_by_its_function(era: str, bits: int) -> None:
    """Fedora's i686 kernels load the limit of the user's code segment by an op behind set_ldt."""
    kernel = patched(era, bits, "EXEC_SHIELD")
    assert kernel.ops.named_by.startswith(f"era {era} with EXEC_SHIELD, ")
    assert list(kernel.ops.names) == [op.name for op in ops(era, bits, "EXEC_SHIELD")]
    plan = kernel.plan("native")
    assert plan.slots[LIMIT].symbol == "native_load_user_cs_desc"
    assert kernel.plan("xen").slots[LIMIT].symbol == "xen_load_user_cs_desc"
    assert kernel.verify(plan.apply())


@pytest.mark.parametrize(("era", "bits"), PATCHED)
def test_without_names_the_sites_tell_exec_shield(era: str, bits: int) -> None:
    found = eras.era(era)
    config = found.default_config(32, X86_PAE=True, EXEC_SHIELD=True)
    patch = found.patch_function(config)
    assert patch is not None
    native = found.patch_template(config).pointers()
    bodies = {str(native[op]): rule.code for op, rule in patch.switch.items() if isinstance(rule, Inline)}
    made = sample.build(era, bits, ops=ops(era, bits, "EXEC_SHIELD"), bodies=bodies).elf
    kernel = without_symbols(made)
    # What a sample's other functions do is alike: they return.
    declared = [op.name for op in ops(era, bits, "EXEC_SHIELD")]
    places = [declared.index(op) for op in (LIMIT, "pv_cpu_ops.iret", "pv_mmu_ops.read_cr2")]
    assert [kernel.ops.names[place] for place in places] == [declared[place] for place in places]


@pytest.mark.parametrize(("body", "inlined"), [("48cf", True), ("f6442408047502 48cf", False)])
def test_without_names_iret_is_inlined_where_its_function_is_that_and_no_more(body: str, inlined: bool) -> None:
    """7209a75d2009 gave native_iret() more to do, and took the code away that native_patch() put at sites."""
    found = eras.era("3.15")
    config = found.default_config(64)
    patch = found.patch_function(config)
    assert patch is not None
    iret = "pv_cpu_ops.iret"
    native = found.patch_template(config).pointers()
    bodies = native_bodies("3.15") | {str(native[iret]): bytes.fromhex(body)}
    kernel = without_symbols(sample.build("3.15", 64, bodies=bodies).elf)
    chosen = inlining(kernel, patch)
    assert chosen is not None
    assert (iret in chosen.switch) == inlined
    assert patch.switch.keys() <= chosen.switch.keys()


@pytest.mark.parametrize(("body", "inlined"), [("0f013f", True), ("c8000000 0f013f", False)])
def test_without_names_one_address_is_flushed_inline_where_its_function_does_no_more(body: str, inlined: bool) -> None:
    """With KAISER (4.4.110) native_flush_tlb_single() has more to do, and native_patch() no code for it."""
    flush = "pv_mmu_ops.flush_tlb_single"
    found = eras.era("4.3")
    config = found.default_config(64)
    patch = found.patch_function(config)
    assert patch is not None
    native = found.patch_template(config).pointers()
    bodies = native_bodies("4.3") | {str(native[flush]): bytes.fromhex(body)}
    kernel = without_symbols(sample.build("4.3", 64, bodies=bodies).elf)
    chosen = inlining(kernel, patch)
    assert chosen is not None
    assert (flush in chosen.switch) == inlined
    assert patch.switch.keys() - {flush} <= chosen.switch.keys()


def test_what_nothing_names_is_refused_in_a_true_sentence() -> None:
    """Functions of a sample return at once on i386; a type that no site has, of pv_init_ops, has no slot to read."""
    kernel = without_symbols(sample.build("2.6.38", 32).elf)
    assert kernel.ops.names[0] == "type 0"
    with pytest.raises(OpsError, match=r"no known era's table fits the ops of 2\.6\.38"):
        kernel.plan()
    with pytest.raises(OpsError, match=r"which of them native_patch\(\) inlines is not known"):
        kernel.verify(
            next(kernel.image.read(at, size) or b"" for n, at, size, _ in kernel.image.sections() if n == ".text")
        )


def test_xen_of_a_patched_kernel_that_does_not_know_the_op_leaves_it_null() -> None:
    kernel = patched("2.6.38", 32, "EXEC_SHIELD", without="xen_load_user_cs_desc")
    assert kernel.plan("xen").slots[LIMIT].symbol is None


def test_red_hat_s_2_6_32_has_exec_shield_on_i386() -> None:
    found = eras.era("2.6.32-el6")
    assert LIMIT in found.template(found.default_config(32))
    assert LIMIT in found.template(found.read_config("CONFIG_X86_LOCAL_APIC=y\nCONFIG_SMP=y\n"))
    assert LIMIT not in found.template(found.default_config(64))


def test_x86_64_has_no_limit_of_a_segment_to_load() -> None:
    with pytest.raises(OpsError, match="CONFIG_EXEC_SHIELD depends on !X86_64"):
        sample.native_ops("2.6.38", 64, EXEC_SHIELD=True)


def test_a_patch_is_no_era_that_could_lie_between_two() -> None:
    """3.1's mark in a 3.0 is a backport of the next era, and no doubt about the release."""

    class Backported:
        def has_section(self, _: str) -> bool:
            return False

        def has_constant(self, _: bytes) -> bool:
            return False

        def has_code(self, raw: bytes, function: str) -> bool:
            return False

        def replaces_by_call(self) -> bool:
            return False

        def address_of(self, symbol: str) -> int | None:
            return 1 if symbol == "native_steal_clock" else None

    found = recognise.era_of(Backported(), "3.0.101")
    assert (found.era.name, found.doubt) == ("3.1", "")
