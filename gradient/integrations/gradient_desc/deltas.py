"""Adding the package's deltas to their anchors, in its own arithmetic, so bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradient.errors import IntegrityError, MalformedObjectError


def add(anchor: Any, delta: Any) -> Any:
    """Add a delta to an anchor's nested state, in the arithmetic of the package."""
    if not isinstance(delta, Mapping):
        return delta
    result: dict[Any, Any] = {}
    for key, value in delta.items():
        base = anchor.get(key) if isinstance(anchor, Mapping) else None
        if base is None:
            result[key] = value
        elif isinstance(value, torch.Tensor):
            result[key] = base + value
        elif _is_compressed(value):
            result[key] = base + _expand(base, value)
        elif isinstance(value, Mapping):
            result[key] = add(base, value)
        else:
            result[key] = value
    return result


def _expand(base: torch.Tensor, packed: Mapping[str, Any]) -> torch.Tensor:
    """Return the difference that a compressed tensor represents, in the anchor's dtype."""
    scheme, shape = packed["scheme"], tuple(packed["shape"])
    if shape != tuple(base.shape):
        raise IntegrityError(f"a delta of shape {shape} for a tensor of shape {tuple(base.shape)}")
    if scheme == "zeros":
        return torch.zeros(shape, dtype=base.dtype)
    values: torch.Tensor = packed["values"].to(torch.float16).to(base.dtype)
    if scheme == "fp16":
        return values.view(shape)
    if scheme == "sparse_fp16":
        full = torch.zeros(shape, dtype=base.dtype)
        full[tuple(packed["indices"].long().t())] = values
        return full
    raise MalformedObjectError(f"a delta in the unknown scheme {scheme!r:.40}")


def _is_compressed(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("__compressed__") is True


def has_compressed(value: Any) -> bool:
    """Return whether a nested state holds tensors marked as compressed differences."""
    if _is_compressed(value):
        return True
    return isinstance(value, Mapping) and any(map(has_compressed, value.values()))


def has_tensors(value: Any) -> bool:
    """Return whether a nested state holds plain tensors."""
    if isinstance(value, torch.Tensor):
        return True
    return isinstance(value, Mapping) and any(map(has_tensors, value.values()))
