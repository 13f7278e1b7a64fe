"""``pvops ops``."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.run import document, pvops, trouble
from pvops import eras as ops


@pytest.mark.parametrize("era", ops.eras())
def test_every_era_is_a_table_numbered_in_order(era: str) -> None:
    found = document("ops", "--era", era)
    assert found["schema"] == "pvops.ops/1"
    arrays = {op["array"] for op in found["ops"]}
    for array in arrays:
        assert [op["type"] for op in found["ops"] if op["array"] == array] == list(
            range(sum(op["array"] == array for op in found["ops"]))
        )
    assert pvops("ops", "--era", era).returncode == 0


def test_a_configuration_shifts_the_numbers_behind_it() -> None:
    def numbers(*config: str) -> dict[str, int]:
        found = document("ops", "--era", "seed", *(f"--config={c}" for c in config))
        return {op["op"]: op["type"] for op in found["ops"]}

    without, with_pae = numbers(), numbers("X86_PAE=y")
    assert "pv_mmu_ops.set_pud" not in without
    assert with_pae["pv_mmu_ops.set_pmd"] == without["pv_mmu_ops.set_pmd"]
    assert with_pae["pv_mmu_ops.pte_val"] > without["pv_mmu_ops.pte_val"]
    assert set(numbers("X86_LOCAL_APIC=n")) == {op for op in without if not op.startswith("pv_apic_ops")}


def test_a_config_file_is_read(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("CONFIG_X86_PAE=y\n# CONFIG_X86_LOCAL_APIC is not set\nCONFIG_SMP=y\n")
    found = document("ops", "--era", "2.6.24", "--config", config)
    names = {op["op"] for op in found["ops"]}
    assert "pv_mmu_ops.set_pud" in names
    assert not any(name.startswith("pv_apic_ops") for name in names)


def test_2_6_23_shows_the_single_structure_and_its_aliases() -> None:
    text = pvops("ops", "--era", "2.6.23").stdout.decode()
    assert "pv_irq_ops = paravirt_ops+164" in text


def test_asm_offsets_of_the_seed() -> None:
    offsets = document("ops", "--era", "seed", "--asm-offsets")["offsets"]
    assert offsets["PARAVIRT_PATCH_pv_cpu_ops"] == 44
    assert offsets["PARAVIRT_PATCH_pv_irq_ops"] == 164
    assert list(offsets) == [
        "PARAVIRT_enabled",
        "PARAVIRT_PATCH_pv_cpu_ops",
        "PARAVIRT_PATCH_pv_irq_ops",
        "PV_IRQ_irq_disable",
        "PV_IRQ_irq_enable",
        "PV_CPU_iret",
        "PV_CPU_irq_enable_sysexit",
        "PV_CPU_read_cr0",
    ]


@pytest.mark.parametrize("backend", ["lguest", "vmi", "xen"])
def test_historical_backends_are_shown_beside_native(backend: str) -> None:
    config = ["--config", "X86_PAE=n"] if backend == "lguest" else []
    found = document("ops", "--era", "2.6.24", "--backend", backend, *config)
    assert found["backends"] == ["native", backend]
    assert any(op["backends"][backend] != op["backends"]["native"] for op in found["ops"])


def test_ops_of_an_image_with_what_a_backend_puts_there(sample_kernel: Path) -> None:
    found = document("ops", sample_kernel, "--backend", "kvm")
    held = {op["op"]: op["backends"] for op in found["ops"]}
    assert held["pv_cpu_ops.io_delay"] == {"native": "native_io_delay", "kvm": "kvm_io_delay"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a KERNEL, or an era's headers with --era"),
        (["--era", "2.4"], "no era 2.4"),
        (["--era", "seed", "--config", "X86_PEA=y"], "did you mean X86_PAE?"),
        (["--era", "seed", "--config", "X86_PAE=maybe"], "=y"),
        (["--era", "seed", "--backend", "kvm"], "no backend kvm is declared for 2.6.24-rc1"),
        (["--era", "6.1", "--backend", "kvm"], "is read from a kernel"),
    ],
)
def test_what_makes_no_sense_is_trouble(arguments: list[str], said: str) -> None:
    assert said in trouble("ops", *arguments)
