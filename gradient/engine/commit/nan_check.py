"""The check of a model's weights for NaN and infinite values, made by every commit.

A sum is finite only if every element is, because infinities and NaN never cancel out to a number.
One pass over the weights therefore clears a finite model, without allocating memory. Only if a sum
is not finite does the check read each element, because large finite numbers can overflow as well.
It synchronizes with each device once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from gradient.errors import NonfiniteError
from gradient.objects.name_list import shorten
from gradient.repo.config import OnNonfinite

_NAMED: Final = 3
"""The number of tensors that a message names."""
_PART: Final = 1 << 20
"""The number of elements converted at a time for dtypes that torch cannot sum."""


@dataclass(slots=True)
class NanCheck:
    """The policy of one engine for weights that are not finite."""

    policy: OnNonfinite
    """Warn (the default), raise, or do not check."""
    _warned: bool = False

    def check(self, model: Mapping[str, Any], revision: str) -> tuple[bool | None, tuple[str, ...]]:
        """Return whether all weights are finite (None if not checked), and the warnings.

        The warning is given once until the weights are finite again. Raises NonfiniteError if the
        policy is ``"raise"``.
        """
        if self.policy == "ignore":
            return None, ()
        bad = nonfinite(model)
        if not bad:
            self._warned = False
            return True, ()
        if self.policy == "raise":
            text = (
                f"{revision} was not committed: the weights contain NaN or infinite values: "
                f"{_spell(bad)}"
            )
            raise NonfiniteError(text, tuple(bad))
        warned, self._warned = self._warned, True
        text = (
            f"{revision}: the weights contain NaN or infinite values: {_spell(bad)}. "
            f"To return to the last finite commit: engine.rollback(scale_lr=…), "
            f"or gradient fork BRANCH@last-finite"
        )
        return False, () if warned else (text,)


def nonfinite(model: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinities, in order.

    Only dense floating-point and complex tensors are checked.
    """
    with torch.no_grad():
        asked = [(name, value) for name, value in model.items() if _counts(value)]
        by_device: dict[torch.device, list[tuple[str, torch.Tensor]]] = defaultdict(list)
        for name, tensor in asked:
            by_device[tensor.device].append((name, tensor))
        doubtful = {name for group in by_device.values() for name in _doubtful(group)}
        return [name for name, tensor in asked if name in doubtful and not _is_finite(tensor)]


def _counts(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and value.device.type != "meta"
        and value.numel() > 0
        and (value.is_floating_point() or value.is_complex())
        and value.dtype is not torch.float4_e2m1fn_x2  # which has no NaN and no infinities
    )


def _doubtful(group: list[tuple[str, torch.Tensor]]) -> Iterator[str]:
    """Yield the names of tensors whose sum is not finite, synchronizing with the device once."""
    sums = torch.stack([_sum(tensor) for _, tensor in group])
    for (name, _), fine in zip(group, sums.isfinite().tolist(), strict=True):
        if not fine:
            yield name


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.element_size() > 1:
        return tensor.sum().to(torch.float32)
    return sum((part.sum() for part in _parts(tensor)), torch.zeros((), device=tensor.device))


def _is_finite(tensor: torch.Tensor) -> bool:
    return all(bool(part.isfinite().all()) for part in _parts(tensor))


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Cut a tensor into parts; convert eight-bit floats, which torch cannot sum."""
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), _PART):
        part = flat[start : start + _PART]
        yield part if part.element_size() > 1 else part.to(torch.float32)


def _spell(names: list[str]) -> str:
    return shorten(names, _NAMED)
