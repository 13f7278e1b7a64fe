"""A guest is a kernel to every command: its era, its sites, its ops, and what it writes to itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import pvops
from assembler.gas import assert_same, needs_binutils
from cli.run import document
from cli.run import pvops as command
from pvops import eras as ops
from pvops.assembler import Image, asciz, function, label, mem, u32
from pvops.assembler.operands import eax, ecx, edx, rdi
from pvops.assembler.statements import Body
from pvops.assembler.values import Name
from pvops.assembler.x86 import cpuid, incl, nop, ret
from pvops.emulate.macros.alternatives import Alternatives
from pvops.emulate.macros.natives import native
from pvops.emulate.macros.paravirt import Paravirt
from pvops.eras import recognise
from pvops.errors import AssemblyError, OpsError

#: Eras whose sites patch themselves as an image's.
ERAS = [("2.6.24-rc1", 32), ("2.6.24", 32), ("2.6.33", 32), ("2.6.33", 64), ("5.10", 64), ("6.1", 64)]
eras = pytest.mark.parametrize(("era", "bits"), ERAS, ids=[f"{era}-{bits}" for era, bits in ERAS])

#: Features by number: 3*32+4.
K8 = 100


def _guest(pv: Paravirt) -> Image:
    """A guest that calls every op of the hot paths once."""
    image = Image(pv.bits)
    irq = (pv.raw_local_irq_disable(), pv.raw_local_irq_enable()) if pv.era.name != "6.1" else ()
    image.text(
        function("startup", irq, pv.PVOP_CALL("pv_mmu_ops.read_cr2"), pv.PVOP_VCALL("pv_mmu_ops.exit_mmap"), ret())
    )
    image.init_text(function("setup", pv.PVOP_VCALL("pv_cpu_ops.write_cr0", 1), ret()))
    if pv.era.name == "6.1":
        image.text(function("paravirt_patch", ret()), function("paravirt_BUG", ret()))
    pv.kernel(image)
    return image


@eras
def test_a_guest_opens_with_its_era(era: str, bits: int) -> None:
    kernel = pvops.open(_guest(Paravirt(era, bits=bits)).elf())
    assert kernel.era == era
    assert kernel.ops.era is not None
    assert kernel.ops.era.name == era


@eras
def test_its_ops_have_their_names_and_slots(era: str, bits: int) -> None:
    pv = Paravirt(era, bits=bits)
    built = _guest(pv).build()
    kernel = pvops.open(built.elf)
    assert kernel.ops.names == [op.name for op in pv.template]
    symbols: dict[Name, int] = dict(built.symbols.items())
    for n, op in enumerate(pv.template):
        value = pv.pointer(op)
        assert kernel.ops.slot(n) == value.resolve(symbols), op
    held = {name: held.symbol for name, held in kernel.ops.native.items() if held.address}
    for name, function_ in pv.natives():
        if function_ is not None and name in pv.template:
            assert built.symbols[function_] == kernel.ops.native[name].address, (name, held[name])


@eras
def test_its_sites_are_read_back(era: str, bits: int) -> None:
    pv = Paravirt(era, bits=bits)
    kernel = pvops.open(_guest(pv).elf())
    called = [site.op for site in kernel.sites]
    irq = ["pv_irq_ops.irq_disable", "pv_irq_ops.irq_enable"] if era != "6.1" else []
    assert called == [*irq, "pv_mmu_ops.read_cr2", "pv_mmu_ops.exit_mmap", "pv_cpu_ops.write_cr0"]


@eras
def test_it_patches_itself_on_bare_hardware(era: str, bits: int) -> None:
    kinds = {write.op: write.kind for write in pvops.open(_guest(Paravirt(era, bits=bits)).elf()).plan("native")}
    inlined = "called" if era == "6.1" else "inlined"
    assert kinds["pv_mmu_ops.read_cr2"] == inlined
    assert kinds["pv_mmu_ops.exit_mmap"] == "nopped"
    assert kinds["pv_cpu_ops.write_cr0"] == "called"
    assert kinds.get("pv_irq_ops.irq_enable", inlined) == inlined


@pytest.mark.parametrize(("era", "bits"), [("2.6.24-rc1", 32), ("2.6.33", 64)], ids=str)
def test_every_command_opens_it(era: str, bits: int, tmp_path: Path) -> None:
    guest, patched = tmp_path / "guest", tmp_path / "patched"
    guest.write_bytes(_guest(Paravirt(era, bits=bits)).elf())
    said = document("ops", guest)
    assert (said["era"], said["named_by"].split(",")[0]) == (era, f"era {era}")
    assert b"pv_irq_ops.irq_disable" in command("explain", guest, "startup").stdout
    assert command("patch", guest, "-o", patched).returncode == 0
    before, after = pvops.open(guest), pvops.open(patched)
    site = before.sites[0]
    assert site.bytes != after.image.read(site.address, len(site.bytes))
    assert after.image.read(site.address, 1) == b"\xfa"


def test_the_seed_without_its_own_structure_is_told_by_its_release() -> None:
    config = ops.era("seed").default_config(32, PARAVIRT_MISC=False)
    kernel = pvops.open(_guest(Paravirt("seed", config)).elf())
    assert kernel.rules.reason == "release 2.6.23-pvops-guest, but the image has pv_init_ops"
    assert kernel.ops.era is not None
    assert (kernel.era, kernel.ops.era.name, len(kernel.ops)) == (
        "2.6.24-rc1",
        "2.6.24-rc1",
        len(Paravirt("seed", config).template),
    )


class _Symbols:
    """An image of which only symbols are known."""

    def __init__(self, *symbols: str) -> None:
        self.symbols = symbols

    def address_of(self, symbol: str) -> int | None:
        return 1 if symbol in self.symbols else None

    def has_section(self, name: str) -> bool:
        return name == ".parainstructions"

    def has_constant(self, raw: bytes) -> bool:
        return False

    def has_code(self, raw: bytes, function: str) -> bool:
        return False

    def replaces_by_call(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("release", "symbols", "era"),
    [
        (None, ("pv_init_ops", "pv_misc_ops", "native_patch"), "seed"),
        (None, ("pv_init_ops", "pv_lock_ops", "native_patch"), "2.6.38"),
        (None, ("pv_init_ops", "pv_lock_ops", "native_patch", "arch_init_ideal_nops"), "3.0"),
        (
            None,
            ("pv_init_ops", "pv_lock_ops", "native_patch", "native_steal_clock", "native_queued_spin_lock_slowpath"),
            "4.19",
        ),
        (None, ("pv_init_ops", "native_patch"), "2.6.26"),
        ("2.6.23-rc9", ("pv_init_ops", "native_patch"), "seed"),
        ("2.6.24.7", ("pv_init_ops", "native_patch"), "2.6.24"),
        ("2.6.32-5-amd64", ("pv_init_ops", "native_patch"), "2.6.33"),
        ("3.10.0-1160.el7", ("pv_init_ops", "native_patch", "native_queued_spin_lock_slowpath"), "3.10-el7"),
        ("4.9.0", ("pv_init_ops", "pv_lock_ops", "native_patch"), "4.9"),
        ("5.4.286", ("pv_ops", "native_patch"), "5.4"),
        ("5.10.0", ("pv_ops", "native_patch"), "5.10"),
        ("5.10.0", ("pv_ops", "native_patch", "native_usergs_sysret64"), "5.10.0"),
        ("6.1.0", ("pv_ops", "paravirt_patch"), "6.1"),
    ],
)
def test_what_tells_the_era(release: str | None, symbols: tuple[str, ...], era: str) -> None:
    assert recognise.era_of(_Symbols(*symbols), release)[0].name == ops.era(era).name


def test_structures_hold_what_they_are_given() -> None:
    pv = Paravirt("seed")
    irq = next(s for s in pv.era.native(pv.config) if type(s).__name__ == "pv_irq_ops")
    image = Image(32)
    image.text(label("mine"), ret(), pv.native_functions())
    image.data(pv.structures(irq.replace(halt="mine", safe_halt=None)))
    built = image.build()
    slot = built.symbols["pv_irq_ops"] - built.sections[".data"][0] + 4 * 5
    assert built.sections[".data"][1][slot : slot + 8] == bytes(4) + built.symbols["mine"].to_bytes(4, "little")


def test_the_seed_has_no_p6_nops() -> None:
    assert pvops.open(_guest(Paravirt("seed")).elf()).plan("native").nops.table == "generic"


@pytest.mark.parametrize("symbol", ["X86_PAE", "HIGHPTE"])
def test_the_table_tells_the_configuration(symbol: str) -> None:
    config = ops.era("2.6.24").default_config(32, **{symbol: True})
    kernel = pvops.open(_guest(Paravirt("2.6.24", config)).elf())
    assert kernel.ops.config == config


def test_structures_may_lie_anywhere() -> None:
    pv = Paravirt("seed")
    image = Image(32)
    image.text(function("startup", pv.PVOP_CALL("pv_irq_ops.safe_halt"), pv.PVOP_CALL("pv_mmu_ops.read_cr3"), ret()))
    image.text(pv.native_functions())
    image.rodata(pv.banner(), pv.pv_info())
    image.data(_scattered(pv))
    kernel = pvops.open(image.elf())
    assert [site.op for site in kernel.sites] == ["pv_irq_ops.safe_halt", "pv_mmu_ops.read_cr3"]
    assert {write.kind for write in kernel.plan("native")} == {"called", "inlined"}


def _scattered(pv: Paravirt) -> list[Body]:
    """The structures in another order than the template's, with something between."""
    native = {type(s).__name__: s for s in pv.era.native(pv.config)}
    body: list[Body] = []
    for struct in reversed(pv.template.structs):
        body.append(label(struct.__name__))
        for op in pv.template:
            if op.struct == struct.__name__:
                body.append(pv.pointer_to(native[op.struct][op.field]))
        body.append(asciz("between"))
    return body


