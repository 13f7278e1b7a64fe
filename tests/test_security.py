"""What SECURITY.md promises of the command, and that each test it names is there."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pvops as package

ROOT = Path(__file__).parents[1]

#: Commands that read files, with an image for KERNEL.
COMMANDS = (
    ["sites", "KERNEL"],
    ["ops", "KERNEL"],
    ["explain", "KERNEL", "ADDRESS", "--backend", "kvm"],
    ["disasm", "KERNEL", "ADDRESS"],
    ["patch", "KERNEL", "-o", "OUT"],
    ["diff", "KERNEL", "native", "kvm"],
    ["machine", "--presets"],
    ["verify", "KERNEL", "TEXT", "--html", "OUT"],
    ["verify", "KERNEL", "TEXT", "--json"],
    ["verify", "KERNEL", "TEXT", "TEXT"],
    ["corpus", "FOLDER"],
)
#: And those that read none, or run code made here.
OTHERS = (
    ["machine"],
    ["machine", "--collect"],
    ["run", "boot", "--era", "seed", "--backend", "native"],
    ["lock", "check", "--protocol", "pv-ticket", "--mutant", "none", "--threads", "2"],
    ["lock", "simulate", "--protocol", "pv-ticket", "--vcpus", "2", "--duration", "0.01"],
    ["bench", "--seconds", "0.5"],
    ["--schema", "sites"],
)
#: What writes a file, and where: OUT.
WRITERS = (
    ["patch", "KERNEL", "-o", "OUT"],
    ["diff", "KERNEL", "native", "kvm", "--html", "OUT"],
    ["explain", "KERNEL", "ADDRESS", "--html", "OUT"],
    ["verify", "KERNEL", "TEXT", "--save-machine", "OUT"],
    ["verify", "KERNEL", "TEXT", "--html", "OUT"],
    ["machine", "--from", "intel-haswell", "-o", "OUT"],
)

#: Run the command within a process that says which of its memory can be executed, and whether it met a socket.
_MAPS = """
import sys
from pvops.cli import main
status = main(sys.argv[1:])
for line in open("/proc/self/maps"):
    fields = line.split()
    if "x" in fields[1] and not (len(fields) > 5 and (fields[5].endswith((".so", "]")) or ".so." in fields[5])):
        print("EXECUTABLE", line, file=sys.stderr)
sys.exit(0 if status in (0, 1) else status)
"""
#: The kernel ends it, or a child of it, at the call itself: the core is no Python, and no hook hears of what it does.
_SOCKETS = """
import ctypes, os, platform, struct, sys
sys.addaudithook(lambda event, _: event.startswith("socket.") and sys.exit(f"SOCKET {event}"))
socket = {"x86_64": 41, "aarch64": 198}[platform.machine()]
steps = ((0x20, 0, 0, 0), (0x15, 0, 1, socket), (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7FFF0000))
program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
filter = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
no_new_privileges, seccomp, with_a_filter = 38, 22, 2
if prctl(no_new_privileges, 1, 0, 0, 0) or prctl(seccomp, with_a_filter, filter, 0, 0):
    sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
if sys.argv[1] == "SOCKET":
    ctypes.CDLL(None).socket(2, 1, 0)
from pvops.cli import main
status = main(sys.argv[1:])
sys.exit(0 if status in (0, 1) else status)
"""


#: Run the command where no file may get longer than a few bytes.
_FULL = """
import resource, signal, sys
from pvops.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
sys.exit(main(sys.argv[1:]))
"""

#: Run the command, the core of which meets a fault of its own that it makes no error of.
_PANICS = """
import sys
import pvops._core as core
class Images:
    def open(*_):
        raise core.PanicException("index out of bounds: the len is 3 but the index is 7")
    from_bytes = from_reader = open
core.Image = Images
from pvops.cli import main
sys.exit(main(sys.argv[1:]))
"""


def ran(program: str, words: list[str], kernel: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a program says that runs a command."""
    place = {
        "KERNEL": str(kernel),
        "OUT": str(folder / "out"),
        "TEXT": str(folder / "text"),
        "FOLDER": str(kernel.parent),
        "ADDRESS": f"{package.open(kernel).sites[0].address:#x}",
    }
    (folder / "text").write_bytes(package.open(kernel).plan().apply())
    command = [sys.executable, "-c", program, *(place.get(word, word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_no_byte_of_an_image_can_be_executed(words: list[str], sample_kernel: Path, tmp_path: Path) -> None:
    executable = Path(sys.executable).resolve()
    done = ran(_MAPS, words, sample_kernel, tmp_path)
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stderr.splitlines() if line.startswith("EXECUTABLE")]
    assert all(str(executable) in line for line in found), found


@pytest.mark.parametrize("words", WRITERS, ids=" ".join)
def test_a_write_that_fails_half_way_leaves_what_was_there(
    words: list[str], sample_kernel: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.write_text("as it was")
    done = ran(_FULL, words, sample_kernel, tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == f"pvops: {out}: File too large"
    assert out.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "text"]


@pytest.mark.parametrize("words", [*COMMANDS, *OTHERS], ids=lambda words: words[0])
def test_no_command_opens_a_socket(words: list[str], sample_kernel: Path, tmp_path: Path) -> None:
    done = ran(_SOCKETS, words, sample_kernel, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SOCKET" not in done.stderr


def test_a_socket_that_is_opened_behind_python_is_noticed(sample_kernel: Path, tmp_path: Path) -> None:
    assert ran(_SOCKETS, ["SOCKET"], sample_kernel, tmp_path).returncode == -signal.SIGSYS


@pytest.mark.parametrize("words", [["verify", "KERNEL", "OUT"], ["sites", "KERNEL"], ["patch", "KERNEL", "-o", "OUT"]])
def test_a_fault_of_the_core_is_one_line_and_one_document(
    words: list[str], sample_kernel: Path, tmp_path: Path
) -> None:
    done = ran(_PANICS, words, sample_kernel, tmp_path)
    said = "pvops: a fault of pvops, please report it: index out of bounds: the len is 3 but the index is 7\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    done = ran(_PANICS, [*words, "--json"], sample_kernel, tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["schema"], document["error"]) == (2, "pvops.error/1", "InternalError")
    assert document["message"] == said.removeprefix("pvops: ").rstrip()
    assert done.stderr == said


def test_the_tests_that_hold_the_promises_are_there() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    promises = re.findall(r"^(\d)\. .*?(?=^\d\. |^What it)", text, re.DOTALL | re.MULTILINE)
    assert promises == ["1", "2", "3", "4", "5", "6"]
    for promise in re.split(r"^\d\. ", text.partition("What it does not")[0], flags=re.MULTILINE)[1:]:
        named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", promise)
        assert named, promise
        for file, name in named:
            assert re.search(rf"\b(def|fn) {name}\b", (ROOT / file).read_text()), f"{file}::{name}"
