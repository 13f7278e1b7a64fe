"""The register of rules: feature → rule, and the kernel function that it restates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from pvops.decide.answers import Rule
from pvops.tuples import NamedTuple


class Entry(NamedTuple):
    """One rule.

    Attributes:
        rule: the rule.
        restates: the kernel's function, and its file below arch/x86 where that is not kernel/cpu.
    """

    rule: Rule
    restates: str


_MODULES = ("rules_cpu", "rules_guests", "rules_hardware", "rules_mitigations")
_RULES: dict[str, Entry] = {}


def rule(restates: str, *features: str) -> Callable[[Rule], Rule]:
    """Registers a function as the rule of one or several features."""

    def register(function: Rule) -> Rule:
        for feature in features:
            if feature in _RULES:
                raise ValueError(f"two rules for {feature}")
            _RULES[feature] = Entry(function, restates)
        return function

    return register


@cache
def rules() -> Mapping[str, Entry]:
    """All rules, by the kernel's name of the feature."""
    from importlib import import_module

    for module in _MODULES:
        import_module(f"pvops.decide.{module}")
    return _RULES
