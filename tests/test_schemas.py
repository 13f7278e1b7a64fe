"""The published JSON Schemas: one for each document, and what the commands print keeps to them."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pvops as package
from cli.run import pvops
from image.memory.slid import LARGE, TEXT, Slid
from kernels.given import Boot
from pvops import schemas
from pvops.machine import documents, presets
from pvops.machine.machine import Machine

jsonschema = pytest.importorskip("jsonschema", reason="the extra `test` has jsonschema")
SOURCES = Path(__file__).parents[1] / "python" / "pvops"

#: Document → a command that prints it; KERNEL, ADDRESS, TEXT and OUT stand for a sample image and what belongs to it.
PRINTED = {
    "sites": ["sites", "KERNEL"],
    "ops": ["ops", "KERNEL", "--backend", "kvm"],
    "asm-offsets": ["ops", "--era", "seed", "--asm-offsets"],
    "explain": ["explain", "KERNEL", "ADDRESS", "--backend", "kvm", "--backend", "native"],
    "disasm": ["disasm", "KERNEL", "ADDRESS", "--backend", "kvm"],
    "patch": ["patch", "KERNEL", "-o", "OUT"],
    "diff": ["diff", "KERNEL", "native", "kvm"],
    "corpus": ["corpus", "FOLDER"],
    "presets": ["machine", "--presets"],
    "error": ["sites", "/nonexistent"],
    "lock.check": ["lock", "check", "--protocol", "pv-ticket", "--mutant", "none", "--threads", "2"],
    "run": ["run", "boot", "--era", "seed", "--backend", "native"],
    "bench": ["bench", "--seconds", "1"],
    "lock_bench": [
        "lock",
        "bench",
        "--lock",
        "pvops::PvTicketLock",
        "--threads",
        "2",
        "--rounds",
        "1",
        "--seconds",
        "0.02",
    ],
    "lock_simulate": ["lock", "simulate", "--protocol", "pv-ticket", "--vcpus", "2", "--duration", "0.01"],
}


def printed(words: list[str], kernel: Path, folder: Path) -> Any:
    """The document that a command prints."""
    address = f"{package.open(kernel).sites[0].address:#x}"
    place: dict[str, str | Path] = {
        "KERNEL": kernel,
        "ADDRESS": address,
        "OUT": folder / "out",
        "FOLDER": kernel.parent,
    }
    return json.loads(pvops(*(place.get(word, word) for word in words), "--json").stdout)


def valid(name: str, document: Any) -> None:
    """Holds a document to its schema; the error names the place."""
    jsonschema.Draft202012Validator(schemas.schema(name)).validate(document)


def test_every_document_that_the_sources_name_has_a_schema_and_no_other() -> None:
    named = set()
    for path in SOURCES.rglob("*.py"):
        named |= set(re.findall(r'(?:"schema": |SCHEMA = )"pvops\.([\w.-]+)/1"', path.read_text()))
    assert set(schemas.names()) == named


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_one_and_names_its_document(name: str) -> None:
    schema = schemas.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert properties["schema"] == {"const": f"pvops.{name}/1"}
    assert json.loads(pvops("--schema", name).stdout) == schema


@pytest.mark.parametrize("name", PRINTED)
def test_what_a_command_prints_keeps_to_its_schema(name: str, sample_kernel: Path, tmp_path: Path) -> None:
    document = printed(PRINTED[name], sample_kernel, tmp_path)
    assert document["schema"] == f"pvops.{name}/1"
    valid(name, document)
    for key in schemas.schema(name)["required"]:  # type: ignore[attr-defined]  # a list of keys
        less = copy.copy(document)
        del less[key]
        with pytest.raises(jsonschema.ValidationError):
            valid(name, less)


#: Commands whose documents have what those of PRINTED do not: a number in the place of null, other names of structures,
#: of variables, of ops.
OTHERS = {
    "ops": [
        ["ops", "--era", "2.6.33"],
        ["ops", "--era", "6.1"],
        ["ops", "--era", "seed", "--backend", "xen"],
        ["ops", "KERNEL"],
    ],
    "asm-offsets": [["ops", "--era", "2.6.33", "--asm-offsets"]],
    "explain": [["explain", "KERNEL", "ADDRESS", "--machine", "intel-haswell"]],
    "disasm": [["disasm", "KERNEL", "ADDRESS", "--backend", "kvm", "--backend", "native"]],
    "diff": [["diff", "KERNEL", "intel-haswell", "amd-epyc-milan"]],
    "lock.check": [
        ["lock", "check", "--protocol", "ticket-2.6.25"],
        ["lock", "check", "--protocol", "xen-byte-2.6.27", "--mutant", "kick-before-release"],
        ["lock", "check", "--protocol", "pv-hybrid", "--mutant", "no-hand-over", "--acquisitions", "1"],
        ["lock", "check", "--protocol", "pv-ticket", "--mutant", "none", "--states", "100"],
    ],
    "lock_simulate": [
        ["lock", "simulate", "--protocol", "pv-hybrid", "--ple", "10", "--irq-interval", "100", "--duration", "0.01"],
        ["lock", "simulate", "--protocol", "ticket-2.6.25", "--ticket-bits", "8", "--duration", "0.01"],
    ],
    "run": [
        ["run", "pv-ticket-3.12", "--vcpus", "2", "--pcpus", "1", "--turns", "3", "--trace"],
        ["run", "pv-ticket-sym", "--vcpus", "2", "--mutant", "kick-before-release", "--backend", "kvm", "--bits", "64"],
        ["run", "boot", "--era", "seed", "--backend", "xen", "--trace"],
    ],
    "bench": [["bench", "--seconds", "1", "--kernel", "KERNEL"]],
    "error": [["explain", "KERNEL", "0x10"], ["explain", "KERNEL", "nothing"], ["ops", "--era", "9"]],
}


@pytest.mark.parametrize("name", OTHERS)
def test_documents_of_other_arguments_keep_to_the_same_schema(name: str, sample_kernel: Path, tmp_path: Path) -> None:
    for words in OTHERS[name]:
        valid(name, printed(words, sample_kernel, tmp_path))


def test_a_summary_keeps_to_the_schema_of_sites(sample_kernel: Path) -> None:
    summary = printed(["sites", "KERNEL", "--summary"], sample_kernel, sample_kernel.parent)
    assert "sites" not in summary
    valid("sites", summary)


def test_a_difference_at_returns_which_ask_nothing_keeps_to_its_schema(
    kernel: Callable[[str], package.Kernel], tmp_path: Path
) -> None:
    opened = kernel("6.1.0-56-amd64")
    document = printed(["diff", "KERNEL", "baseline", "amd-epyc-milan"], Path(opened.name), tmp_path)
    document["sites"] = [site for site in document["sites"] if site["table"] == "returns"][:10]
    assert [site["subject"] for site in document["sites"]] == [None] * 10
    valid("diff", document)


def test_a_replay_keeps_to_its_schema(tmp_path: Path) -> None:
    checked = pvops("lock", "check", "--protocol", "pv-ticket", "--mutant", "missing-fence", "--threads", "2", "--json")
    (tmp_path / "checked").write_bytes(checked.stdout)
    valid("lock.replay", json.loads(pvops("lock", "check", "--replay", tmp_path / "checked", "--json").stdout))


#: A command that prints rows, and their list in its document.
ROWS = {
    "sites": ["sites", "KERNEL"],
    "ops": ["ops", "KERNEL", "--backend", "kvm"],
    "instructions": ["disasm", "KERNEL", "ADDRESS"],
    "checks": ["lock", "check", "--protocol", "pv-ticket", "--threads", "2"],
    "cases": ["lock", "simulate", "--protocol", "pv-ticket", "--vcpus", "2", "--duration", "0.01"],
    "runs": ["run", "boot", "--era", "seed", "--backend", "native"],
    "kernels": ["corpus", "FOLDER", "--jobs", "1"],
}


@pytest.mark.parametrize("name", ROWS)
def test_lines_of_json_are_as_many_as_those_of_csv_and_all_parse(
    name: str, sample_kernel: Path, tmp_path: Path
) -> None:
    place = {"KERNEL": str(sample_kernel), "ADDRESS": f"{package.open(sample_kernel).sites[0].address:#x}"}
    words = [(place | {"FOLDER": str(tmp_path)}).get(word, word) for word in ROWS[name]]
    (tmp_path / "vmlinuz-sample").symlink_to(sample_kernel)
    lines = [json.loads(line) for line in pvops(*words, "--jsonl").stdout.splitlines()]
    heading, *rows = csv.reader(io.StringIO(pvops(*words, "--csv").stdout.decode()))
    assert len(rows) == len(lines) > 0
    assert all(len(row) == len(heading) for row in rows)
    document = json.loads(pvops(*words, "--json").stdout)
    assert len(lines) >= len(document[name]) > 0  # a site has a line for each of its rows


def test_every_schema_is_held_to_a_document() -> None:
    elsewhere = {"verify", "verify-many", "machine", "lock.replay"}  # by the tests above and below
    assert set(PRINTED) | elsewhere == set(schemas.names())


def every_key_counts(name: str, document: dict[str, Any]) -> None:
    """A document keeps to its schema, has every key that the schema names, and none may go."""
    valid(name, document)
    assert set(document) == set(schemas.schema(name)["properties"])  # type: ignore[call-overload]  # an object
    for key in document:
        with pytest.raises(jsonschema.ValidationError):
            valid(name, {other: value for other, value in document.items() if other != key})


@pytest.fixture(scope="module")
def dumps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel, and dumps of it that differ in what is to be said of them."""
    folder = tmp_path_factory.mktemp("dumps")
    clean, kvm = Slid("native"), Slid("kvm")
    (folder / "kernel").write_bytes(clean.image)
    (folder / "clean").write_bytes(clean.physical())
    # The text of a guest, and the ops of bare hardware: data that disagree.
    (folder / "data").write_bytes(kvm.physical())
    probed = bytearray(clean.physical())
    at = clean.kernel.address_of("sample_idle")
    assert at is not None
    probed[LARGE + at - (TEXT & -LARGE)] = 0xCC
    (folder / "probed").write_bytes(probed)
    (folder / "cut").write_bytes(clean.physical()[: LARGE + 1000])
    (folder / "none").write_bytes(bytes(LARGE))
    return folder


