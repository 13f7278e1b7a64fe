"""The published JSON Schemas: one for each document, and what the commands print keeps to them."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pvops as package
from cli.run import pvops
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
    "presets": ["machine", "--presets"],
    "error": ["sites", "/nonexistent"],
    "lock.check": ["lock", "check", "--protocol", "pv-ticket", "--mutant", "none", "--threads", "2"],
    "lock_simulate": ["lock", "simulate", "--protocol", "pv-ticket", "--vcpus", "2", "--duration", "0.01"],
}


def printed(words: list[str], kernel: Path, folder: Path) -> Any:
    """The document that a command prints."""
    address = f"{package.open(kernel).sites[0].address:#x}"
    place: dict[str, str | Path] = {"KERNEL": kernel, "ADDRESS": address, "OUT": folder / "out"}
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