# Classes of ops


def test_a_class_configured_out_is_the_plain_instructions() -> None:
    config = ops.era("seed").default_config(32, PARAVIRT_IRQ=False, PARAVIRT_CPU=False)
    pv = Paravirt("seed", config)
    image = Image(32)
    image.text(
        pv.DISABLE_INTERRUPTS(pv.CLBR_ANY),
        pv.ENABLE_INTERRUPTS(pv.CLBR_NONE),
        pv.raw_local_save_flags(),
        pv.raw_local_irq_restore(),
        pv.GET_CR0_INTO_EAX(),
        pv.PVOP_VCALL("pv_cpu_ops.clts"),
        pv.ENABLE_INTERRUPTS_SYSEXIT(),
        pv.INTERRUPT_RETURN(),
    )
    built = image.build()
    assert built.sections[".text"][1].hex(" ") == "fa fb 9c 58 50 9d 0f 20 c0 0f 06 fb 0f 35 cf"
    assert ".parainstructions" not in built.sections


def test_an_op_of_such_a_class_that_is_more_than_that_is_called_directly() -> None:
    config = ops.era("seed").default_config(32, PARAVIRT_MMU=False)
    pv = Paravirt("seed", config)
    image = Image(32)
    image.text(label("f"), pv.PVOP_VCALL("pv_mmu_ops.flush_tlb_others"), pv.PVOP_VCALL("pv_mmu_ops.dup_mmap"))
    image.text(label("native_flush_tlb_others"), ret())
    assert image.build().sections[".text"][1].hex(" ") == "e8 00 00 00 00 c3"


