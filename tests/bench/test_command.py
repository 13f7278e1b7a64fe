"""``pvops bench`` as a user calls it, also where the machine forbids what it needs."""

from __future__ import annotations

import ctypes
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cli.run import pvops, trouble

#: Enough for a few rounds.
SHORT = ("--seconds", "1.5")


def measured(*arguments: str | Path, trusted: bool = False) -> bytes:
    """What ``pvops bench`` prints; called again where the machine was too busy, or too busy to be trusted."""
    for _ in range(5):
        done = pvops("bench", *arguments, *SHORT)
        busy = done.returncode == 2 and b"too little time undisturbed" in done.stderr
        if not busy and not (trusted and done.returncode == 1):
            break
    assert done.returncode == 0 or (done.returncode == 1 and not trusted), done.stderr.decode()
    return done.stdout


def test_the_document_has_a_row_for_each_form() -> None:
    document = json.loads(measured("--json", trusted=True))
    assert document["schema"] == "pvops.bench/1"
    assert document["clock"]
    assert document["trusted"] is True
    for row in document["forms"]:
        assert row["low"] <= row["cycles"] <= row["high"]
        assert {"form", "serialised_cycles", "distinct_sites_cycles"} <= set(row)
    assert {row["form"] for row in document["forms"] if row["stand_in"]} == {"inline_irq_disable", "inline_irq_enable"}


def test_the_text_says_what_stands_in_for_what() -> None:
    text = measured().decode()
    assert "f8 stands in for fa (pv_irq_ops.irq_disable)" in text
    assert "nop6" in text
    assert "checks hold" in text


def test_a_kernel_is_estimated(sample_kernel: Path) -> None:
    kernel = json.loads(measured("--kernel", sample_kernel, "--json"))["kernel"]
    assert kernel["assumptions"]
    ops = {op["op"]: op for op in kernel["ops"]}
    assert ops["pv_irq_ops.irq_enable"]["sites"] > 0
    assert {path["path"] for path in kernel["paths"]} >= {"spin_unlock", "local_irq_save", "set_pte", "context_switch"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--seconds", "0"), "0 seconds"),
        (("--seconds", "nan"), "NaN seconds"),
        (("--seconds", "1e9"), "at most 600"),
        (("--cpu", "100000"), "CPU 100000"),
        (("--cpu", "-1"), "no CPU -1"),
        (("--kernel", "/nonexistent"), "/nonexistent"),
        (("--plot", "forms.gif"), "forms.gif: a picture is .svg or .png"),
    ],
)
def test_arguments_that_cannot_be_are_one_line(arguments: tuple[str, ...], why: str) -> None:
    assert why in trouble("bench", *arguments)


# Policies. Each is a filter on one system call, set in the process that then becomes `pvops`.

_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | 13  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with EACCES
_LOAD, _EQUAL, _BITS, _RETURN = 0x20, 0x15, 0x45, 0x06
_MMAP, _MEMFD_CREATE = 9, 319
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_PROTECTION, _FLAGS = 16 + 8 * 2, 16 + 8 * 3  # of struct seccomp_data: low halves of mmap's third and fourth arguments
_PROT_EXEC, _MAP_SHARED = 4, 1

#: No files in memory at all.
NO_MEMFD = [(_LOAD, 0, 0, 0), (_EQUAL, 0, 1, _MEMFD_CREATE), (_RETURN, 0, 0, _DENY), (_RETURN, 0, 0, _ALLOW)]
#: No executable mapping of what is shared; libraries are private.
NO_EXEC = [
    (_LOAD, 0, 0, 0),
    (_EQUAL, 0, 5, _MMAP),
    (_LOAD, 0, 0, _PROTECTION),
    (_BITS, 0, 3, _PROT_EXEC),
    (_LOAD, 0, 0, _FLAGS),
    (_BITS, 0, 1, _MAP_SHARED),
    (_RETURN, 0, 0, _DENY),
    (_RETURN, 0, 0, _ALLOW),
]


def _forbid(program: list[tuple[int, int, int, int]]) -> None:
    """Filters the system calls of this process from now on."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *row) for row in program))
    head = ctypes.create_string_buffer(struct.pack("<H6xQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _seccomp_works() -> bool:
    """Whether a filter can be set here at all."""
    here = Path(__file__)
    code = "import sys; sys.path[:0] = [sys.argv[1]]; from bench import test_command as t; t._forbid(t.NO_MEMFD)"
    return subprocess.run([sys.executable, "-c", code, here.parents[1]], capture_output=True).returncode == 0


@pytest.mark.parametrize(("policy", "step"), [("NO_MEMFD", "memfd_create"), ("NO_EXEC", "mapping it for execution")])
def test_a_policy_against_code_made_at_run_time_is_a_reason_and_status_2(policy: str, step: str) -> None:
    if not _seccomp_works():
        pytest.skip("no seccomp filters here")
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; from bench import test_command as t; "
        f"t._forbid(t.{policy}); from pvops.cli import main; sys.exit(main(['bench', '--json', '--seconds', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", code, Path(__file__).parents[1]], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    line = done.stderr.strip()
    assert "\n" not in line
    assert "does not let code made here run" in line
    assert step in line
    assert "Permission denied" in line
    assert json.loads(done.stdout)["error"] == "ExecutionError"


def test_a_limit_on_files_is_a_reason_and_status_2() -> None:
    code = (
        "import resource, sys; from pvops import bench; from pvops.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); sys.exit(main(['bench', '--seconds', '1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "bytes of memory: File too large" in done.stderr
    assert done.stdout == ""
