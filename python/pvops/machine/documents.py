"""The JSON or TOML document of a machine, schema ``pvops.machine/1``."""

from __future__ import annotations

from collections.abc import Mapping

from pvops.errors import MachineError, nearest, there_are, wanted
from pvops.machine import cpus, state
from pvops.machine.facts import MARK
from pvops.machine.given import Given, hypervisor_named
from pvops.machine.reading import REGISTERS, bad, integer

SCHEMA = "pvops.machine/1"

_STRINGS = ("vendor", "model_name", "cmdline", "hypervisor", "clocksource", "kernel", "dmesg")
_NUMBERS = ("family", "model", "stepping", "siblings", "cores", "online_cpus", "possible_cpus")
_WORDS = ("flags", "bugs")
#: The keys of the document.
KEYS = ("schema", "preset", *_STRINGS, *_NUMBERS, *_WORDS, "features", "vulnerabilities", "cpuid", "told_by", "state")
#: What of a document decides how a preset turns out, and what it is where the document does not say.
_OF_PRESET = {"preset": None, "cmdline": "", "hypervisor": "none"}
_TOLD = ("hypervisor", "possible_cpus")


def document(text: str, name: str) -> Mapping[str, object]:
    """The JSON or TOML text as a mapping; `MachineError` with line and column if it is neither."""
    import json

    try:
        if text.lstrip().startswith("{"):
            value = json.loads(text)
        else:
            import tomllib

            value = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        if _is_json(text):
            bad(name, "", 0, "is JSON, and no object: a machine is one")
        what = "JSON" if text.lstrip().startswith("{") else f"JSON, nor facts (no {MARK.strip()} line), nor TOML"
        raise MachineError(f"{name}: not {what}: {error}", reason=str(error), file=name) from error
    return dict(value)


def _is_json(text: str) -> bool:
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def given(values: Mapping[str, object], name: str) -> Given:
    """What a document says of a machine; unknown keys and wrong types are a `MachineError`."""
    wanted(values, Mapping, "a machine's document, a mapping,")
    for key in values:
        wanted(key, str, "a key of a machine's document, a str,")
        if key not in KEYS:
            bad(name, "", 0, f"unknown key {key}{nearest(key, KEYS)}")
    if values.get("schema", SCHEMA) != SCHEMA:
        bad(name, "", 0, f"schema is {values['schema']}, not {SCHEMA}")
    sources = _texts(values.get("told_by"), name, "told_by")
    for key in sources:
        if key not in _TOLD:
            bad(name, f"told_by.{key}", 0, f"unknown key; it has {' and '.join(_TOLD)}")
    out = _of_preset(values, name) if "preset" in values else Given(name=name)
    for key in (*_STRINGS, *_NUMBERS, *_WORDS):
        if values.get(key) is not None:
            out[key] = _value(key, values[key], name)  # type: ignore[literal-required]  # one of `Given`'s keys
    if values.get("vulnerabilities") is not None:
        out["vulnerabilities"] = _texts(values["vulnerabilities"], name, "vulnerabilities")
    if values.get("features") is not None:
        out["features"] = _features(values["features"], name)
    if sources:
        out["told_by"] = sources
    if values.get("cpuid") is not None:
        out["cpuid"] = _leaves(values["cpuid"], name)
    if values.get("state") is not None:
        out["state"] = state.from_dict(values["state"], name)
    return out


def _value(key: str, value: object, name: str) -> str | int | list[str]:
    """The value of a key, checked for the type that the key has."""
    if key in _NUMBERS:
        return integer(value, name, key, 0, key)
    if key in _STRINGS and not isinstance(value, str):
        bad(name, key, 0, "must be a string")
    if isinstance(value, str) and key in _STRINGS:
        return hypervisor_named(value, name) if key == "hypervisor" else value
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        bad(name, key, 0, "must be a list of names, or the names in one string")
    return words


def _of_preset(values: Mapping[str, object], name: str) -> Given:
    """What the preset that a document names says of a machine; the document's own words go over it."""
    preset, cmdline, hypervisor = (values.get(key, default) for key, default in _OF_PRESET.items())
    if not isinstance(preset, str) or preset not in cpus.NAMES:
        said = str(preset)[:40]
        bad(name, "preset", 0, f"no preset {said!r}{there_are(said, cpus.NAMES)}")
    if not isinstance(cmdline, str) or not isinstance(hypervisor, str):
        bad(name, "hypervisor" if isinstance(cmdline, str) else "cmdline", 0, "must be a string")
    count = integer(
        values.get("possible_cpus", values.get("online_cpus", 2)), name, "possible_cpus", 0, "possible_cpus"
    )
    out = cpus.given(preset, cpus=count, hypervisor=hypervisor_named(hypervisor, name), cmdline=cmdline)
    out["name"] = name
    out["told_by"] = {key: source for key, source in (out["told_by"] or {}).items() if key not in values}
    return out


def _features(value: object, name: str) -> dict[str, bool]:
    if not isinstance(value, Mapping) or not all(isinstance(there, bool) for there in value.values()):
        bad(name, "features", 0, 'must be a table: a feature as the kernel names it ("RETPOLINE") → true or false')
    return {str(feature).removeprefix("X86_FEATURE_").removeprefix("X86_"): there for feature, there in value.items()}


def _leaves(value: object, name: str) -> dict[tuple[int, int], dict[str, int]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        bad(name, "cpuid", 0, 'must be a table: leaf ("0x40000001" or "0xd/1") → registers')
    leaves = {}
    for key, registers in value.items():
        if not isinstance(registers, Mapping) or not set(registers) <= set(REGISTERS):
            bad(name, f"cpuid.{key}", 0, f"must be a table of {', '.join(REGISTERS)}")
        leaf, _, sub = str(key).partition("/")
        ids = (integer(leaf, name, "cpuid", 0, "leaf"), integer(sub or "0", name, "cpuid", 0, "subleaf"))
        leaves[ids] = {r: integer(registers.get(r, 0), name, f"cpuid.{key}", 0, r) for r in REGISTERS}
    return leaves


def _texts(value: object, name: str, key: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        bad(name, key, 0, "must be a table of strings")
    return {str(k): str(v) for k, v in value.items()}