def test_a_class_left_in_costs_no_more_than_its_site_unused() -> None:
    write = next(w for w in pvops.open(_guest(Paravirt("2.6.33", bits=32)).elf()).plan() if w.kind == "nopped")
    assert (write.op, len(write.bytes), write.used) == ("pv_mmu_ops.exit_mmap", 6, 0)


@pytest.mark.parametrize("era", [("2.6.24-rc1", 32), ("2.6.33", 64)], ids=str)
def test_sites_can_be_made_longer(era: tuple[str, int]) -> None:
    pv = Paravirt(era[0], bits=era[1], length=32)
    kernel = pvops.open(_guest(pv).elf())
    assert {site.rows[0].len for site in kernel.sites} == {32}
    assert all(len(write.bytes) == 32 for write in kernel.plan("native"))


def test_the_native_instructions_are_those_that_native_patch_inlines() -> None:
    compared = 0
    for name, bits in (("seed", 32), ("2.6.33", 32), ("2.6.33", 64)):
        era = ops.era(name)
        config = era.default_config(bits)
        patch = era.patch_function(config)
        assert patch is not None
        for op, inline in patch.switch.items():
            instructions = native(op, config)
            assert instructions is not None, op
            image = Image(bits)
            image.text(instructions)
            compared += 1
            if op == "pv_cpu_ops.read_tsc" and bits == 64:
                continue
            assert image.build().sections[".text"][1] == inline.code, (name, bits, op)  # type: ignore[union-attr]
    assert compared == 37


# Arguments, mistakes


