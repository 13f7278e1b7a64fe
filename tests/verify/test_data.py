"""The kernel's data and its text are held to each other: changes of one, of the other, of both, and of two that agree.

On a kernel made here, which slid, in physical memory with page tables.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest

import pvops
from image.memory.slid import SLIDE, Slid
from pvops.render.terminal import Style
from pvops.render.verify_text import lines, voted
from pvops.verify.report import Report, Vote

#: Where modules lie, and BPF programs.
OUTSIDE = 0xFFFF_FFFF_C040_0000


class Scene:
    """A kernel that booted natively: its memory, and what its text and data say."""

    def __init__(self) -> None:
        self.slid = Slid("native", tables=True)
        self.kernel = self.slid.kernel
        self.memory = self.slid.physical()
        self.clean = self.kernel.verify(self.memory)
        self.slots = {op: self.kernel.ops.slot(i) for i, op in enumerate(self.kernel.ops.names)}
        self.sites: dict[str, list[int]] = {}
        for site in self.kernel.sites:
            for row in site.rows:
                if row.table == "paravirt" and row.type is not None:
                    self.sites.setdefault(self.kernel.ops.names[row.type], []).append(site.address)
        #: Ops whose sites call a function: the others are inlined, or do nothing.
        self.called = {op: at for op, at in self.sites.items() if all(self.code(a, 1) == b"\xe8" for a in at)}

    def code(self, address: int, size: int) -> bytes:
        at = self.slid.offset(address)
        return self.memory[at : at + size]

    def judged(self, changes: Iterable[tuple[int, bytes]]) -> Report:
        """The report on memory with these bytes at these linked addresses."""
        memory = bytearray(self.memory)
        for address, new in changes:
            at = self.slid.offset(address)
            memory[at : at + len(new)] = new
        return self.kernel.verify(bytes(memory))

    def slot(self, op: str, function: int) -> tuple[int, bytes]:
        """The data: a slot that holds another function."""
        return self.slots[op], struct.pack("<Q", function + SLIDE)

    def calls(self, op: str, function: int) -> list[tuple[int, bytes]]:
        """The text: every site of an op calls another function."""
        return [(at, b"\xe8" + struct.pack("<i", function - at - 5)) for at in self.sites[op]]


@pytest.fixture(scope="module")
def scene() -> Scene:
    found = Scene()
    assert found.clean.verdict == "clean"
    assert len(found.called) > 20
    return found


def stranger(scene: Scene, dice: random.Random) -> int:
    """A function of the kernel that no backend puts into any slot."""
    names = [f"sample_{name}" for name in ("idle", "lock", "unlock", "spin", "switch", "exit")]
    address = scene.kernel.address_of(dice.choice(names))
    assert address is not None
    return address


def named(report: Report, what: str) -> set[str]:
    return {datum.name for datum in report.data.disagreements if datum.what == what}


def test_a_slot_that_was_changed_is_named_wherever_it_points(scene: Scene) -> None:
    dice = random.Random(1)
    for op in scene.slots:
        function = dice.choice([OUTSIDE - SLIDE, stranger(scene, dice)])
        report = scene.judged([scene.slot(op, function)])
        assert report.verdict == "modified", op
        assert named(report, "pv_ops") == {op}
        assert not report.unexplained


def test_calls_that_were_changed_are_named_however_many_agree(scene: Scene) -> None:
    dice = random.Random(2)
    for op in scene.called:
        report = scene.judged(scene.calls(op, stranger(scene, dice)))
        assert report.verdict == "modified", op
        found = {run.site for run in report.unexplained}
        assert found == set(scene.sites[op]), op


def test_text_and_data_changed_alike_are_found(scene: Scene) -> None:
    """Who changes all sites of an op, and its slot, to a function that no backend puts there."""
    dice = random.Random(3)
    for op in scene.called:
        function = stranger(scene, dice)
        report = scene.judged([*scene.calls(op, function), scene.slot(op, function)])
        assert report.verdict == "modified", op
        assert {run.site for run in report.unexplained} == set(scene.sites[op]), op


def test_two_ops_changed_alike_are_two(scene: Scene) -> None:
    dice = random.Random(4)
    for _ in range(10):
        first, second = dice.sample(sorted(scene.called), 2)
        function = stranger(scene, dice)
        changes = [c for op in (first, second) for c in (*scene.calls(op, function), scene.slot(op, function))]
        report = scene.judged(changes)
        assert {run.site for run in report.unexplained} == {*scene.sites[first], *scene.sites[second]}


def test_what_another_backend_puts_there_makes_the_guest_its_own(scene: Scene) -> None:
    """A legal change of all that speak of it cannot be told from that backend: it is what the report then says."""
    op = "pv_cpu_ops.io_delay"
    function = scene.kernel.address_of("kvm_io_delay")
    assert function is not None
    changed = scene.calls(op, function)
    assert named(scene.judged(changed), "pv_ops") == {op}
    both = scene.judged([*changed, scene.slot(op, function)])
    assert (both.verdict, both.backend) == ("clean", "kvm")


def test_a_static_key_that_was_changed_is_found_in_data_and_in_text(scene: Scene) -> None:
    keys = [vote for vote in scene.clean.votes if vote.about == "key"]
    assert keys
    for label in scene.kernel.sites:
        rows = [row for row in label.rows if row.table == "jump_labels"]
        if not rows:
            continue
        key = rows[0].key
        assert key is not None
        (enabled,) = struct.unpack("<i", scene.code(key, 4))
        report = scene.judged([(key, struct.pack("<i", not enabled))])
        assert report.verdict == "modified"
        assert len(named(report, "static_key")) == 1
        assert not report.unexplained
        # One label of several: the others outvote it, or the data do.
        nop, jump = b"\x0f\x1f\x44\x00\x00", b"\xe9"
        stands = scene.code(label.address, 5)
        other = jump + struct.pack("<i", 16) if stands.startswith(b"\x0f\x1f") else nop
        report = scene.judged([(label.address, other)])
        assert report.verdict == "modified"
        suspects = {suspect for run in report.unexplained for suspect in (run.site, *run.suspects)}
        assert label.address in suspects


def test_a_bit_of_any_byte_of_text_is_found_with_data_beside_it(scene: Scene) -> None:
    dice = random.Random(5)
    report = scene.clean
    for _ in range(100):
        address = report.address + dice.randrange(report.size)
        byte = scene.code(address, 1)[0] ^ 1 << dice.randrange(8)
        changed = scene.judged([(address, bytes([byte]))])
        assert changed.verdict == "modified", hex(address)
        holds = [run for run in changed.unexplained if 0 <= address - run.address < len(run.found) or run.suspects]
        assert holds, hex(address)


def test_data_are_not_heard_where_there_are_none(scene: Scene) -> None:
    text = scene.slid.text
    report = pvops.open(scene.slid.image).verify(text)
    assert not report.data.counts
    assert list(report.data.unheard) == ["data: memory is .text alone"]


def test_text_that_was_being_written_is_said_to_be(scene: Scene) -> None:
    assert scene.clean.being_written == []
    report = scene.clean._replace(being_written=[0xFFFF_FFFF_8100_0040, 0xFFFF_FFFF_8100_0050])
    said = " ".join(" ".join(lines(report, Style("never"))).split())
    assert "judged as they will be: 2 places, the first at 0xffffffff81000040" in said
    assert report.to_dict()["being_written"] == ["0xffffffff81000040", "0xffffffff81000050"]


@pytest.mark.parametrize(("votes", "given", "said"), [(0, False, "f, a guess"), (1, False, "f"), (0, True, "f")])
def test_what_no_site_says_is_called_a_guess(votes: int, given: bool, said: str) -> None:
    assert voted(Vote("static_call", "key", "f", votes, 2, given)) == said
