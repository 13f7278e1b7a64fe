"""What a newcomer gets wrong, command by command: one line that says what, and what to do, and status 2."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from cli.run import pvops

#: What is typed (KERNEL is a sample image, TEXT its text, NONE an empty file), and what the one line has to say.
WRONG = [
    ("sites", "missing: KERNEL"),
    ("sites nofile", "nofile: No such file"),
    ("sites .", "is a directory"),
    ("sites NONE", "is empty"),
    ("sites KERNEL --table parvirt", "did you mean paravirt?"),
    ("sites KERNEL --op irq_enable", "did you mean pv_irq_ops.irq_enable?"),
    ("sites KERNEL --jsn", "did you mean --json?"),
    ("sites KERNEL --csv --jsonl", "--jsonl: not allowed with argument --csv"),
    ("sites KERNEL --slide xyz", "invalid hexadecimal number"),
    ("sites KERNEL --slide 0x123", "--slide 0x123 is no slide"),
    ("sites KERNEL --slide 0x40000000", "0x40000000 is no slide: kernels slide by less than a GiB"),
    ("explain KERNEL sample_lock --slide 0x100000000000", "by less than a GiB"),
    ("explain KERNEL sample_lock --slide 0xffffffffbff00000", "by less than a GiB"),
    ("site KERNEL", "did you mean sites?"),
    ("sites ''", "argument 2 is empty"),
    ("sites PROGRAM", "is an ELF file, and no Linux kernel"),
    ("--versoin", "did you mean --version?"),
    ("-v sites KERNEL", "a COMMAND comes first"),
    ("explain KERNEL", "missing: ADDRESS|SYMBOL"),
    ("explain KERNEL sample_lok", "did you mean sample_lock?"),
    ("explain KERNEL 0x1000", "lies outside the image"),
    ("explain KERNEL sample_lock+-3", "'-3' in 'sample_lock+-3' is no offset"),
    ("explain KERNEL sample_lock+1_0", "is no offset"),
    ("explain KERNEL sample_lock+1f", "is no offset"),
    ("explain KERNEL sample_lock+0x1/0x999", "that oops is of another kernel"),
    ("explain KERNEL sample_loc --machine kvm:intel-haswell", "--backend kvm --machine intel-haswell"),
    ("explain KERNEL sampl", "begin so)"),
    ("explain KERNEL ' '", "' ' names no place"),
    ("explain KERNEL +0x4", "names no place"),
    ("explain KERNEL 'RIP: 0010:sample_lok+0x4/0x10'", "did you mean sample_lock?"),
    ("explain KERNEL 'ext4_sync+0x4/0x10 [ext4]'", "is in the module ext4"),
    ("explain KERNEL sample_lock --html KERNEL", "is read or written by this command already"),
    ("explain KERNEL sample_lock --slide 0xffffffffffe00000", "kernels slide up"),
    ("disasm KERNEL 0xffffffff81000450-0xffffffffffffffff", "leaves .text"),
    ("patch KERNEL -o KERNEL", "is read or written by this command already"),
    ("verify KERNEL TEXT --save-machine TEXT", "is read or written by this command already"),
    ("verify KERNEL TEXT --save-machine x --html ./x", "is read or written by this command already"),
    ("sites KERNEL --summary --csv", "rows have no summary"),
    ("diff KERNEL native kvm --summary --jsonl", "rows have no summary"),
    ("diff KERNEL kvm: native", "names no machine behind the colon"),
    ("ops --era sead", "did you mean seed?"),
    ("ops --era 6.1 --backend kvmm", "did you mean kvm?"),
    ("ops --era seed --asm-offsets --backend xen", "--backend is not for --asm-offsets"),
    ("explain KERNEL sample_lock+0x11/0x10", "behind the end of its function"),
    ("explain KERNEL sample_lock+99999", "in no section of the image"),
    ("explain sample_lock KERNEL", "the kernel comes first, then the place"),
    ("explain KERNEL sample_lock --backend kvmm", "did you mean kvm?"),
    ("explain KERNEL sample_lock --machine intel-haswel", "did you mean intel-haswell?"),
    ("explain KERNEL sample_lock --machine NONE", "is empty: no bundle of facts"),
    ("explain KERNEL 0xffffffff81000010-0xffffffff81000000", "a range ends behind where it begins"),
    ("disasm sample_lock KERNEL", "the kernel comes first, then the place"),
    ("disasm KERNEL nosuch", "no symbol nosuch"),
    ("patch KERNEL", "missing: -o/--output"),
    ("patch KERNEL -o .", "is a directory"),
    ("patch KERNEL -o x --format elff", "did you mean elf?"),
    ("patch KERNEL -o missing/x", "missing/x: no folder missing"),
    ("diff KERNEL native", "missing: B"),
    ("diff native kvm KERNEL", "the kernel comes first, then the two sides"),
    ("diff KERNEL native kvmm", "did you mean kvm?"),
    ("diff KERNEL native kvm:intel-haswel", "did you mean intel-haswell?"),
    ("verify KERNEL", "pvops verify KERNEL MEMORY"),
    ("verify TEXT KERNEL", "is neither an ELF file"),
    ("verify KERNEL NONE --live", "two memories"),
    ("verify KERNEL TEXT --allow ftrase", "did you mean ftrace?"),
    ("ops", "give a KERNEL, or an era's headers with --era"),
    ("ops --era 6.2.1", "did you mean 6.1"),
    ("ops --era 6.1 --machine intel-haswell", "--machine is for a KERNEL"),
    ("ops --era 6.1 --config TEXT", "is no kernel configuration"),
    ("machine --presets -o x", "-o is for the description of a machine"),
    ("run --pcpus 2", "give --vcpus too"),
    ("run boot --gantt", "give --vcpus too"),
    ("run LEAVES.py", "SystemExit: 3"),
    ("run boot --html missing/x", "no folder missing"),
    ("bench --machine intel-haswell", "--machine is for --kernel"),
    ("bench --html missing/x", "no folder missing"),
    ("bench --plot missing/x.svg", "no folder missing"),
    ("lock simulate --plot missing/x.svg", "no folder missing"),
    ("machine --from NONE", "is empty"),
    ("machine --presets --collect", "not allowed with"),
    ("run bot", "(did you mean boot? There are boot, switch, lock"),
    ("run --era 2010", "there are seed, 2.6.33"),
    ("run boot --backend kmv", "runs under kmv (did you mean kvm? There are native, lguest, xen, xen-placement, kvm)"),
    ("run tour64 --backend lguest", "no guest of 2.6.33 or 3.12 runs under lguest (there are native, xen, kvm)"),
    ("run boot --era seed --nops p5", "no nop table p5 in seed (there are"),
    ("lock check --mutant nonee", "did you mean none?"),
    ("run --vcpus 2 --mutant nonee", "did you mean none?"),
    ("run pv-ticket-3.2 --vcpus 2", "(did you mean pv-ticket-3.12? There are ticket-2.6.25"),
    ("run --vcpus 2 --scheduler credt", "(did you mean credit? There are round-robin, credit)"),
    ("run --vcpus 2 --mutant missing-fenc", "no lock has a mutant missing-fenc (did you mean missing-fence?"),
    ("run pv-ticket-4.0 --vcpus 2 --mutant missing-fence", "pv-ticket-4.0 has no mutant missing-fence here (there are"),
    ("run pv-ticket-4.0 --vcpus 2 --backend kmv", "(did you mean kvm? There are native"),
    ("run --instructions 0", "at least one"),
    ("bench --seconds 0", "more than 0"),
    ("bench --cpu -1", "there is no CPU -1"),
    ("bench --plot x.foo", "a picture is .svg or .png"),
    ("lock", "missing: SUBCOMMAND"),
    ("lock check --protocol pv-tickt", "did you mean pv-ticket?"),
    ("lock check --threads 99", "1 to 6 can"),
    ("lock check --replay NONE", "not JSON"),
    ("lock simulate --protocol pv-tickt", "did you mean pv-ticket?"),
    ("lock simulate --scheduler round-robbin", "did you mean round-robin?"),
    ("lock simulate --think weird:3", "none of constant, exponential, uniform"),
    ("lock simulate --vcpus 0", "at least 1 is needed"),
    ("lock bench --lock foo", "no lock is named"),
    ("lock bench --section-ns -1", "section_ns: -1, where at least 0"),
    ("lock bench --seconds 0", "seconds: 0, in which nothing is measured"),
    ("corpus nofile", "nofile: No such file"),
    ("--schema verfiy", "did you mean verify?"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, sample_kernel: Path) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "none").touch()
    (folder / "text").write_bytes(bytes(range(256)) * 16)
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    return {
        "KERNEL": str(sample_kernel),
        "LEAVES.py": str(folder / "leaves.py"),
        "NONE": str(folder / "none"),
        "PROGRAM": os.path.realpath("/bin/sh"),
        "TEXT": str(folder / "text"),
    }


@pytest.mark.parametrize(("typed", "said"), WRONG, ids=[typed for typed, _ in WRONG])
def test_what_is_wrong_is_said_in_one_line(typed: str, said: str, files: dict[str, str]) -> None:
    words = [files.get(word, word) for word in shlex.split(typed)]
    done = pvops(*words)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (2, b"")
    assert line.startswith("pvops: ")
    assert said in line


@pytest.mark.parametrize(
    "typed", ["sites nofile", "explain KERNEL sample_lok", "lock simulate --scheduler cfs", "machine --collect"]
)
def test_it_is_a_document_too_under_json(typed: str, files: dict[str, str]) -> None:
    done = pvops(*(files.get(word, word) for word in typed.split()), "--json")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert document["schema"] == "pvops.error/1"
    assert f"pvops: {document['message']}" in done.stderr.decode()
