"""What a kernel's own lists say of who wrote its text: who registered is named, who did not is not allowed."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

import pytest

import pvops
from pvops.kernel import Kernel
from pvops.verify.registry import Entry, Naming, Registry, Tracer
from pvops.verify.report import Owned, Unexplained

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


def branch(opcode: int, target: int, *owners: str, symbol: str = "f+0x0") -> Owned:
    """A branch that runs to the target, at the same place; the target is a run-time address."""
    return Owned(HERE, symbol, bytes([opcode, 0, 0, 0, 0]), owners, target - SLIDE)


def registry(*entries: tuple[str, int], read: tuple[str, ...] = ("kprobes", "ftrace", "bpf", "livepatch")) -> Registry:
    return Registry({(owner, address + SLIDE): Entry(MODULE + 0x10) for owner, address in entries}, frozenset(read))


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


def run(address: int, *owners: str) -> Unexplained:
    """A byte that an owner may have written."""
    bytes_ = Owned(address, "f+0x0", b"\xcc", owners, None)
    return Unexplained(address, "f+0x0", b"\x90", b"\xcc", 1, address, "", "", None, bytes_, None, ())


def test_a_probe_in_the_list_of_another_address_is_named(sample_kernel: Path) -> None:
    found = Registry(misplaced=[HERE + SLIDE]).silent(pvops.open(sample_kernel), SLIDE, [], [])
    assert [(d.what, d.address, d.expected, d.found) for d in found] == [("kprobes", HERE, "in its list", "elsewhere")]


def test_a_module_that_is_traced_by_its_record_alone_is_named(sample_kernel: Path) -> None:
    lists = Registry(idle=[MODULE + 5], modules=[("ext4", MODULE, 0x1000)])
    found = lists.silent(pvops.open(sample_kernel), SLIDE, [], [])
    assert [(d.what, d.name, d.expected, d.found) for d in found] == [
        ("ftrace", f"{MODULE + 5:#x} in module ext4", "not traced", "traced")
    ]


def test_what_is_registered_and_not_in_the_text_is_named(sample_kernel: Path) -> None:
    kernel: Kernel = pvops.open(sample_kernel)
    text = [range(TEXT, HERE + 1), range(HERE + 1, TEXT + 0x1000)]
    lists = registry(("ftrace", HERE), ("ftrace", MODULE), ("kprobes", HERE + 1), ("kprobes", HERE + 8))
    found = lists.silent(kernel, SLIDE, text, [run(HERE, "ftrace"), run(HERE + 1, "kprobes")])
    assert [(datum.what, datum.address, datum.expected, datum.found) for datum in found] == [
        ("kprobes", HERE + 8, "not probed", "probed")
    ]


def test_the_tracers_own_calls_are_its_while_anything_is_traced() -> None:
    # Its symbol may be another of that address: `ftrace_epilogue`.
    own = branch(0xE8, MODULE, "ftrace", "kprobes")
    traced, quiet = (lists._replace(calls={HERE + SLIDE}) for lists in (registry(("ftrace", TEXT)), registry()))
    assert traced.allows(own, HERE + SLIDE, {"ftrace"})
    assert not quiet.allows(own, HERE + SLIDE, {"ftrace"})
    probing = registry(("ftrace", TEXT), ("kprobes", TEXT))._replace(calls={HERE + SLIDE})
    assert probing.allows(own, HERE + SLIDE, {"kprobes"}), "they are written for all who trace"
    probing = probing._replace(tracers=[])
    assert not probing.allows(own, HERE + SLIDE, {"ftrace"}), "nobody traces with that function"
    assert probing._replace(tracers=[Tracer(0, MODULE, "ftrace")]).allows(own, HERE + SLIDE, {"ftrace"})
    assert probing._replace(callees={MODULE}).allows(own, HERE + SLIDE, {"ftrace"})


def test_an_optimised_probe_jumps_to_its_own_code() -> None:
    at = HERE + SLIDE
    for held, allowed in ((None, True), (MODULE + 0x80, True), (MODULE + 0x84, False), (0, False)):
        lists = Registry({("kprobes", at): Entry(0, held)}, {"kprobes"})
        assert lists.allows(branch(0xE9, MODULE + 0x80, "kprobes"), at, {"kprobes"}) is allowed, held
        assert lists.allows(owned("kprobes"), at, {"kprobes"}), "not yet optimised"


def test_a_handler_is_code_of_the_kernel_or_of_a_module(name: Naming) -> None:
    at, kernels = HERE + SLIDE, range(TEXT + SLIDE, TEXT + SLIDE + 0x1000)
    for handler, modules, allowed in (
        (TEXT + SLIDE + 0x80, (), True),
        (MODULE + 0x10, [("probing", MODULE, 0x2000)], True),
        (MODULE + 0x2000, [("probing", MODULE, 0x2000)], False),
        (MODULE + 0x10, (), False),
        (MODULE + 0x10, None, True),  # no modules are listed
        (0, (), True),  # a probe that is only called behind the instruction
    ):
        lists = Registry({("kprobes", at): Entry(handler, 0)}, {"kprobes"}, modules=modules, image=kernels)
        assert lists.allows(owned("kprobes"), at, {"kprobes"}) is allowed, (handler, modules)
        named = lists.named(owned("kprobes"), at, name)
        assert named.registered is allowed
        assert allowed or named.handler == f"{handler:#x}, in no module"
    tracer = Tracer(MODULE + 0x100, MODULE + 0x10, "ftrace")
    lists = Registry({("ftrace", at): Entry()}, {"ftrace"}, tracers=[tracer], modules=[], image=kernels)
    call = branch(0xE8, MODULE + 0x100, "ftrace")
    assert not lists.allows(call, at, {"ftrace"})
    assert lists.named(call, at, name).handler == f"{MODULE + 0x10:#x}, in no module"
    assert lists._replace(modules=[("tracing", MODULE, 0x100)]).allows(call, at, {"ftrace"})


ALL = ("ftrace", "livepatch", "kprobes", "bpf")


def traced(*owners: str) -> Registry:
    """All of these at one place, the tracers through code of their own."""
    entries = {(owner, HERE + SLIDE): Entry(branch=MODULE + 0x500 if owner == "bpf" else None) for owner in owners}
    tracers = [Tracer(MODULE + 0x100 * i, MODULE + 0x900 + i, owner) for i, owner in enumerate(ALL)]
    return Registry(entries, frozenset(ALL), tracers=tracers, image=range(TEXT + SLIDE, TEXT + SLIDE + 0x1000))


def test_a_traced_function_calls_the_code_that_was_made_for_who_traces(name: Naming) -> None:
    for i, owner in enumerate(ALL):
        there = branch(0xE8, MODULE + 0x100 * i, *ALL)
        for allowed in ALL:
            assert traced(*ALL).allows(there, HERE + SLIDE, {allowed}) is (allowed == owner), (owner, allowed)
        assert traced(*ALL).named(there, HERE + SLIDE, name).owners[0] == owner
    elsewhere = branch(0xE8, MODULE + 0x40, *ALL)
    assert not traced(*ALL).allows(elsewhere, HERE + SLIDE, set(ALL))
    assert traced(*ALL).named(elsewhere, HERE + SLIDE, name).registered is False
    assert traced(*ALL)._replace(tracers=None).allows(elsewhere, HERE + SLIDE, {"ftrace"}), "nothing is known of it"


def test_a_tracer_traces_what_it_was_told_to() -> None:
    found = traced(*ALL)
    assert found.tracers is not None
    there = branch(0xE8, MODULE, *ALL)
    for places, allowed in (({HERE + SLIDE}, True), ({HERE + SLIDE + 0x40}, False)):
        only = found._replace(tracers=[found.tracers[0]._replace(places=places)])
        assert only.allows(there, HERE + SLIDE, {"ftrace"}) is allowed


def test_a_function_of_the_kernels_calls_all_who_trace_where_the_record_says_so() -> None:
    caller, at = branch(0xE8, TEXT + SLIDE + 0x80, *ALL), HERE + SLIDE
    for owner in ALL:
        lists = traced(owner)
        for held, allowed in ((TEXT + SLIDE + 0x80, True), (TEXT + SLIDE + 0x90, False), (None, False)):
            found = lists._replace(entries={**lists.entries, ("ftrace", at): Entry(branch=held)})
            assert found.allows(caller, at, {owner}) is allowed, (owner, held)
            assert not found.allows(caller, at, {"modules"})
        # Code of the tracer's own is not called where the record says that none is.
        found = lists._replace(entries={**lists.entries, ("ftrace", at): Entry(branch=TEXT + SLIDE + 0x80)})
        assert not found.allows(branch(0xE8, MODULE, *ALL), at, set(ALL))


def test_a_bpf_trampoline_is_called_where_it_is(name: Naming) -> None:
    trampoline = branch(0xE8, MODULE + 0x500, *ALL)
    found = traced("ftrace", "bpf")
    assert found.allows(trampoline, HERE + SLIDE, {"bpf"})
    assert not found.allows(trampoline, HERE + SLIDE, {"ftrace"}), "the record is on, and not for a tracer"
    assert found.named(trampoline, HERE + SLIDE, name).owners[0] == "bpf"
    assert not found.allows(branch(0xE8, MODULE + 0x504, *ALL), HERE + SLIDE, {"bpf"})


def test_a_dispatcher_goes_where_its_programs_are() -> None:
    at = HERE + SLIDE
    for symbol, start in (("bpf_dispatcher_xdp_func+0x6", at - 6), ("__SCT__bpf_dispatcher_xdp_call+0x0", at)):
        jump = branch(0xE9, MODULE + 0x800, "bpf", symbol=symbol)
        assert registry().allows(jump, at, {"bpf"}), "nothing is known of dispatchers"
        assert registry()._replace(dispatchers={start: MODULE + 0x800}).allows(jump, at, {"bpf"})
        assert not registry()._replace(dispatchers={start: MODULE + 0x804}).allows(jump, at, {"bpf"})
        assert not registry()._replace(dispatchers={}).allows(jump, at, {"bpf"}), "it has no programs"


def test_a_branch_to_a_module_goes_to_one_that_is_loaded(name: Naming) -> None:
    jump = branch(0xE9, MODULE + 0x30, "modules")
    assert registry().allows(jump, HERE + SLIDE, {"modules"}), "no list of modules was read"
    loaded = registry()._replace(modules=[("probing", MODULE, 0x2000)])
    assert loaded.allows(jump, HERE + SLIDE, {"modules"})
    assert loaded.named(jump, HERE + SLIDE, name).handler == f"{MODULE + 0x30:#x} in module probing"
    assert not registry()._replace(modules=[]).allows(jump, HERE + SLIDE, {"modules"})
    assert not loaded.allows(branch(0xE9, MODULE + 0x2000, "modules"), HERE + SLIDE, {"modules"})


class Traced:
    """A kernel whose tracer's calls are as they were built: they go to `ftrace_stub`."""

    names: ClassVar = {
        "ftrace_stub": TEXT,
        "ftrace_call": TEXT + 0x10,
        "ftrace_regs_call": TEXT + 0x20,
        "ftrace_graph_call": TEXT + 0x30,
        "ftrace_graph_caller": TEXT + 0x50,
        "function_trace_call": TEXT + 0x60,
        "ftrace_ops_list_func": TEXT + 0x70,
    }

    def address_of(self, name: str) -> int | None:
        return self.names.get(name)

    def place(self, address: int) -> str | None:
        return next((name for name, at in self.names.items() if at == address), None)

    def read(self, address: int, size: int) -> bytes:
        return b"\xe8" + (TEXT - address - 5).to_bytes(4, "little", signed=True)

    @property
    def image(self) -> Traced:
        return self