@pytest.mark.parametrize(
    ("dump", "words", "has"),
    [
        ("clean", [], ["votes", "not_judged", "unheard", "explained"]),
        ("data", [], ["data", "heard"]),
        ("probed", [], ["unexplained", "owned"]),
        ("probed", ["--allow", "kprobes"], ["allowed", "owned"]),
    ],
)
def test_a_report_of_a_dump_keeps_to_its_schema(dumps: Path, dump: str, words: list[str], has: list[str]) -> None:
    document = json.loads(pvops("verify", dumps / "kernel", dumps / dump, *words, "--json").stdout)
    every_key_counts("verify", document)
    assert all(document[key] for key in has)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("verdict", "fine"),
        ("explained", {"returns": "5"}),
        ("unheard", ["data", 5]),
        ("data", [{"what": "rumour", "name": "x", "address": "0x0", "expected": "yes", "found": "no"}]),
        ("rodata", {"address": "0x0", "size": 1, "wrong": 0, "unread": 0}),
        ("modules", [{"name": "ext4", "address": "0x0", "size": 4096, "judged": True}]),
        ("modules", "ext4"),
        ("owned", [{}]),
    ],
)
def test_what_no_report_says_breaks_its_schema(dumps: Path, key: str, wrong: object) -> None:
    document = json.loads(pvops("verify", dumps / "kernel", dumps / "clean", "--json").stdout)
    with pytest.raises(jsonschema.ValidationError):
        valid("verify", document | {key: wrong})