def test_arguments_go_where_c_has_them() -> None:
    pv = Paravirt("2.6.24")
    image = Image(32)
    image.text(pv.PVOP_VCALL("pv_mmu_ops.set_pte_at", 1, edx, ecx, mem("pte")))
    image.section(".pv_mmu_ops", address=0xC040_0000)(label("pv_mmu_ops"), u32(*[0] * 40))
    image.data(label("pte"), u32(0))
    code = image.build().sections[".text"][1]
    assert code.hex(" ").startswith("b8 01 00 00 00 ff 35 ")
    assert code.hex(" ").endswith("8d 64 24 04")


def test_mistakes_in_a_call_are_said() -> None:
    pv = Paravirt("seed")
    with pytest.raises(AssemblyError, match="argument 2 is in %eax, which an earlier one takes"):
        pv.PVOP_CALL("pv_mmu_ops.set_pte", 1, eax)
    with pytest.raises(AssemblyError, match="more than four words"):
        pv.PVOP_CALL("pv_mmu_ops.set_pte_at", 1, 2, 3, 4, 5)
    with pytest.raises(OpsError, match=r"no op pv_irq_ops.irq_enabel .*did you mean pv_irq_ops.irq_enable"):
        pv.PVOP_CALL("pv_irq_ops.irq_enabel")
    with pytest.raises(AssemblyError, match=r"2.6.24-rc1 has no callee-save ops"):
        pv.PVOP_CALLEE("pv_irq_ops.save_fl")
    with pytest.raises(AssemblyError, match=r"no structure pv_lock_ops"):
        pv.PARA_PATCH("pv_lock_ops", 0)
    with pytest.raises(AssemblyError, match="at most 254"):
        Paravirt("seed", length=255)
    with pytest.raises(AssemblyError, match=r"era 6\.12 has no PARA_SITE"):
        Paravirt("6.12")
    with pytest.raises(AssemblyError, match="GET_CR0_INTO_EAX is i386 only"):
        Paravirt("2.6.33", bits=64).GET_CR0_INTO_EAX()
    with pytest.raises(AssemblyError, match="argument 2 is in %rdi"):
        Paravirt("2.6.33", bits=64).PVOP_CALL("pv_mmu_ops.set_pte", 0, rdi)


def test_para_patch_is_the_number_of_the_op() -> None:
    for era, bits in ERAS[:4]:
        pv = Paravirt(era, bits=bits)
        number = pv.PARA_PATCH("pv_irq_ops", pv.offsets["PV_IRQ_irq_disable"])
        assert number == pv.template.PARAVIRT_PATCH("pv_irq_ops.irq_disable")


# Alternatives on the same guest


def _with_alternatives(era: str, bits: int) -> Image:
    pv, alternatives = Paravirt(era, bits=bits), Alternatives(era, bits)
    old = (nop(), nop(), nop()) if era.startswith("2.6") else nop()
    image = _guest(pv)
    image.text(
        function(
            "features", alternatives.ALTERNATIVE(old, cpuid(), K8), alternatives.LOCK_PREFIX(incl(mem("n"))), ret()
        )
    )
    image.data(label("n"), u32(0))
    return image


@needs_binutils
@eras
def test_alternatives_are_what_gnu_as_makes_of_them(era: str, bits: int, tmp_path: Path) -> None:
    assert_same(_with_alternatives(era, bits), tmp_path)


@eras
def test_alternatives_stand_beside_the_sites(era: str, bits: int) -> None:
    kernel = pvops.open(_with_alternatives(era, bits).elf())
    features = kernel.address_of("features")
    assert features is not None
    length = 3 if bits == 32 or era == "2.6.33" else 2
    table = kernel.sites.of_table("alternatives")
    assert [(site.address, site.rows[0].feature, site.rows[0].len) for site in table] == [(features, K8, length)]
    assert [site.address for site in kernel.sites.of_table("smp_locks")] == [features + length]
    assert {write.table for write in kernel.plan("native")} == {"paravirt", "alternatives", "smp_locks"}


def test_a_longer_replacement_is_refused_where_nothing_fills() -> None:
    with pytest.raises(AssemblyError, match="longer than what it replaces: 2 bytes"):
        Alternatives("2.6.24", 32).ALTERNATIVE(nop(), cpuid(), K8)
    with pytest.raises(AssemblyError, match=r"2\.6\.24 cannot ask for the absence"):
        Alternatives("2.6.24", 32).ALTERNATIVE(cpuid(), nop(), K8, inverted=True)
