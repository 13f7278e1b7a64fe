"""Which nop table a kernel fills its text with: the era's, and up to 5.12 the CPU's.

Sources: find_nop_table() of 2.6.24 and 2.6.33, arch_init_ideal_nops() of 5.10, x86_nops[] since 5.13, all in
arch/x86/kernel/alternative.c.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from pvops.errors import OpsError


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


#: The eras in which the CPU decides.
BY_CPU = ("seed", "2.6.24", "2.6.33", "5.10")


def choose(era: str, bits: int, cpu: Cpu) -> NopChoice:
    """The table of an era's kernel on a CPU; `OpsError` for an era unknown."""
    if era in ("seed", "2.6.24"):
        return _generic_or(cpu, ("K8", "K7") if era == "seed" else ("K8", "K7", "P4", "P3"))
    if era == "2.6.33":
        if bits == 32:
            return _generic_or(cpu, ("K8", "K7", "NOPL"))
        # NOPL is a required feature of x86-64 (required-features.h): the vendor alone decides.
        if cpu.vendor == "intel":
            return NopChoice("p6", "an Intel CPU")
        return NopChoice("k8", f"no Intel CPU ({cpu.vendor})")
    if era == "5.10":
        return _ideal_nops(bits, cpu)
    if era in ("6.1", "6.12", "7.2"):
        return fixed(era, bits)
    raise OpsError(f"no nop tables are known for era {era}")


def fixed(era: str, bits: int) -> NopChoice:
    """The one table of kernels since 5.13; since 6.3 it has nops of up to 11 bytes on x86-64."""
    if bits == 32:
        return NopChoice("x86-32", "one table for every CPU since 5.13")
    return NopChoice("x86" if era == "6.1" else "x86-11", "one table for every CPU since 5.13")


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


def _generic_or(cpu: Cpu, features: tuple[str, ...]) -> NopChoice:
    tables = {"K8": "k8", "K7": "k7", "P4": "p6", "P3": "p6", "NOPL": "p6"}
    for feature in features:
        if feature in cpu.features:
            return NopChoice(tables[feature], f"X86_FEATURE_{feature}")
    return NopChoice("generic", "none of X86_FEATURE_" + ", ".join(features))


def _ideal_nops(bits: int, cpu: Cpu) -> NopChoice:
    name = f"{cpu.vendor} family {cpu.family:#x} model {cpu.model:#x}"
    if cpu.vendor == "hygon" or (cpu.vendor == "amd" and cpu.family > 0xF):
        return NopChoice("p6", name)
    if cpu.vendor == "intel":
        if cpu.family == 6 and 0x0F <= cpu.model < 0x30 and cpu.model not in (0x1C, 0x26, 0x27):
            return NopChoice("k8", f"{name}, which decodes these faster")
        # detect_nopl() forces the feature on for 64-bit kernels and off for 32-bit ones.
        return NopChoice("p6" if bits == 64 else "generic", name)
    if bits == 64:
        return NopChoice("k8", name)
    if "K8" in cpu.features:
        return NopChoice("k8", f"{name}, X86_FEATURE_K8")
    if "K7" in cpu.features:
        return NopChoice("k7", f"{name}, X86_FEATURE_K7")
    return NopChoice("generic", name)
