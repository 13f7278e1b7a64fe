"""A folder of kernels and boots: what each came to, and what is wrong with a boot is said."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import lzma
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cli.run import document, pvops, trouble
from image import small
from pvops import corpus
from pvops.corpus.options import options
from pvops.corpus.results import COLUMNS, NO_PASS
from pvops.errors import InputError
from pvops.kernel import Kernel
from pvops.kernel import open as opened
from pvops.machine.machine import Machine

FACTS = """==FILE /proc/cmdline
quiet
==FILE /proc/cpuinfo
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
flags\t\t: fpu pge sse2 nopl smap
bugs\t\t: spectre_v1 spectre_v2
==FILE /sys/devices/system/cpu/online
0-1
"""


#: Code, and sites that ask for SMAP, which the machine has: where they are in it, as built and as patched.
SITES, BUILT, PATCHED = (0x40, 0x80), bytes.fromhex("909090"), bytes.fromhex("0f01ca")


def made() -> bytes:
    """A kernel's file."""
    text = bytearray(bytes(range(1, 251)) * 8)
    for at in SITES:
        text[at : at + 3] = BUILT
    return small.image(bytes(text), [small.Alternative(at, 3, 9 * 32 + 20, PATCHED) for at in SITES])


def folder(place: Path, boots: Sequence[str] = ("native-two",)) -> Path:
    """A folder with a kernel, and boots of it that hold what is predicted."""
    (place / "boots").mkdir(parents=True)
    path = place / "vmlinuz-made"
    path.write_bytes(made())
    for mode in boots:
        base = place / "boots" / f"made~{mode}"
        base.with_suffix(".facts").write_text(FACTS)
        kernel = opened(path)
        text = bytes(kernel.plan("native", machine=Machine.load(base.with_suffix(".facts"))).apply())
        write(base, kernel.image.read(address(path), len(text)) or b"", text, address(path))
    return place


def address(path: Path) -> int:
    return next(low for name, low, _, _ in opened(path).image.sections() if name == ".text")


def write(base: Path, built: bytes, text: bytes, low: int) -> None:
    """A boot's ``.json`` and ``.runs.xz``."""
    runs = b"".join(
        struct.pack("<QI", low + at, 1) + text[at : at + 1] for at in range(len(text)) if built[at] != text[at]
    )
    base.with_suffix(".runs.xz").write_bytes(lzma.compress(runs))
    base.with_suffix(".json").write_text(json.dumps({"text_sha256": hashlib.sha256(text).hexdigest()}))


def unified(elf: bytes) -> bytes:
    """A unified kernel image: a PE file whose section ``.linux`` is a bzImage with this packed in it."""
    payload, head = gzip.compress(elf), 0x400
    setup = bytearray(0x400)
    setup[0x1F1], setup[0x1FE:0x200], setup[0x202:0x206] = 1, b"\x55\xaa", b"HdrS"
    struct.pack_into("<H", setup, 0x206, 0x20F)
    struct.pack_into("<II", setup, 0x248, 0, len(payload))
    kernel = bytes(setup) + payload
    pe = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 0, 0)
    section = struct.pack("<8sIIII", b".linux", len(kernel), 0x1000, len(kernel), head).ljust(40, b"\0")
    stub = (b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + pe + section).ljust(head, b"\0")
    return stub + kernel


def test_a_unified_kernel_image_is_a_kernel_of_the_folder(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "vmlinuz-made").rename(place / "vmlinux")
    (place / "made.efi").write_bytes(unified((place / "vmlinux").read_bytes()))
    (place / "vmlinux").unlink()
    (place / "grub.efi").write_bytes(b"MZ" + bytes(4096))
    (kernel,) = corpus.folder(place).kernels
    assert (kernel.name, [boot.name for boot in kernel.boots]) == ("made", ["made~native-two"])
    assert opened(kernel.path).image.container == "gzip"
    assert corpus.judge(kernel).boots[0].exact


def changed(place: Path, at: int) -> None:
    """Changes a byte of the boot at an offset into ``.text``."""
    path, base = place / "vmlinuz-made", place / "boots" / "made~native-two"
    low, kernel = address(path), opened(path)
    text = bytearray(kernel.plan("native", machine=Machine.load(base.with_suffix(".facts"))).apply())
    text[at] ^= 0x55
    write(base, kernel.image.read(low, len(text)) or b"", bytes(text), low)


