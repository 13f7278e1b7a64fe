"""The features of a CPU as one kernel numbers, sets and clears them: derived from facts, each with where it came from.

`predict` gives the feature words of a machine under a kernel; `return_thunk` and `uniprocessor` what else of it the
passes ask; `predict_keys` and `predict_calls` a first guess at static keys and static calls. Numbers come from the
image (`numbers`), values of unprinted features from rules that each restate one function of the kernel (``rules_*``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pvops.features.boot import Thunk, return_thunk, uniprocessor
    from pvops.features.keys import CallState, KeyState, predict_calls, predict_keys
    from pvops.features.numbers import Numbers
    from pvops.features.prediction import Feature, FeatureWords, predict

__all__ = [
    "CallState",
    "Feature",
    "FeatureWords",
    "KeyState",
    "Numbers",
    "Thunk",
    "predict",
    "predict_calls",
    "predict_keys",
    "return_thunk",
    "uniprocessor",
]

_HOMES = {
    "Feature": "prediction",
    "FeatureWords": "prediction",
    "predict": "prediction",
    "Numbers": "numbers",
    "Thunk": "boot",
    "return_thunk": "boot",
    "uniprocessor": "boot",
    "CallState": "keys",
    "KeyState": "keys",
    "predict_calls": "keys",
    "predict_keys": "keys",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
