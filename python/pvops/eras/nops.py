"""Which nop table a kernel fills its text with: the era's, and up to 5.12 the CPU's.

Sources: find_nop_table() of 2.6.24 and 2.6.33, arch_init_ideal_nops() up to 5.12, x86_nops[] since 5.13, all in
arch/x86/kernel/alternative.c.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from pvops.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pvops.eras.version import Version


_TABLES = {64: ("p6", "k8"), 32: ("p6", "k8", "k7", "generic")}


class NopChoice(NamedTuple):
    """A nop table (``k8``, ``k7``, ``p6``, ``generic``, ``x86``, ``x86-11``, ``x86-32``) and why it is that one."""

    table: str
    why: str


class Cpu(NamedTuple):
    """What the choice depends on: vendor (``intel``, ``amd``, ``hygon``, …), family, model, and features by name."""

    vendor: str
    family: int
    model: int
    features: Container[str]


class Mended(NamedTuple):
    """A choice that stable releases of an era took over: its policy, and the first release of each branch."""

    policy: NopPolicy
    releases: tuple[Version, ...]


class NopPolicy(NamedTuple):
    """How an era chooses.

    Attributes:
        tables: the tables it chooses from, by pointer size, the most usual first.
        choose: the table of a CPU, for a pointer size.
        assumed: what is taken where nobody says which CPU it is, by pointer size.
        mended: another choice that stable releases took over.
    """

    tables: Mapping[int, tuple[str, ...]]
    choose: Callable[[int, Cpu], NopChoice]
    assumed: Mapping[int, NopChoice]
    mended: Mended | None = None

    def of_release(self, version: Version | None, has: Container[str] = _TABLES[32]) -> NopPolicy:
        """The policy of a release: the mended one, where stable releases of its branch had that.

        Args:
            version: the release.
            has: the tables that the image has: without P6's nothing refers to them, which the mended one does.
        """
        if self.mended is None or version is None or "p6" not in has:
            return self
        branch = next((first for first in self.mended.releases if first[:-1] == version[: len(first) - 1]), None)
        return self.mended.policy if branch is not None and version >= branch else self

    @property
    def by_cpu(self) -> bool:
        """Whether the CPU decides."""
        return any(len(tables) > 1 for tables in self.tables.values())


def features_of(vendor: str, family: int) -> frozenset[str]:
    """The synthetic features that name a CPU generation, which /proc/cpuinfo does not print.

    early_init_amd() and early_init_intel() of each era: K7 is AMD's family 6, K8 its family 15 and later; P3 is Intel's
    family 6, P4 its family 15.
    """
    if vendor == "amd":
        return frozenset({"K7"} if family == 6 else {"K8"} if family >= 15 else ())
    if vendor == "intel":
        return frozenset({"P3"} if family == 6 else {"P4"} if family == 15 else ())
    return frozenset({"K8"}) if vendor == "hygon" else frozenset()


def fixed(table: str) -> NopPolicy:
    """One table for every CPU, ``x86-32`` on i386 (since 5.13)."""
    choices = {
        bits: NopChoice(name, "one table for every CPU since 5.13") for bits, name in ((32, "x86-32"), (64, table))
    }
    tables = {bits: (choice.table,) for bits, choice in choices.items()}
    return NopPolicy(tables, lambda bits, cpu: choices[bits], choices)


_USUAL = NopChoice("p6", "assumed: no machine says which CPU; most since 2010 take these")


def by_features(*features: str) -> NopPolicy:
    """The table of the first of these features that the CPU has (2.6.24, and i386 of 2.6.33)."""
    tables = {"K8": "k8", "K7": "k7", "P4": "p6", "P3": "p6", "NOPL": "p6"}

    def choose(bits: int, cpu: Cpu) -> NopChoice:
        for feature in features:
            if feature in cpu.features:
                return NopChoice(tables[feature], f"X86_FEATURE_{feature}")
        return NopChoice("generic", "none of X86_FEATURE_" + ", ".join(features))

    possible = {*(tables[feature] for feature in features), "generic"}
    usual = _USUAL
    if "p6" not in possible:
        usual = NopChoice("generic", "assumed: no machine says which CPU; all but AMD's took these")
    return NopPolicy({32: tuple(t for t in _TABLES[32] if t in possible)}, choose, {32: usual})


def always_k8(on_32: NopPolicy) -> NopPolicy:
    """On x86-64 every CPU takes K8's nops (to 2.6.23); on i386 another policy decides."""
    only = NopChoice("k8", "the only nops of x86-64 before 2.6.24")

    def choose(bits: int, cpu: Cpu) -> NopChoice:
        return only if bits == 64 else on_32.choose(bits, cpu)

    return NopPolicy({64: ("k8",), **on_32.tables}, choose, {**on_32.assumed, 64: only})


def by_vendor(on_32: NopPolicy) -> NopPolicy:
    """On x86-64 Intel's CPUs take P6 nops, all others K8's (32c464f5d970, 2.6.24); on i386 another policy decides."""

    def choose(bits: int, cpu: Cpu) -> NopChoice:
        if bits == 32:
            return on_32.choose(bits, cpu)
        # NOPL is a required feature of x86-64 (required-features.h): the vendor alone decides.
        if cpu.vendor == "intel":
            return NopChoice("p6", "an Intel CPU")
        return NopChoice("k8", f"no Intel CPU ({cpu.vendor})")

    return NopPolicy({**_TABLES, **on_32.tables}, choose, {**on_32.assumed, 64: _USUAL})


def ideal_nops(*, intel: bool = True, amd: bool = True, hygon: bool = True, k8: bool = True) -> NopPolicy:
    """arch_init_ideal_nops(): P6 nops where they are decoded as fast.

    Args:
        intel: Intel's CPUs are told from the others.
        amd: AMD's families after 15 take P6 nops.
        hygon: so do Hygon's.
        k8: X86_FEATURE_K8 and _K7 are set when it looks; before 4.19 init_amd() set them later.
    """

    def choose(bits: int, cpu: Cpu) -> NopChoice:
        name = f"{cpu.vendor} family {cpu.family:#x} model {cpu.model:#x}"
        if (hygon and cpu.vendor == "hygon") or (amd and cpu.vendor == "amd" and cpu.family > 0xF):
            return NopChoice("p6", name)
        if intel and cpu.vendor == "intel":
            if cpu.family == 6 and 0x0F <= cpu.model < 0x30 and cpu.model not in (0x1C, 0x26, 0x27):
                return NopChoice("k8", f"{name}, which decodes these faster")
            # detect_nopl() forces the feature on for 64-bit kernels and off for 32-bit ones.
            return NopChoice("p6" if bits == 64 else "generic", name)
        if bits == 64:
            return NopChoice("k8", name)
        if "K8" in cpu.features and k8:
            return NopChoice("k8", f"{name}, X86_FEATURE_K8")
        if "K7" in cpu.features and k8:
            return NopChoice("k7", f"{name}, X86_FEATURE_K7")
        return NopChoice("generic", name)

    return NopPolicy(_TABLES, choose, {32: _USUAL, 64: _USUAL})