def test_a_boot_as_predicted_is_exact(tmp_path: Path) -> None:
    (kernel,) = document("corpus", folder(tmp_path))["kernels"]
    assert (kernel["outcome"], kernel["bits"], kernel["refused"]) == ("exact", 64, None)
    assert kernel["sites"] == {"alternatives": len(SITES)}
    (boot,) = kernel["boots"]
    size = len(opened(tmp_path / "vmlinuz-made").plan("native").apply())
    assert (boot["name"], boot["compared"], boot["wrong"], boot["unexplained"]) == ("made~native-two", size, {}, 0)
    assert (boot["backend"], boot["hypervisor"], boot["inferred"]) == ("native", "none", "native")


def test_a_kernel_for_more_cpus_says_so_where_no_section_shows_it() -> None:
    """7.3 has no .smp_locks."""

    class Ops(tuple[str, ...]):
        names = ()

    def shown(banner: str) -> tuple[str, ...]:
        image = SimpleNamespace(sections=list, symbol_count=int, banner=banner)
        sites = SimpleNamespace(counts=lambda: SimpleNamespace(rows={}))
        return options(cast(Kernel, SimpleNamespace(image=image, sites=sites, ops=Ops())))

    assert shown("Linux version 7.3.4 (gcc) #1 SMP PREEMPT_DYNAMIC") == ("SMP",)
    assert shown("Linux version 7.3.4 (SMPs) (gcc) #1 PREEMPT") == ()


