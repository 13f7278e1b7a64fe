"""What decides boots of kernels before 4.20, on machines and images made by hand."""

from __future__ import annotations

import pytest

import pvops
from image.nameless import without_symbols
from pvops import eras, sample
from pvops.decide import netfilter
from pvops.decide.answers import Facts
from pvops.eras.nops import Cpu
from pvops.eras.version import of_sources
from pvops.image.numbers import printed_as
from pvops.kernel import Kernel
from pvops.machine.machine import Machine

CORE_2 = Cpu("intel", 6, 15, frozenset({"P3"}))
GENERIC = "CPU: vendor_id 'GenuineIntel' unknown, using generic init."


@pytest.mark.parametrize(
    ("release", "table"),
    [
        *(
            ((3, 2, 7), "generic"),
            ((3, 2, 28), "k8"),
            ((3, 4, 4), "generic"),
            ((3, 4, 48), "k8"),
            ((3, 3, 5), "generic"),
        ),
        *(((3, 5, 1), "generic"), ((3, 5, 2), "k8"), ((3, 6), "k8"), ((3, 7, 10), "k8"), ((4, 1, 13), "k8")),
    ],
)
def test_stable_releases_choose_intels_nops_as_3_6_does(release: tuple[int, ...], table: str) -> None:
    """d6250a3f12ed: a ``break`` between two vendors."""
    name = eras.of_version(release)
    assert name is not None
    assert eras.era(name).nops.of_release(release).choose(32, CORE_2).table == table


def test_an_image_without_p6_nops_chooses_as_before() -> None:
    """Distributions count their own releases: 3.2.0-23 may be any 3.2. On i386 gcc leaves out a table nothing uses."""
    nops = eras.era("3.1").nops
    has = ("k8", "k7", "generic")
    assert nops.of_release((3, 2, 60), has).choose(32, CORE_2).table == "generic"
    assert nops.of_release((3, 2, 60), (*has, "p6")).choose(32, CORE_2).table == "k8"


def flush(era: str, machine: Machine) -> str | None:
    kernel = pvops.open(sample.build(era, 64, tables=True).elf)
    return kernel.plan("kvm", machine=machine).slots["pv_mmu_ops.flush_tlb_others"].symbol


@pytest.mark.parametrize(
    ("era", "hints", "function"),
    [
        ("4.14", 0, "native_flush_tlb_others"),
        ("4.16", 0, "kvm_flush_tlb_others"),
        ("4.16", 1, "kvm_flush_tlb_others"),
        ("4.17", 0, "kvm_flush_tlb_others"),
        ("4.17", 1, "native_flush_tlb_others"),
    ],
)
def test_kvms_flush_of_other_cpus(era: str, hints: int, function: str) -> None:
    """858a43aae236 (4.16); 6beacf74c257 (4.17) leaves it out where CPUs are dedicated."""
    name = {"eax": 0x40000001, "ebx": 0x4B4D564B, "ecx": 0x564B4D56, "edx": 0x4D}  # "KVMKVMKVM"
    leaf = {"0x40000000": name, "0x40000001": {"eax": (1 << 9) | (1 << 5), "edx": hints}}
    machine = Machine.from_dict({"hypervisor": "kvm", "online_cpus": 2, "cpuid": leaf})
    assert flush(era, machine) == function


@pytest.mark.parametrize(("log", "table"), [("", "k8"), (GENERIC, "generic")])
def test_a_vendor_that_the_kernel_has_no_code_for_is_unknown(log: str, table: str) -> None:
    kernel = pvops.open(sample.build("3.10", 32, tables=True).elf)
    machine = Machine(name="old", vendor="GenuineIntel", family=6, model=15, flags=frozenset({"sse2"}), dmesg=log)
    plan = kernel.plan(machine=machine)
    assert plan.nops.table == table
    assert kernel.verify(plan.apply())
    assert Facts(machine, (3, 10), 32).vendor == ("unknown" if log else "intel")


@pytest.mark.parametrize(
    ("name", "printed"),
    [("EAGER_FPU", "eagerfpu"), ("CLFLSH", "clflush"), ("CLFLUSH", "clflush"), ("VMCBCLEAN", "vmcb_clean")],
)
def test_features_are_printed_by_names_of_their_own(name: str, printed: str) -> None:
    assert printed_as(name) == printed


def with_functions(*names: str) -> Kernel:
    return pvops.open(sample.build("4.1", functions=names).elf)


@pytest.mark.parametrize(
    ("version", "on"), [((4, 1), {0, 1, 2, 3, 4}), ((4, 9), {0, 1, 2, 3, 4}), ((4, 10), {1, 2, 3}), ((5, 15), set())]
)
def test_hooks_of_what_is_built_in(version: tuple[int, int], on: set[int]) -> None:
    """The filter table has one more hook than connection tracking: FORWARD."""
    kernel = with_functions("iptable_filter_init", "nf_conntrack_l3proto_ipv4_init")
    hooks = netfilter.registered(kernel, version)
    assert {hook for protocol, hook in hooks if protocol == 2} == on
    assert not any(protocol == 10 for protocol, _ in hooks)


