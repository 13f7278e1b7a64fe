"""What a kernel's own lists say of who wrote its text: who registered is named, who did not is not allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

import pvops
from pvops.kernel import Kernel
from pvops.verify.registry import Naming, Registry
from pvops.verify.report import Owned

SLIDE = 0x1240_0000
TEXT = 0xFFFF_FFFF_8100_0000
HERE = TEXT + 0x40
MODULE = 0xFFFF_FFFF_C000_0000


@pytest.fixture(scope="module")
def name(sample_kernel: Path) -> Naming:
    return Naming(pvops.open(sample_kernel), SLIDE, [("probing", MODULE, 0x2000)])


def owned(*owners: str) -> Owned:
    """An int3, or whatever these write, at one place."""
    return Owned(HERE, "f+0x0", b"\xcc", owners, None)


def registry(*entries: tuple[str, int], read: tuple[str, ...] = ("kprobes", "ftrace", "bpf", "livepatch")) -> Registry:
    return Registry({(owner, address + SLIDE): MODULE + 0x10 for owner, address in entries}, frozenset(read))


def test_who_has_registered_is_named_with_what_is_called(name: Naming) -> None:
    named = registry(("kprobes", HERE)).named(owned("kprobes"), HERE + SLIDE, name)
    assert (named.registered, named.handler) == (True, f"{MODULE + 0x10:#x} in module probing")


def test_the_one_that_registered_comes_first(name: Naming) -> None:
    named = registry(("bpf", HERE)).named(owned("ftrace", "bpf"), HERE + SLIDE, name)
    assert (named.owners[0], named.registered) == ("bpf", True)


def test_lists_of_functions_name_what_lies_behind_endbr(name: Naming) -> None:
    for owner, expected in (("bpf", True), ("livepatch", True), ("kprobes", False)):
        named = registry((owner, HERE - 4)).named(owned(owner), HERE + SLIDE, name)
        assert named.registered is expected, owner


def test_a_list_that_was_read_and_has_nothing_there_says_so(name: Naming) -> None:
    assert registry().named(owned("kprobes"), HERE + SLIDE, name).registered is False
    unread = registry(read=("ftrace",)).named(owned("kprobes"), HERE + SLIDE, name)
    assert unread.registered is None
    assert Registry().named(owned("kprobes"), HERE + SLIDE, name).registered is None


def test_allowed_is_who_registered_where_that_can_be_read() -> None:
    at = HERE + SLIDE
    assert registry(("kprobes", HERE)).allows(owned("kprobes"), at, {"kprobes"})
    assert not registry(("kprobes", HERE)).allows(owned("kprobes"), at, {"bpf"})
    assert not registry().allows(owned("kprobes"), at, {"kprobes"})
    assert Registry().allows(owned("kprobes"), at, {"kprobes"}), "nothing is known of lists that were not read"
    assert registry().allows(owned("bpf", "modules"), at, {"modules"}), "modules keep no list"


def test_a_function_that_is_traced_by_the_records_alone_is_named(sample_kernel: Path) -> None:
    kernel: Kernel = pvops.open(sample_kernel)
    found = registry(("ftrace", HERE), ("ftrace", MODULE), ("kprobes", HERE + 1)).untraced(
        kernel, SLIDE, range(TEXT, TEXT + 0x1000), []
    )
    assert [(datum.what, datum.address, datum.found) for datum in found] == [("ftrace", HERE, "traced")]


def test_the_tracers_own_calls_are_its_while_anything_is_traced() -> None:
    own = Owned(HERE, "ftrace_call+0x0", b"\xe8\0\0\0\0", ("ftrace",), MODULE)
    assert registry(("ftrace", TEXT)).allows(own, HERE + SLIDE, {"ftrace"})
    assert not registry().allows(own, HERE + SLIDE, {"ftrace"})