def test_a_boot_that_slid_is_compared_where_it_lies(kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    """i386's kernels up to 3.10 run where their loader put them: below where they were linked, too."""
    path = Path(kernel("6.1.0-50-686-pae").name)
    (tmp_path / "boots").mkdir()
    (tmp_path / path.name).symlink_to(path.absolute())
    base = tmp_path / "boots" / f"{path.name.removeprefix('vmlinuz-')}~native-down"
    facts, text = Path(f"{base}.facts"), Path(f"{base}.text")
    facts.write_text(FACTS)
    slide = f"{(1 << 64) - 0xF00000:x}"
    done = pvops("patch", path, "--machine", facts, "--slide", slide, "--format", "text", "-o", text)
    assert done.returncode == 0, done.stderr
    Path(f"{base}.json").write_text("{}")
    (found,) = document("corpus", tmp_path)["kernels"]
    (boot,) = found["boots"]
    assert (boot["wrong"], boot["unexplained"], boot["unexplained_told"]) == ({}, 0, 0)
    assert boot["compared"] == text.stat().st_size


def test_a_wrong_byte_is_counted_for_the_pass_that_writes_it(tmp_path: Path) -> None:
    place = folder(tmp_path)
    changed(place, SITES[1] + 1)
    done = pvops("corpus", place, "--json", "--jobs", "1")
    (boot,) = json.loads(done.stdout)["kernels"][0]["boots"]
    assert done.returncode == 1
    assert boot["wrong"] == {"alternatives": 1}
    assert boot["unexplained"] == 1
    (found,) = corpus.judge_all(corpus.folder(place), jobs=1)
    assert found.outcome == "wrong"


def test_a_wrong_byte_that_no_pass_writes_is_counted_as_such(tmp_path: Path) -> None:
    place = folder(tmp_path)
    changed(place, 0x100)
    (found,) = corpus.judge_all(corpus.folder(place), jobs=1)
    assert [boot.wrong for boot in found.boots] == [{NO_PASS: 1}]


def test_text_beside_a_boot_needs_no_runs(tmp_path: Path) -> None:
    place = folder(tmp_path)
    base = place / "boots" / "made~native-two"
    kernel = opened(place / "vmlinuz-made")
    text = kernel.plan("native", machine=Machine.load(base.with_suffix(".facts"))).apply()
    base.with_suffix(".runs.xz").unlink()
    base.with_suffix(".text").write_bytes(bytes(text))
    assert document("corpus", place)["kernels"][0]["outcome"] == "exact"


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_rows_are_boots_and_kernels_without_any(tmp_path: Path, format_: str) -> None:
    place = folder(tmp_path, ("native-two", "native-again"))
    changed(place, SITES[1] + 1)
    (place / "vmlinuz-9.10").write_bytes(made())
    (place / "vmlinuz-9.9").write_bytes(made()[:1000])
    done = pvops("corpus", place, f"--{format_}", "--jobs", "1")
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    rows = list(csv.DictReader(lines)) if format_ == "csv" else [json.loads(line) for line in lines]
    assert all(tuple(row) == COLUMNS for row in rows)
    told = [(row["file"], row["boot"] or "", row["outcome"], str(row["wrong"] or 0)) for row in rows]
    assert told == [
        ("vmlinuz-9.10", "", "opened", "0"),
        ("vmlinuz-9.9", "", "refused", "0"),
        ("vmlinuz-made", "made~native-again", "wrong", "0"),
        ("vmlinuz-made", "made~native-two", "wrong", "1"),
    ]
    assert [bool(row["refused"]) for row in rows] == [False, True, False, False]
    assert {str(row["sites"]) for row in rows} == {"0", str(len(SITES))}


def test_a_boot_without_facts_is_explained_alone(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (place / "boots" / "made~native-two.facts").unlink()
    (boot,) = document("corpus", place)["kernels"][0]["boots"]
    assert (boot["compared"], boot["backend"], boot["unexplained"], boot["unexplained_told"]) == (0, None, 0, None)


def test_kernels_come_newest_first_and_a_refused_one_says_why(tmp_path: Path) -> None:
    place = folder(tmp_path / "in")
    whole = (place / "vmlinuz-made").read_bytes()
    (place / "vmlinuz-9.10").write_bytes(whole)
    (place / "vmlinuz-9.9").write_bytes(whole[: len(whole) // 2])
    (place / "README").write_text("no kernel")
    (place / "boots" / "other~kvm.json").write_text("{}")
    done = pvops("corpus", place, "--jobs", "2")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert [line.partition(":")[0].split(" (")[0] for line in lines if not line.startswith(" ")][1] == "vmlinuz-9.9"
    assert "refused: " in lines[1]
    assert "3 kernels: 1 exact, 1 opened, 1 refused; 1 boots" in lines[-1]
    assert "boots of kernels that are not here: 1, left out (other~kvm)" in done.stderr.decode()
    files = [kernel.name for kernel in corpus.folder(place).kernels]
    assert files == ["9.10", "9.9", "made"]


def test_boots_of_another_folder(tmp_path: Path) -> None:
    place = folder(tmp_path / "boots of it")
    alone = tmp_path / "kernels"
    alone.mkdir()
    (place / "vmlinuz-made").rename(alone / "vmlinuz-made")
    assert document("corpus", alone)["kernels"][0]["outcome"] == "opened"
    assert document("corpus", alone, "--boots", place)["kernels"][0]["outcome"] == "exact"


@pytest.mark.parametrize(
    ("suffix", "held", "why"),
    [
        (".runs.xz", b"no xz", "is no xz"),
        (".runs.xz", lzma.compress(b"\x01" * 40)[:-9], "is cut"),
        (".runs.xz", lzma.compress(b"\x01" * 5), "offset 0x0 of what it unpacks to: the last run is cut"),
        (".runs.xz", lzma.compress(struct.pack("<QI", 1, 1) + b"x"), "lies outside .text"),
        (".runs.xz", lzma.compress(struct.pack("<QI", small.TEXT, 1 << 31)), "is cut, or lies outside .text"),
        (".runs.xz", lzma.compress(b""), "of another build of this kernel"),
        (".runs.xz", None, "neither .runs.xz nor .text"),
        (".text", b"short", "has 5 bytes, and .text has "),
        (".json", b"[]", "is no JSON object"),
        (".json", b"{", "is no JSON"),
        (".facts", b"==FILE /proc/cpuinfo\n", ""),
    ],
)
def test_a_broken_boot_is_refused_and_the_rest_goes_on(
    suffix: str, held: bytes | None, why: str, tmp_path: Path
) -> None:
    place = folder(tmp_path, ["native-two", "other"])
    broken = place / "boots" / f"made~native-two{suffix}"
    if held is None:
        broken.unlink()
    else:
        broken.write_bytes(held)
    (kernel,) = corpus.judge_all(corpus.folder(place), jobs=1)
    first, second = kernel.boots
    assert kernel.outcome == "wrong"
    assert first.refused
    assert why in first.refused
    assert second.exact


def test_what_is_no_corpus_is_one_line(tmp_path: Path) -> None:
    assert "no kernel in this folder" in trouble("corpus", tmp_path)
    assert "No such file" in trouble("corpus", tmp_path / "missing")
    assert "at least one process" in trouble("corpus", folder(tmp_path / "in"), "--jobs", "0")
    with pytest.raises(InputError):
        corpus.folder(tmp_path / "missing")