def test_reports_of_many_dumps_keep_to_their_schema_and_errors_are_among_them(dumps: Path) -> None:
    paths = [dumps / name for name in ("clean", "data", "cut", "none")]
    done = pvops("verify", dumps / "kernel", *paths, "--json")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    valid("verify-many", document)
    said = [report.get("verdict") or report["error"] for report in document["reports"]]
    assert said == ["clean", "modified", "DumpError", "DumpError"]
    for report in document["reports"]:
        valid("error" if "error" in report else "verify", report)
        with pytest.raises(jsonschema.ValidationError):
            valid("verify-many", {**document, "reports": [{**report, "schema": "pvops.sites/1"}]})


def test_a_report_keeps_to_its_schema(kernel: Callable[[str], package.Kernel]) -> None:
    opened = kernel("6.1.0-50-686-pae")
    text = bytearray(opened.plan().apply())
    text[0x1000:0x1003] = b"\xcc\xcc\xcc"
    report = opened.verify(bytes(text))
    valid("verify", report.to_dict())
    valid("machine", report.machine)


def test_machines_keep_to_their_schema_whose_keys_are_those_that_are_read(boot: Boot) -> None:
    valid("machine", Machine.load(boot.facts).to_dict())
    properties = schemas.schema("machine")["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(documents.KEYS)


@pytest.mark.parametrize("name", presets.NAMES)
def test_presets_do_too(name: str) -> None:
    valid("machine", presets.machine(name, hypervisor="kvm").to_dict())
    with pytest.raises(jsonschema.ValidationError):
        valid("machine", {"flag": []})


def test_an_unknown_document_is_answered_with_the_nearest() -> None:
    done = pvops("--schema", "verfiy")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"no document verfiy (did you mean verify?)" in done.stderr