def test_the_tracers_calls_go_where_its_variables_say() -> None:
    kernel, tracing = Traced(), TEXT + 0x60
    text = [range(TEXT, TEXT + 0x1000)]

    def named(function: int | None, graph: bool | None, *runs: Unexplained) -> list[tuple[str, str]]:
        lists = Registry(tracing=(None if function is None else function + SLIDE, graph))
        found = lists.silent(cast("Kernel", kernel), SLIDE, text, runs)
        assert all(datum.what == "ftrace" and (runs or datum.expected == "ftrace_stub") for datum in found)
        return [(datum.name, datum.found) for datum in found]

    def goes(call: str, target: int) -> Unexplained:
        at = kernel.names[call]
        return run(at, "ftrace")._replace(owned=Owned(at, f"{call}+0x0", b"\xe8\0\0\0\0", ("ftrace",), target))

    assert named(TEXT, False) == [], "the call was written to go nowhere again"
    assert named(TEXT, False, goes("ftrace_call", tracing)) == [("ftrace_call", "ftrace_stub")]
    assert named(None, False, goes("ftrace_call", tracing)) == [], "nothing tells where it was written to go"
    assert named(None, False, goes("ftrace_graph_call", tracing)) == [("ftrace_graph_call", "ftrace_stub")]
    assert named(None, False, goes("ftrace_graph_call", TEXT + 0x50)) == [], "left by a graph tracer that stopped"
    assert named(None, None) == [], "the image does not say"
    both = [("ftrace_call", "function_trace_call"), ("ftrace_regs_call", "function_trace_call")]
    assert named(tracing, False) == both
    assert named(tracing, False, goes("ftrace_call", tracing)) == both[1:]
    assert named(tracing, False, *(goes(name, tracing) for name, _ in both)) == []
    assert named(TEXT, True) == [("ftrace_graph_call", "ftrace_graph_caller")]
    assert named(TEXT, True, goes("ftrace_graph_call", TEXT + 0x50)) == []
    everyone = [goes(name, TEXT + 0x70) for name, _ in both]
    elsewhere = run(kernel.names["ftrace_call"])._replace(owned=None)
    assert named(tracing, False, elsewhere) == both[1:], "what nobody writes is unexplained as it is"
    # While the functions that are traced are written, of who begins or stops, all who trace are asked.
    assert len(named(TEXT, False, *everyone)) == 2, "nobody traces"
    stops = Registry({("ftrace", HERE + SLIDE): Entry()}, tracing=(TEXT + SLIDE, False))
    begins = Registry(tracers=[Tracer(MODULE, tracing + SLIDE, "ftrace")], tracing=(tracing + SLIDE, False))
    for lists in (stops, begins):
        assert lists.silent(cast("Kernel", kernel), SLIDE, [range(TEXT, HERE)], everyone) == []
    # The graph tracer's call is written last.
    lists = Registry(tracing=(None, True))
    assert len(lists.silent(cast("Kernel", kernel), SLIDE, text, ())) == 1
    assert lists.silent(cast("Kernel", kernel), SLIDE, text, (), writing=True) == []


def test_the_tracers_calls_are_written_before_the_first_record_is() -> None:
    call = Owned(HERE, "ftrace_call+0x0", b"\xe8\0\0\0\0", ("ftrace",), TEXT + 0x70)
    lists = Registry(read={"ftrace"}, calls={HERE + SLIDE}, callees={TEXT + 0x70 + SLIDE}, tracers=[])
    assert not lists.allows(call, HERE + SLIDE, {"ftrace"}), "nobody traces"
    begins = lists._replace(tracers=[Tracer(MODULE, TEXT + 0x60 + SLIDE, "ftrace")])
    assert begins.allows(call, HERE + SLIDE, {"ftrace"})
