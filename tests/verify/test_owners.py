"""Who else may write text: ``allow`` passes an owner's bytes at that owner's places, however many, and no other."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kernels.given import Boot
from pvops.kernel import Kernel
from pvops.render import terminal, verify_text
from pvops.verify.report import Report
from verify.test_boots import text_of
from verify.test_command import RELEASE, text_address

pytestmark = pytest.mark.kernels

#: Where modules lie, as seen from a kernel that did not slide.
OUTSIDE = 0xFFFFFFFFC0400000


class Text:
    """Text of a boot that is changed, and judged."""

    def __init__(self, kernel: Kernel, memory: bytes) -> None:
        self.kernel, self.start, self.memory = kernel, text_address(kernel), memory

    def at(self, place: str, offset: int = 0) -> int:
        address = self.kernel.address_of(place)
        assert address is not None, place
        return address + offset

    def judged(self, changes: dict[int, bytes], *allow: str) -> Report:
        memory = bytearray(self.memory)
        for address, code in changes.items():
            memory[address - self.start : address - self.start + len(code)] = code
        return self.kernel.verify(bytes(memory), allow=allow)

    def branch(self, opcode: int, address: int, target: int = OUTSIDE) -> bytes:
        return bytes([opcode]) + (target - address - 5 & 0xFFFFFFFF).to_bytes(4, "little")


@pytest.fixture(scope="module")
def text(kernels_root: Path, kernel: Callable[[str], Kernel]) -> Text:
    opened = kernel(RELEASE)
    _, memory = text_of(opened, Boot(kernels_root / f"boots/{RELEASE}~native-max-smp2.json"))
    return Text(opened, memory)


def test_a_breakpoint_passes_alone(text: Text) -> None:
    place = text.at("do_sys_openat2", 5)
    assert text.judged({place: b"\xcc"}, "kprobes").verdict == "clean"
    assert text.judged({place: b"\xcc"}).verdict == "modified"
    for behind in (b"\x90", random.Random(1).randbytes(1000)):
        report = text.judged({place: b"\xcc" + behind}, "kprobes")
        assert report.verdict == "modified"
        assert [(run.address, len(run.owned.bytes)) for run in report.allowed if run.owned] == [(place, 1)]
        assert all(run.address > place for run in report.unexplained)


@pytest.mark.parametrize("name", ["entry_SYSCALL_64", "exc_int3", "asm_exc_page_fault"])
def test_where_the_kernel_lets_nobody_write_nobody_passes(text: Text, name: str) -> None:
    place = text.at(name)
    for code in (b"\xcc", text.branch(0xE8, place), text.branch(0xE9, place)):
        report = text.judged({place: code}, "kprobes", "bpf", "ftrace", "livepatch", "modules")
        assert report.verdict == "modified", code
        assert [run.looks_like for run in report.unexplained] == [None] * len(report.unexplained)


@pytest.mark.parametrize("name", ["do_int3", "kprobe_int3_handler"])
def test_a_function_on_the_blacklist_has_no_probes_but_may_be_traced(text: Text, name: str) -> None:
    place = text.at(name)
    for code in (b"\xcc", text.branch(0xE8, place), text.branch(0xE9, place)):
        assert text.judged({place: code}, "kprobes").verdict == "modified", code
    traced = place in [row[1] for row in text.kernel.tables.rows("mcount")]
    allowed = text.judged({place: text.branch(0xE8, place)}, "ftrace").verdict
    assert allowed == ("clean" if traced else "modified")


def test_the_head_of_a_traced_function_takes_a_call_and_no_jump(text: Text) -> None:
    place = text.at("do_sys_openat2")
    for owner in ("ftrace", "livepatch", "kprobes", "bpf"):
        assert text.judged({place: text.branch(0xE8, place)}, owner).verdict == "clean"
    assert text.judged({place: text.branch(0xE8, place)}, "modules").verdict == "modified"
    report = text.judged({place: text.branch(0xE9, place)}, "kprobes", "bpf", "ftrace")
    assert (report.verdict, report.unexplained[0].looks_like) == ("modified", None)
    wide = text.branch(0xE8, place) + random.Random(2).randbytes(1000)
    report = text.judged({place: wide}, "bpf")
    assert report.verdict == "modified"
    assert sum(run.wrong for run in report.allowed) <= 5


def test_a_tracer_in_use_is_allowed_at_every_function_and_said_once(text: Text) -> None:
    sites = [row[1] for row in text.kernel.tables.rows("mcount") if 0 <= row[1] - text.start < len(text.memory)]
    assert len(sites) > 30_000
    changes = {site: text.branch(0xE8, site) for site in sites}
    report = text.judged(changes, "ftrace")
    assert (report.verdict, len(report.allowed)) == ("clean", len(sites))
    report = text.judged(changes)
    assert (report.verdict, len(report.unexplained)) == ("modified", len(sites))
    lines = list(verify_text.lines(report, terminal.Style("never")))
    said = [line for line in lines if "ftrace" in line]
    assert len(said) == 1
    assert f"{len(sites):,} places" in said[0]


def test_owned_bytes_are_a_list_of_the_document(text: Text) -> None:
    place = text.at("do_sys_openat2", 5)
    document = text.judged({place: b"\xcc"}, "kprobes").to_dict()
    assert document["owned"] == [
        {
            "address": f"{place:#x}",
            "symbol": "do_sys_openat2+0x5",
            "bytes": "cc",
            "owner": "kprobes",
            "owners": ["kprobes"],
            "target": None,
            "registered": None,
            "handler": None,
        }
    ]


def test_of_two_voters_that_disagree_both_are_named(text: Text) -> None:
    votes = {vote.name: vote for vote in text.judged({}).votes if vote.about == "static_call"}
    by_key: dict[int, list[int]] = {}
    for _, address, _, _, _, _, key, _ in text.kernel.tables.rows("static_calls"):
        if key is not None:
            by_key.setdefault(key, []).append(address)
    key, (site,) = next(
        (key, sites)
        for key, sites in by_key.items()
        if len(sites) == 1
        and 0 <= sites[0] - text.start < len(text.memory)
        and text.memory[sites[0] - text.start] in (0xE8, 0xE9)
        and (name := text.kernel.symbol_at(key)) is not None
        and votes[name].votes == 2
    )
    other = text.at("do_sys_openat2")
    opcode = text.memory[site - text.start]
    report = text.judged({site: text.branch(opcode, site, other)})
    name = text.kernel.symbol_at(key)
    assert name is not None
    trampoline = text.at(name.replace("__SCK__", "__SCT__"))
    (run,) = report.unexplained
    assert sorted(run.suspects) == sorted([site, trampoline])
    entries = report.to_dict()["unexplained"]
    assert isinstance(entries, list)
    assert set(entries[0]["suspects"]) == {f"{site:#x}", f"{trampoline:#x}"}
