"""Kernel modules: sites, explanations and patched images of a ``.ko``, compressed or not.

The module is assembled here, with the tables that objtool and the kernel's macros lay down, and their relocations.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

import pvops
from cli.run import document, trouble
from cli.run import pvops as command

_SOURCE = """
    .section .modinfo,"a"
    .asciz "license=GPL"
    .asciz "vermagic=@RELEASE@ SMP preempt mod_unload modversions "
    .text
    .globl probe
probe:
1:  call __fentry__
2:  call *pv_ops+32*8(%rip)     # pv_irq_ops.irq_enable of 6.1
3:  call *pv_ops(%rip)          # pv_cpu_ops.io_delay
    call __x86_indirect_thunk_rax
4:  jmp __x86_return_thunk
    .section .parainstructions,"a"
    .balign 8
    .quad 2b
    .byte 32, 6, 1, 0, 0, 0, 0, 0
    .quad 3b
    .byte 0, 6, 1, 0, 0, 0, 0, 0
    .section .altinstr_replacement,"ax"
5:  sti
    .section .altinstructions,"a"
    .long 2b - ., 5b - .
    .word 0x8000 | 8 * 32 + 16  # !X86_FEATURE_XENPV
    .byte 6, 1
    .section .return_sites,"a"
    .long 4b - .
    .section __mcount_loc,"a"
    .quad 1b
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: `apt install gcc`")
    folder = tmp_path_factory.mktemp("module")
    source, built = folder / "probe.s", folder / "probe.ko"
    source.write_text(_SOURCE.replace("@RELEASE@", "6.1.0-test"))
    done = subprocess.run([compiler, "-c", "-o", built, source], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no assembler for x86-64: {done.stderr.splitlines()[-1:]}")
    return built


def test_sites_of_a_module(module: Path) -> None:
    kernel = pvops.open(module)
    assert kernel.image.is_module
    assert kernel.release == "6.1.0-test"
    text = next(address for name, address, *_ in kernel.image.sections() if name == ".text")
    told = document("sites", module)
    sites = {int(site["address"], 16) - text: {row["table"] for row in site["rows"]} for site in told["sites"]}
    assert sites == {0: {"mcount"}, 5: {"paravirt", "alternatives"}, 11: {"paravirt"}, 22: {"returns"}}
    ops = [row["op"] for site in told["sites"] for row in site["rows"] if row["table"] == "paravirt"]
    assert ops == ["pv_irq_ops.irq_enable", "pv_cpu_ops.io_delay"]


def test_what_a_module_becomes(module: Path) -> None:
    kernel = pvops.open(module)
    text = kernel.address_of("probe")
    assert text is not None

    def runs(backend: str, offset: int) -> bytes:
        return next(write.bytes for write in reversed(kernel.plan(backend).at(text + offset)) if write.bytes)

    def call(symbol: str, offset: int) -> bytes:
        target = kernel.address_of(symbol)
        assert target is not None
        return b"\xe8" + (target - (text + offset + 5)).to_bytes(4, "little", signed=True) + b"\x90"

    assert runs("native", 0) == bytes.fromhex("0f1f440000")
    assert runs("native", 5) == bytes.fromhex("fb0f1f440000"), "the alternative: sti"
    assert runs("native", 11) == call("native_io_delay", 11)
    assert runs("kvm", 11) == call("kvm_io_delay", 11)
    assert runs("xen", 5) == call("xen_irq_enable_direct", 5)


def test_explanations_name_what_is_the_kernels(module: Path) -> None:
    done = command("explain", module, "probe", "--backend", "xen")
    assert done.returncode == 0, done.stderr.decode()
    shown = done.stdout.decode()
    for expected in ("call __fentry__", "call *pv_ops+0x100", "call xen_irq_enable_direct", "jmp __x86_return_thunk"):
        assert expected in shown


def test_patched_as_text_and_as_elf(module: Path, tmp_path: Path) -> None:
    text, elf = tmp_path / "text", tmp_path / "elf"
    for out, form in ((text, "text"), (elf, "elf")):
        done = command("patch", module, "--backend", "native", "--format", form, "-o", out)
        assert done.returncode == 0, done.stderr.decode()
    assert text.read_bytes()[5:11] == bytes.fromhex("fb0f1f440000")
    patched = pvops.open(elf)
    address = patched.address_of("probe")
    assert address is not None
    assert patched.image.read(address, 11) == text.read_bytes()[:11]


def test_a_compressed_module_is_the_same(module: Path, tmp_path: Path) -> None:
    packed = tmp_path / "probe.ko.xz"
    packed.write_bytes(lzma.compress(module.read_bytes(), check=lzma.CHECK_CRC32))
    assert len(pvops.open(packed).sites) == len(pvops.open(module).sites) == 4
    assert pvops.open(packed.read_bytes()).release == "6.1.0-test"


def test_a_broken_module_is_one_line_of_trouble(module: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.ko"
    data = module.read_bytes()
    broken.write_bytes(data[: len(data) // 2])
    assert str(broken) in trouble("sites", broken)
