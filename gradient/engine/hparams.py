"""Hyperparameters as plain data, which every commit records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradient.engine.metrics import number
from gradient.errors import UnsupportedValueError

_PLAIN = (bool, int, float, str, type(None))


def check_hparams(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Copy hyperparameters; convert NumPy numbers and zero-dim tensors to plain numbers.

    Raises UnsupportedValueError, naming the entry, for values other than text, numbers, None, and
    lists or tuples of these.
    """
    if not isinstance(hparams, Mapping):
        raise UnsupportedValueError(
            "hparams", f"a {type(hparams).__name__} is not a dict", "Pass vars(args) or the like."
        )
    return {_name(name): _value(f"hparams[{name!r}]", value) for name, value in hparams.items()}


def _name(name: Any) -> str:
    if type(name) is not str:
        raise UnsupportedValueError(f"hparams[{name!r}]", "a name is text", "Use a str.")
    return name


def _value(path: str, value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_value(f"{path}[{i}]", item) for i, item in enumerate(value))
    if type(value) in _PLAIN:
        return value
    plain = number(value)
    if plain is None:
        raise UnsupportedValueError(
            path,
            f"a {type(value).__name__} is not a plain value",
            "hparams is a flat dict of text and numbers: pass its str(), or its fields.",
        )
    return plain
