"""Are a model's weights numbers? Looked at with each commit, so that one can go back to a good one.

A sum is finite only if every element is: infinities and NaN never cancel out to a number. So one
pass over the weights, without memory of its own, clears a good model; only where the sum is not
finite (large numbers may add up to infinity, too) is each element looked at. Each device is waited
for once.
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
"""So many tensors are named in a message."""
_PART: Final = 1 << 20
"""Elements that are converted at once where torch can not add them up as they are."""


@dataclass(slots=True)
class NanCheck:
    """What one engine does about weights that are not finite."""

    policy: OnNonfinite
    """Warn (the default), raise, or not look."""
    _warned: bool = False

    def check(self, model: Mapping[str, Any], revision: str) -> tuple[bool | None, tuple[str, ...]]:
        """Return whether all weights are finite (None: nobody looked), and what to warn of.

        It is said once, until they are finite again. Raises NonfiniteError where the policy is to.
        """
        if self.policy == "ignore":
            return None, ()
        bad = nonfinite(model)
        if not bad:
            self._warned = False
            return True, ()
        if self.policy == "raise":
            text = f"{revision} was not made: NaN or infinite are {_spell(bad)}"
            raise NonfiniteError(text, tuple(bad))
        warned, self._warned = self._warned, True
        text = (
            f"{revision} has weights that are not finite: {_spell(bad)}. To go back to the last "
            f"commit before that: engine.rollback(scale_lr=…), or gradient fork BRANCH@last-finite"
        )
        return False, () if warned else (text,)


def nonfinite(model: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors that hold NaN or infinities, in order.

    Integers are finite; what is no dense tensor is not looked at.
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
        and value.dtype is not torch.float4_e2m1fn_x2  # which has numbers alone
    )


def _doubtful(group: list[tuple[str, torch.Tensor]]) -> Iterator[str]:
    """Yield the names of tensors whose sum is not finite; the device is waited for once."""
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
    """Cut a tensor; with eight-bit floats torch can not calculate, only convert them."""
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), _PART):
        part = flat[start : start + _PART]
        yield part if part.element_size() > 1 else part.to(torch.float32)


def _spell(names: list[str]) -> str:
    return shorten(names, _NAMED)
