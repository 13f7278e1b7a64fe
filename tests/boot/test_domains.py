"""Guests that Xen's tools start: what the first guest is made of, and the text that a guest's init copied."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from boot.domains import Domains, collected, configuration
from boot.initramfs import built_init, compiler
from boot.modes import MORE, Mode

_MODE = Mode("xenpvh-real-max-smp2", "max", 2, "nopvspin", "xen-domain", domain="pvh")
_DATA = 4064


def _page(number: int, data: bytes) -> bytes:
    """As ``copied.h`` fills one."""
    data = data.ljust(_DATA, b"\0")
    mark = 0x746E65757370766F
    total = sum(struct.unpack(f"<{_DATA // 8}Q", data)) % (1 << 64)
    return struct.pack("<QQQQ", mark, mark ^ ((1 << 64) - 1), number, total) + data


def test_the_guest_is_the_modes() -> None:
    lines = dict(line.split(" = ", 1) for line in configuration(_MODE, "copy=1,2").splitlines())
    assert (lines["type"], lines["vcpus"], lines["tsc_mode"]) == ('"pvh"', "2", '"native"')
    assert lines["cmdline"] == f'"{_MODE.cmdline} -- copy=1,2"'
    assert "console=hvc0" in _MODE.cmdline
    assert "nopvspin" in _MODE.cmdline
    assert "device_model_override" not in lines
    hvm = configuration(replace(_MODE, domain="hvm"), "copy=1,2")
    assert 'device_model_override = "/xen/bin/qemu"' in hvm
    assert 'firmware_override = "/xen/firmware/hvmloader"' in hvm


def test_copied_text_is_found_wherever_its_pages_lie() -> None:
    text = random.Random(7).randbytes(3 * _DATA - 100)
    pages = [_page(i, text[i * _DATA : (i + 1) * _DATA]) for i in range(3)]
    other = bytes(4096)
    memory = b"".join((other, pages[2], other, pages[0], pages[1], other))
    assert collected(memory, len(text)) == text


@pytest.mark.parametrize("damage", ["away", "shifted", "changed"])
def test_a_page_that_is_not_whole_is_none(damage: str) -> None:
    text = random.Random(8).randbytes(2 * _DATA)
    first, second = (_page(i, text[i * _DATA : (i + 1) * _DATA]) for i in range(2))
    found = {
        "away": first + bytes(4096),
        "shifted": first + bytes(8) + second + bytes(4088),
        "changed": first + second[:-1] + bytes([second[-1] ^ 1]),
    }[damage]
    assert collected(first + second, len(text)) == text
    assert collected(found, len(text)) is None


def _unpacked(root: Path, *without: str) -> Path:
    """A folder in which some program of this machine stands for each of Xen's tools."""
    program = shutil.which("true")
    assert program is not None
    names = ["usr/lib/xen/bin/" + name for name in ("xenstored", "xen-init-dom0", "xenconsoled", "xl")]
    names += ["usr/libexec/xen-qemu-system-i386", "usr/lib/xen/boot/hvmloader", "usr/share/seabios/bios-256k.bin"]
    names += [f"usr/share/qemu/{name}" for name in ("linuxboot_dma.bin", "linuxboot.bin", "kvmvapic.bin")]
    for name in names:
        if Path(name).name not in without:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(program, root / name)
    return root


def test_the_first_guest_has_the_tools_and_says_what_is_missing(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"the kernel")
    domains = Domains(kernel, kernel, [b"module"], b"its init", _unpacked(tmp_path / "root"))
    made = domains.archive(kernel, b"the guest's", _MODE, "copy=1,2")
    for name in (b"xen/bin/xl", b"guest.cfg", b"lib64/ld-linux-x86-64.so.2", b"xen/lib/libgcc_s.so.1", b"modules/00"):
        assert made.count(b"0" * 8 + name + b"\0") == 1, name
    assert b"xen/bin/qemu\0" not in made
    hvm = domains.archive(kernel, b"the guest's", replace(_MODE, domain="hvm"), "copy=1,2")
    for name in (b"xen/bin/qemu", b"xen/share/qemu/linuxboot_dma.bin", b"xen/share/qemu/keymaps/en-us"):
        assert hvm.count(b"0" * 8 + name + b"\0") == 1, name
    bare = replace(domains, root=_unpacked(tmp_path / "bare", "xl"))
    with pytest.raises(FileNotFoundError, match="no bin/xl below it"):
        bare.archive(kernel, b"the guest's", _MODE, "copy=1,2")


@pytest.mark.skipif(compiler() is None, reason="no C compiler: `apt install gcc`")
@pytest.mark.parametrize(("source", "bits"), [("init.c", 64), ("init.c", 32), ("toolstack.c", 64)])
def test_the_programs_compile(source: str, bits: int, tmp_path: Path) -> None:
    if (
        bits == 32
        and subprocess.run([str(compiler()), "-m32", "-E", "-x", "c", "/dev/null"], capture_output=True).returncode
    ):
        pytest.skip("this compiler has no 32 bits")
    assert built_init(tmp_path, bits, source).startswith(b"\x7fELF" + bytes([bits // 32]))


def test_modes_of_domains_are_by_hand_alone() -> None:
    modes = [mode for mode in MORE if mode.hypervisor == "xen-domain"]
    assert {(mode.domain, mode.processors) for mode in modes} == {(t, n) for t in ("pv", "pvh", "hvm") for n in (1, 2)}
    assert all(mode.scattered and not mode.under_xen for mode in modes)
