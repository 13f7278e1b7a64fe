"""The plugins for Volatility 3, run by the real package: its command, layers and renderers; without symbols (ISF)."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.run import pvops
from image.memory.slid import LARGE, SLIDE, TABLES, TEXT, Slid

pytest.importorskip("volatility3", reason="the extra `test` has volatility3")

_VOL = "import sys; sys.argv[0] = 'vol'; from volatility3.cli import main; main()"


@pytest.fixture(scope="module")
def slid() -> Slid:
    return Slid("native")


@pytest.fixture(scope="module")
def kernel(slid: Slid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volatility3") / "vmlinux"
    path.write_bytes(slid.image)
    return path


def vol(memory: Path, plugin: str, *words: str | Path) -> subprocess.CompletedProcess[bytes]:
    """``vol -p $(pvops volatility3) -f MEMORY PLUGIN …``."""
    plugins = pvops("volatility3").stdout.decode().strip()
    home = memory.parent
    (home / "cache").mkdir()
    command: list[str | Path] = [
        sys.executable,
        "-c",
        _VOL,
        "--offline",
        "--cache-path",
        home / "cache",
        "-q",
        "-r",
        "json",
    ]
    return subprocess.run(
        [*command, "-r", "json", "-p", plugins, "-f", memory, f"linux.pvops.{plugin}", *words],
        capture_output=True,
        check=False,
        cwd=home,
        env={"PATH": "", "HOME": str(home), "PYTHONPATH": ":".join(sys.path)},
    )


def rows(memory: Path, plugin: str, *words: str | Path) -> list[dict[str, Any]]:
    """The table that a plugin prints, as a tree."""
    done = vol(memory, plugin, *words)
    assert done.returncode == 0, done.stderr.decode()
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def dump(path: Path, memory: bytes | bytearray) -> Path:
    path.write_bytes(memory)
    return path


def lime(memory: bytes | bytearray) -> bytes:
    """LiME's format, which begins where the kernel does: all below is a hole."""
    return struct.pack("<IIQQQ", 0x4C694D45, 1, LARGE, len(memory) - 1, 0) + bytes(memory[LARGE:])


@pytest.mark.parametrize("packed", ["raw", "lime", "gz"])
def test_a_clean_kernel_is_clean(slid: Slid, kernel: Path, tmp_path: Path, packed: str) -> None:
    memory = slid.physical()
    if packed == "lime":
        memory = lime(memory)
    if packed == "gz":  # Volatility unpacks it
        memory = gzip.compress(memory, 1)
    found = rows(dump(tmp_path / f"memory.{packed}", memory), "Verify", "--kernel", kernel)
    assert len(found) == 1
    verdict = found[0]
    assert (verdict["Finding"], verdict["Linked"], verdict["Address"]) == ("clean", TEXT, TEXT + SLIDE)
    assert (verdict["Bytes"], verdict["Where"]) == (len(slid.text), slid.kernel.release)
    assert "native" in verdict["Note"]
    assert {row["Finding"] for row in verdict["__children"]} == {"not judged"}


@pytest.mark.parametrize("packed", ["raw", "lime"])
def test_a_changed_byte_is_a_row_with_what_it_should_be(slid: Slid, kernel: Path, tmp_path: Path, packed: str) -> None:
    at = slid.kernel.address_of("sample_idle")
    assert at is not None
    memory = bytearray(slid.physical())
    changed = LARGE + at - (TEXT & -LARGE)
    memory[changed] ^= 0xFF
    path = dump(tmp_path / "memory", lime(memory) if packed == "lime" else memory)
    verdict = rows(path, "Verify", "--kernel", kernel)[0]
    assert verdict["Finding"] == "modified"
    row = next(row for row in verdict["__children"] if row["Finding"] == "unexplained")
    assert (row["Linked"], row["Address"], row["Bytes"]) == (at, at + SLIDE, 1)
    assert row["Where"].startswith("sample_idle")
    assert (int(row["Expected"], 16), int(row["Found"], 16)) == (memory[changed] ^ 0xFF, memory[changed])
    assert "is " in row["Note"]
    assert "should be " in row["Note"]


