"""``-`` as MEMORY and as FACTS: standard input, a file or a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pvops

COMMAND = [sys.executable, "-m", "pvops"]


@pytest.fixture(scope="module")
def text(sample_kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kernel = pvops.open(sample_kernel)
    address, size = next((address, size) for name, address, size, _ in kernel.image.sections() if name == ".text")
    path = tmp_path_factory.mktemp("stdin") / "text"
    path.write_bytes(kernel.image.read(address, size) or b"")
    return path


def run(*words: str, given: bytes | None = None, file: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *words]
    if file is not None:
        with file.open("rb") as stdin:
            return subprocess.run(command, stdin=stdin, capture_output=True, check=False)
    return subprocess.run(command, input=given, capture_output=True, check=False)


def test_memory_comes_from_a_file_or_through_a_pipe(sample_kernel: Path, text: Path) -> None:
    named = json.loads(run("verify", str(sample_kernel), str(text), "--json").stdout)
    for done in (
        run("verify", str(sample_kernel), "-", "--json", file=text),
        run("verify", str(sample_kernel), "-", "--json", given=text.read_bytes()),
    ):
        found = json.loads(done.stdout)
        assert done.returncode == (named["verdict"] != "clean"), done.stderr
        assert (found["memory"], found["not_listed"]) == ("<stdin>", "<stdin>: is .text alone")
        assert found == named | {key: found[key] for key in ("memory", "not_listed")}
    refused = run("verify", str(sample_kernel), "-", given=b"EMiL\x01\0\0\0")
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"pvops: <stdin>: ")
    assert refused.stderr.count(b"\n") == 1


def test_memory_comes_through_a_pipe_with_a_name(sample_kernel: Path, text: Path) -> None:
    shell = f'"{sys.executable}" -m pvops verify "{sample_kernel}" <(cat "{text}") --json'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=False)
    named = run("verify", str(sample_kernel), str(text), "--json")
    assert (done.returncode, done.stderr) == (named.returncode, b"")
    assert json.loads(done.stdout)["unexplained"] == json.loads(named.stdout)["unexplained"]


def test_a_stream_without_an_end_leaves_room_where_copies_go(
    sample_kernel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    room = os.statvfs(tmp_path)
    size, free = 4096, 2048  # 8 MiB, of which seven are taken
    few = os.statvfs_result((size, size, *room[2:4], free, *room[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda _: few)
    with subprocess.Popen(["sh", "-c", f"exec cat /dev/zero > '{pipe}'"], stderr=subprocess.DEVNULL) as endless:
        with pytest.raises(pvops.errors.InputError, match=r"room for 7,340,032 bytes of it.*set TMPDIR"):
            pvops.open(sample_kernel).verify(pipe)
        assert endless.wait(10) != 0


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        ("cat /dev/urandom", "its first 64 MiB are no memory of a machine: 8.00 bits of information a byte"),
        ("cat /dev/zero", "its first 64 MiB are no memory of a machine: nothing but zeros"),
        ("yes", "its first 64 MiB are no memory of a machine: 2 different bytes in all"),
        ("{ printf '\\037\\213'; cat /dev/urandom; }", "is packed by gzip, which is not read as memory"),
    ],
)
def test_a_stream_that_is_no_memory_is_not_copied_to_its_end(sample_kernel: Path, stream: str, said: str) -> None:
    shell = f'{stream} | "{sys.executable}" -m pvops verify "{sample_kernel}" -'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"pvops: <stdin>: {said}")


def test_a_machine_comes_through_a_pipe(sample_kernel: Path, text: Path) -> None:
    facts = b'{"schema": "pvops.machine/1", "online_cpus": 2}'
    done = run("verify", str(sample_kernel), str(text), "--machine", "-", "--json", given=facts)
    assert done.returncode in (0, 1), done.stderr
    done = run("verify", str(sample_kernel), str(text), "--machine", "-", given=b"{")
    assert done.returncode == 2
    assert b"<stdin>" in done.stderr


def test_every_command_that_takes_a_machine_takes_it_through_a_pipe(sample_kernel: Path) -> None:
    facts = b'{"schema": "pvops.machine/1", "model_name": "Piped CPU"}'
    done = run("machine", "--from", "-", "--json", given=facts)
    assert json.loads(done.stdout)["model_name"] == "Piped CPU", done.stderr
    for sides in (["-", "native"], ["native", "kvm:-"]):
        done = run("diff", str(sample_kernel), *sides, "--json", given=facts)
        assert done.returncode in (0, 1), done.stderr
    done = run("diff", "-", "native", "-", given=facts)
    assert b"standard input is one file" in done.stderr


def test_what_is_no_text_is_one_line_whatever_the_locale(sample_kernel: Path) -> None:
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    command = [*COMMAND, "patch", str(sample_kernel), "-o", "-", "--machine", "-"]
    done = subprocess.run(command, input=b"\xa6\0\xff", capture_output=True, check=False, env=strict)
    assert done.returncode == 2
    assert done.stderr.startswith(b"pvops: <stdin>: not JSON, nor facts")
    assert done.stderr.count(b"\n") == 1


def test_standard_input_is_one_file(sample_kernel: Path) -> None:
    for words in (["-", "-"], [str(sample_kernel), "-", "--machine", "-"]):
        done = run("verify", *words, given=b"")
        assert done.returncode == 2
        assert b"standard input is one file" in done.stderr