def test_keys_of_hooks_are_known_by_their_place_or_by_who_asks() -> None:
    hooks = netfilter.registered(with_functions("iptable_filter_init"), (4, 4))
    for hooks_, version in ((8, "before 4.16"), (5, "since")):
        at = netfilter.state(hooks, "nf_hooks_needed", (2 * hooks_ + 1) * 16, 13 * hooks_ * 16, [])
        assert at is not None, version
    by_place = netfilter.state(hooks, "nf_hooks_needed", (2 * 8 + 1) * 16, 13 * 8 * 16 + 8, ["anything"])
    assert by_place is not None
    assert by_place.value
    assert netfilter.state(hooks, "nf_hooks_needed", (2 * 8 + 0) * 16, 13 * 8 * 16, []) is None
    assert netfilter.state(hooks, "other_key", 16, 32, ["ip_local_deliver"]) is None
    by_function = netfilter.state(hooks, None, 0, 0, ["ip_local_deliver.isra.3"])
    assert by_function is not None
    assert "iptable_filter_init" in by_function.source
    assert netfilter.state(hooks, None, 0, 0, ["ip6_input"]) is None


def keys_of(base: int, key: int, hooks: int) -> list[int]:
    """The keys of nf_hooks_needed that a kernel with IPv4 and ARP asks, in the order of their addresses."""
    asked = [(2, hook) for hook in range(5)] + [(3, 0), (3, 1)]
    return [base + (protocol * hooks + hook) * key for protocol, hook in asked]


@pytest.mark.parametrize(("key", "hooks"), [(8, 8), (16, 8), (24, 7), (16, 5), (12, 5)])
def test_the_array_of_hooks_is_found_by_which_of_its_keys_are_asked(key: int, hooks: int) -> None:
    addresses = [0x1000, 0x1100, 0x1108, *keys_of(0x8000, key, hooks), 0xA000]
    array = netfilter.unnamed(set(addresses), addresses)
    assert array is not None
    assert (array.base, array.key, array.hooks) == (0x8000, key, hooks)
    assert array.place(0x8000 + (10 * hooks + 3) * key) == (10, 3)
    assert array.place(0x8001)[0] == -1


def test_keys_that_lie_otherwise_are_no_array_of_hooks() -> None:
    one = keys_of(0x8000, 8, 8)
    assert netfilter.unnamed(set(one[:-1]), one) is None
    two = [*one, *keys_of(0x9000, 8, 8)]
    assert netfilter.unnamed(set(two), two) is None


def test_without_symbols_a_parameter_says_that_the_filter_is_built_in() -> None:
    built = sample.build("4.14").elf
    assert not netfilter.registered(without_symbols(built), (4, 14))
    named = built.replace(b"(made by pvops.sample)", b"iptable_filter.forward")
    assert named != built
    assert not netfilter.registered(without_symbols(named), (4, 14)), "no end behind the name: another parameter's"
    # What follows the banner is zeros: the name moves to its end.
    banner = built.index(b"Linux version ")
    end = built.index(b"\0", banner)
    name = b"iptable_filter.forward"
    moved = built[: end - len(name)] + name + built[end:]
    assert set(netfilter.registered(without_symbols(moved), (4, 14))) == {(2, 1), (2, 2), (2, 3)}
    assert not netfilter.registered(without_symbols(moved), (5, 15))


@pytest.mark.parametrize(
    ("release", "banner", "version"),
    [
        ("3.2.0-4-686-pae", "Linux version 3.2.0-4-686-pae (gcc (Debian 4.6.3-14)) #1 SMP Debian 3.2.60-1", (3, 2, 60)),
        ("3.2.0-67-generic", "Linux version 3.2.0-67-generic (buildd@x) #101-Ubuntu SMP", (3, 2, 0)),
        ("6.1.0-56-amd64", "Linux version 6.1.0-56-amd64 #1 SMP Debian 6.1.181-1 (2026-11-01)", (6, 1, 181)),
        ("6.1.9", "Linux version 6.1.9 (me@here) #2 SMP Debian 12", (6, 1, 9)),
        ("3.2", "Linux version 3.2 (me@here) #1 SMP Debian 3.16.7-1", (3, 2)),
        ("3.2.0", "Linux version 3.2.0 (a Debian 3.2.99 b) #1", (3, 2, 0)),
        ("2.6.41.4-1.fc15.i686", "Linux version 2.6.41.4-1.fc15.i686 (mockbuild@x) #1 SMP", (3, 1, 4)),
        ("2.6.40", None, (3, 0)),
        ("2.6.39.4", None, (2, 6, 39)),
        ("2.6.60.1", None, (4, 0, 1)),
        (None, None, None),
    ],
)
def test_debian_s_banner_says_which_sources_it_is_built_from(
    release: str | None, banner: str | None, version: tuple[int, ...] | None
) -> None:
    assert of_sources(release, banner) == version


@pytest.mark.parametrize(
    ("functions", "era", "passes"), [(("arch_init_ideal_nops",), "3.0", "3.0"), ((), "2.6.38", "2.6.37")]
)
def test_oracle_s_2_6_39_has_the_sources_of_3_0(functions: tuple[str, ...], era: str, passes: str) -> None:
    image = sample.build("2.6.38", 64, functions=functions).elf.replace(b"2.6.38-pvops-sample", b"2.6.39-400.el6uek.x")
    kernel = pvops.open(image)
    assert kernel.release == "2.6.39-400.el6uek.x"
    assert (kernel.rules.era, kernel.rules.passes) == (era, passes)
