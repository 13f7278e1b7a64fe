"""Standard output that is closed, full or read no further; and usage errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pvops as package
from cli.run import pvops, trouble

COMMAND = (sys.executable, "-m", "pvops")


def test_a_reader_that_has_enough_changes_no_status(sample_kernel: Path) -> None:
    words = (*COMMAND, "diff", sample_kernel, "native", "kvm", "--json")
    assert subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 1
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 1
    assert b"Broken pipe" not in done.stderr


@pytest.mark.parametrize("words", ["sites PIPE", "verify KERNEL PIPE", "machine --from PIPE", "sites -"])
def test_an_interrupt_ends_a_command_whatever_it_waits_for(sample_kernel: Path, tmp_path: Path, words: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    named = {"KERNEL": sample_kernel, "PIPE": pipe}
    command = [*COMMAND, *(named.get(word, word) for word in words.split())]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # of what runs in the background it is ignored
    ) as process:
        _wait_until_it_sleeps(process.pid)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=10)
    assert (process.returncode, *said) == (-signal.SIGINT, b"", b"")


def _wait_until_it_sleeps(pid: int) -> None:
    """Until a process has slept for a second: it waits for somebody else then."""
    asleep = 0
    while asleep < 10:
        asleep = asleep + 1 if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S" else 0
        time.sleep(0.1)


@pytest.mark.parametrize("words", [["sites"], ["sites", "--json"], ["sites", "--csv"], ["explain"], ["diff"]])
def test_full_standard_output_is_one_line_and_status_2(sample_kernel: Path, words: list[str]) -> None:
    site = package.open(sample_kernel).sites[0]
    rest = {"explain": [f"{site.address:#x}"], "diff": ["native", "kvm"]}.get(words[0], [])
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            (*COMMAND, words[0], sample_kernel, *rest, *words[1:]), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "pvops: standard output: No space left on device\n"


@pytest.mark.parametrize("words", ["--help", "", "sites --help", "--version"])
def test_help_into_a_full_device_is_trouble_too(words: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run((*COMMAND, *words.split()), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "pvops: standard output: No space left on device\n")


def test_closed_standard_output_is_one_line_and_status_2(sample_kernel: Path) -> None:
    shell = f'"{sys.executable}" -m pvops sites "{sample_kernel}" >&-'
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "pvops: standard output: it is closed\n")


def test_alone_it_shows_an_example_of_every_command() -> None:
    from pvops.cli.grammar import COMMANDS

    done = pvops()
    assert done.returncode == 0
    shown = [line.split()[:2] for line in done.stdout.decode().splitlines()]
    for name in COMMANDS:
        assert ["pvops", name] in shown, name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explian"], "no command explian (did you mean explain?)"),
        (["sites"], "missing: KERNEL (see pvops sites --help)"),
        (["sites", "k", "--tabel", "returns"], "unknown argument --tabel (did you mean --table?)"),
        (["sites", "k", "--table", "retruns"], "no --table retruns (did you mean returns?)"),
        (["patch", "k", "-o", "o", "--format", "txet"], "no --format txet (did you mean text?)"),
        (["lock", "chekc"], "no subcommand chekc (did you mean check?)"),
        (["lock", "check", "--protocl", "x"], "unknown argument --protocl (did you mean --protocol?)"),
        (["lock", "check", "--protocol", "PV-tickt"], "there is no protocol PV-tickt (did you mean pv-ticket?)"),
        (["machine", "--from", "intel-haswel"], "no such file, and no preset (did you mean intel-haswell?)"),
        (["ops", "--era", "6.2x"], "no era 6.2x (did you mean "),
        (["explain", "k", "0", "--slide", "no"], "argument --slide: invalid hexadecimal number value: 'no'"),
    ],
)
def test_a_usage_error_is_one_line_with_the_nearest_name(words: list[str], said: str) -> None:
    assert said in trouble(*words)


def test_a_backend_may_be_written_in_capitals(sample_kernel: Path) -> None:
    address = f"{package.open(sample_kernel).sites[0].address:#x}"
    assert pvops("explain", sample_kernel, address, "--backend", "KVM").returncode == 0
    said = trouble("explain", sample_kernel, address, "--backend", "kvmm")
    assert "no backend kvmm (did you mean kvm?)" in said


def test_a_usage_error_is_a_document_under_json() -> None:
    done = pvops("sites", "k", "--tabel", "x", "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert (found["schema"], found["error"]) == ("pvops.error/1", "UsageError")
    assert done.stderr.decode() == f"pvops: {found['message']}\n"


#: What clears a screen, goes to the start of the line, and turns the direction of writing.
OBEYED = "\x1b[2J\r\u202e"


def test_text_from_a_file_does_not_drive_the_terminal(sample_kernel: Path, tmp_path: Path) -> None:
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps({"hypervisor": f"none{OBEYED}", "model_name": OBEYED, "cmdline": OBEYED}))
    for words in ("explain KERNEL sample_lock --machine FILE", "diff KERNEL FILE kvm", "machine --from FILE"):
        done = pvops(*(str({"KERNEL": sample_kernel, "FILE": machine}.get(word, word)) for word in words.split()))
        said = (done.stdout + done.stderr).decode()
        assert not set(said) & set("\x1b\r\u202e"), words


def test_what_a_message_quotes_is_one_line(tmp_path: Path) -> None:
    assert trouble("sites", "a\nb\x1b[2J") == "pvops: a\\nb\\x1b[2J: No such file or directory"
    assert trouble("sites", "--x\ny") == "pvops: missing: KERNEL (see pvops sites --help)"


def test_an_argument_that_is_no_text_is_trouble(sample_kernel: Path) -> None:
    done = subprocess.run((*COMMAND, "explain", sample_kernel, b"\xff"), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"pvops: {sample_kernel}: \\xff: is not text in UTF-8\n")


def test_a_file_whose_name_is_no_text_is_read(sample_kernel: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff"
    with open(name, "wb") as file:
        file.write(sample_kernel.read_bytes())
    assert subprocess.run((*COMMAND, "sites", name, "--summary"), capture_output=True).returncode == 0


@pytest.mark.parametrize("name", [b"sample_lock\0", b".data\0"])
def test_a_name_that_drives_a_terminal_is_no_name(sample_kernel: Path, tmp_path: Path, name: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(sample_kernel.read_bytes().replace(name, b"\x1b[" + name[2:]))
    assert "not text" in trouble("sites", image)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lock bench --threads -1 --rounds 1 --seconds 0.01", "a number is out of range: 'threads'"),
        ("lock bench --threads 2 --rounds 1 --seconds 0.01 --section-ns 99999999999999999999", "out of range"),
        ("lock check --replay /dev/zero", "/dev/zero: larger than 256 MiB, no document of traces"),
    ],
)
def test_numbers_and_files_without_end_are_trouble(words: str, said: str) -> None:
    assert said in trouble(*words.split())


@pytest.mark.parametrize(
    "words", ["sites -", "verify KERNEL -", "machine --from -", "lock check --replay -", "ops --era 6.1 --config -"]
)
def test_closed_standard_input_is_one_line_and_status_2(sample_kernel: Path, words: str) -> None:
    shell = f'"{sys.executable}" -m pvops {words.replace("KERNEL", str(sample_kernel))} <&-'
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_a_configuration_may_come_from_standard_input(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("CONFIG_X86_32=y\nCONFIG_X86_PAE=y\n")
    read = pvops("ops", "--era", "seed", "--config", "-", stdin=config.read_bytes())
    assert read.stdout == pvops("ops", "--era", "seed", "--config", config).stdout
    assert read.returncode == 0


def test_a_name_that_no_line_has_room_for_is_cut(sample_kernel: Path) -> None:
    said = trouble("explain", sample_kernel, "x" * 100_000)
    assert said == f"pvops: {sample_kernel}: no symbol {'x' * 60}… (100,000 characters)"
    assert len(trouble("frobnicate" * 10_000)) < 1000


def test_in_a_folder_that_is_gone_the_file_is_named(sample_kernel: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"import os, sys; from pvops.cli import main; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})"
    program += f"; sys.exit(main(['patch', {str(sample_kernel)!r}, '-o', 'x']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "--machine" not in line] == [
        "pvops: x: No such file or directory"
    ]


def test_in_a_folder_that_is_gone_no_other_process_begins(sample_kernel: Path, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    text = tmp_path / "text"
    text.write_bytes(package.open(sample_kernel).plan().apply())
    words = f"verify '{sample_kernel}' '{text}' '{text}'"
    shell = f'cd "{tmp_path}/gone"; rmdir ../gone; "{sys.executable}" -m pvops {words}'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    said = "pvops: the folder that this runs in is gone, and other processes begin in it\n"
    assert (done.returncode, done.stderr, done.stdout) == (2, said, "")
