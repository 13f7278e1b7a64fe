"""``pvops sites``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from cli.run import document, pvops, trouble


def test_lists_every_row_exactly(sample_kernel: Path) -> None:
    found = document("sites", sample_kernel)
    assert found["schema"] == "pvops.sites/1"
    rows = [row for site in found["sites"] for row in site["rows"]]
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert found["summary"]["rows"]["paravirt"] == len(rows)
    for site in found["sites"]:
        (row,) = site["rows"]
        assert row["table"] == "paravirt"
        assert site["address"].startswith("0xffffffff81")
        assert len(bytes.fromhex(site["bytes"])) == row["len"]
        assert isinstance(row["type"], int)
        assert isinstance(row["clobbers"], int)
        assert "." in row["op"]


def test_text_json_lines_and_csv_have_the_same_sites(sample_kernel: Path) -> None:
    addresses = [site["address"] for site in document("sites", sample_kernel)["sites"]]
    lines = [json.loads(line) for line in pvops("sites", sample_kernel, "--jsonl").stdout.splitlines()]
    assert [line["address"] for line in lines] == addresses
    table = list(csv.DictReader(io.StringIO(pvops("sites", sample_kernel, "--csv").stdout.decode())))
    assert [row["address"] for row in table] == addresses
    text = pvops("sites", sample_kernel).stdout.decode()
    assert [f"0x{line[:16]}" for line in text.splitlines() if line.startswith("ffffffff")] == addresses


def test_one_op_alone(sample_kernel: Path) -> None:
    chosen = document("sites", sample_kernel, "--op", "pv_irq_ops.irq_enable")["sites"]
    assert chosen
    assert {site["rows"][0]["op"] for site in chosen} == {"pv_irq_ops.irq_enable"}


def test_a_misspelt_op_is_trouble_with_a_hint(sample_kernel: Path) -> None:
    assert trouble("sites", sample_kernel, "--op", "pv_irq_ops.irq_enabel").endswith(
        "(did you mean pv_irq_ops.irq_enable?)"
    )


def test_standard_input_is_a_kernel_too(sample_kernel: Path) -> None:
    from_file = pvops("sites", sample_kernel, "--csv")
    from_pipe = pvops("sites", "-", "--csv", stdin=sample_kernel.read_bytes())
    assert from_pipe.stdout == from_file.stdout != b""


def test_no_colour_in_a_pipe_and_colour_when_asked(sample_kernel: Path) -> None:
    assert b"\x1b[" not in pvops("sites", sample_kernel).stdout
    assert b"\x1b[" in pvops("sites", sample_kernel, "--color", "always").stdout


def test_without_names_no_symbol_is_shown(sample_kernel: Path) -> None:
    assert b"  # " in pvops("sites", sample_kernel).stdout
    assert b"  # " not in pvops("sites", sample_kernel, "--no-names").stdout


def test_what_is_no_kernel_is_trouble_with_one_line_that_says_so(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a kernel\n")
    assert trouble("sites", text).startswith(f"pvops: {text}: ")
    missing = tmp_path / "missing"
    assert trouble("sites", missing) == f"pvops: {missing}: No such file or directory"
    assert str(tmp_path) in trouble("sites", tmp_path)


def test_trouble_under_json_is_a_document_too(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a kernel\n")
    done = pvops("sites", text, "--json")
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert (found["schema"], found["error"], found["file"]) == ("pvops.error/1", "ImageError", str(text))


def test_a_kernel_cut_anywhere_is_trouble_or_a_kernel(sample_kernel: Path) -> None:
    whole = sample_kernel.read_bytes()
    for end in (0, 1, 63, 64, 500, len(whole) // 2, len(whole) - 1):
        assert trouble("sites", "-", stdin=whole[:end]).startswith("pvops: <stdin>: ")


def test_usage_errors_say_what_is_wrong_and_exit_with_2() -> None:
    done = pvops("sites")
    assert done.returncode == 2
    assert b"KERNEL" in done.stderr