def test_data_that_say_something_else_than_the_text_are_rows(kernel: Path, tmp_path: Path) -> None:
    """The text is that of a KVM guest, and the ops are those of bare hardware."""
    path = dump(tmp_path / "memory", Slid("kvm").physical())
    verdict = rows(path, "Verify", "--kernel", kernel)[0]
    assert verdict["Finding"] == "modified"
    differing = {
        row["Where"]: (row["Expected"], row["Found"]) for row in verdict["__children"] if row["Finding"] == "data"
    }
    assert differing["pv_ops pv_lock_ops.kick"] == ("kvm_kick_cpu", "_paravirt_nop")


def test_what_was_inferred_is_a_table_of_its_own(slid: Slid, kernel: Path, tmp_path: Path) -> None:
    path = dump(tmp_path / "memory", slid.physical())
    found = rows(path, "Inferred", "--kernel", kernel)
    report = slid.kernel.verify(slid.physical())
    assert [(row["About"], row["Name"], row["Value"], row["Votes"]) for row in found] == [
        (vote.about, vote.name, vote.value, vote.votes) for vote in report.votes
    ]
    assert any(row["About"] == "slot" for row in found)


def test_an_allowed_owner_is_named_as_such(slid: Slid, kernel: Path, tmp_path: Path) -> None:
    at = slid.kernel.address_of("sample_idle")
    assert at is not None
    memory = bytearray(slid.physical())
    memory[LARGE + at - (TEXT & -LARGE)] = 0xCC
    path = dump(tmp_path / "memory", memory)
    verdict = rows(path, "Verify", "--kernel", kernel, "--allow", "kprobes", "ftrace")[0]
    assert verdict["Finding"] == "clean"
    assert "allowed" in {row["Finding"] for row in verdict["__children"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kernel", "/nonexistent"], "/nonexistent: No such file or directory"),
        (["--kernel", "KERNEL", "--allow", "nobody"], "nobody called nobody writes text"),
        (["--kernel", "KERNEL", "--machine", "haswel"], "haswel"),
    ],
)
def test_a_wrong_option_is_named(slid: Slid, kernel: Path, tmp_path: Path, words: list[str], said: str) -> None:
    path = dump(tmp_path / "memory", slid.physical())
    done = vol(path, "Verify", *(kernel if word == "KERNEL" else word for word in words))
    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_memory_of_no_kernel_is_said_to_be_so(kernel: Path, tmp_path: Path) -> None:
    done = vol(dump(tmp_path / "memory", bytes(LARGE)), "Verify", "--kernel", kernel)
    assert done.returncode == 1
    assert "holds nothing but zeros" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_below_virtual_memory_the_physical_is_read(slid: Slid, kernel: Path) -> None:
    """What Volatility makes where it has symbols: a layer of virtual memory, which the plugin looks below of."""
    contexts: Any = pytest.importorskip("volatility3.framework.contexts")
    from volatility3 import plugins
    from volatility3.framework import import_files
    from volatility3.framework.layers import intel, physical

    folder = pvops("volatility3").stdout.decode().strip()
    plugins.__path__ = [folder, *plugins.__path__]
    assert not [failed for failed in import_files(plugins, True) if "pvops" in failed]
    from volatility3.plugins.linux.pvops import Verify

    context = contexts.Context()
    context.add_layer(physical.BufferDataLayer(context, "memory", "memory", slid.physical()))
    context.config["kernel.memory_layer"] = "memory"
    context.config["kernel.page_map_offset"] = TABLES
    context.add_layer(intel.Intel32e(context, "kernel", "kernel"))
    context.config["plugins.Verify.primary"] = "kernel"
    context.config["plugins.Verify.kernel"] = str(kernel)
    grid = Verify(context, "plugins.Verify").run()
    grid.populate()
    findings = [str(node.values[0]) for node in grid.children(None)]
    assert findings == ["clean"]
