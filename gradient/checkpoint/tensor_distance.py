"""The distance between two tensors, from sums in double precision that are added up by pieces.

If both tensors have the same dtype, elements are compared by their bits (a NaN equals itself, and
``-0.0`` differs from ``0.0``); otherwise by value. Norms, cosine and the largest difference cover
the elements that are finite in both tensors. Elements that are not finite are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
_EXACT = 1 << 53
"""Integers up to here are exact in double precision."""


@dataclass(slots=True)
class Sums:
    """The sums over the elements added so far."""

    elements: int = 0
    """The number of compared elements."""
    changed: int = 0
    """The number of elements that differ."""
    before: float = 0.0
    """The sum of the squares of the first tensor."""
    after: float = 0.0
    """The sum of the squares of the second tensor."""
    difference: float = 0.0
    """The sum of the squares of ``second - first``."""
    product: float = 0.0
    """The sum of the products ``first * second``."""
    largest: float = 0.0
    """The largest absolute difference of two elements."""
    not_finite_before: int = 0
    """Elements of the first that are NaN or infinite."""
    not_finite_after: int = 0
    """Elements of the second that are NaN or infinite."""
    numeric: bool = True
    """True if torch can convert all elements to double precision."""

    @property
    def relative(self) -> float | None:
        """The relative L2 change ``||second - first|| / ||first||``; None if not numeric.

        It is infinite if the first norm is zero, or if the number of elements that are not finite
        changed (the norms do not cover those elements).
        """
        if not self.numeric:
            return None
        if self.not_finite_before != self.not_finite_after:
            return math.inf
        if self.difference == 0:
            return 0.0
        if self.before == 0:
            return math.inf
        return _finite(math.sqrt(self.difference) / math.sqrt(self.before))

    @property
    def cosine(self) -> float | None:
        """The cosine ``first . second / (||first|| ||second||)``; None if a norm is zero."""
        if not self.numeric or self.before == 0 or self.after == 0:
            return None
        cosine = _finite(self.product / (math.sqrt(self.before) * math.sqrt(self.after)))
        return None if cosine is None else max(-1.0, min(1.0, cosine))

    @property
    def max_abs(self) -> float | None:
        """The largest absolute difference of two elements; None if not numeric."""
        return self.largest if self.numeric else None

    @property
    def fraction(self) -> float:
        """The fraction of the elements that changed; 0 for an empty tensor."""
        return self.changed / self.elements if self.elements else 0.0

    def include(self, other: Sums) -> None:
        """Add the sums over other elements."""
        self.elements += other.elements
        self.changed += other.changed
        self.before += other.before
        self.after += other.after
        self.difference += other.difference
        self.product += other.product
        self.largest = max(self.largest, other.largest)
        self.not_finite_before += other.not_finite_before
        self.not_finite_after += other.not_finite_after
        self.numeric = self.numeric and other.numeric

    def add(self, one: torch.Tensor, other: torch.Tensor) -> None:
        """Add corresponding elements: two one-dimensional CPU tensors of the same length."""
        if one.numel() == 0:
            return
        self.elements += one.numel()
        differs = _differs(one, other)
        self.changed += int(differs.sum())
        a, b = _numbers(one), _numbers(other)
        if a is None or b is None:
            self.numeric = False
            return
        if a.dim() != b.dim():  # one is complex, the other real
            a, b = _as_pairs(a), _as_pairs(b)
        finite_a, finite_b = _finite_rows(a), _finite_rows(b)
        self.not_finite_before += int((~finite_a).sum())
        self.not_finite_after += int((~finite_b).sum())
        both = finite_a & finite_b
        if not bool(both.all()):
            a, b = a[both], b[both]
        delta = _difference(one, other, a, b)
        self.before += float(a.square().sum())
        self.after += float(b.square().sum())
        self.product += float((a * b).sum())
        self.difference += float(delta.square().sum())
        if delta.numel():
            distance = delta.square().sum(1).sqrt() if delta.dim() == 2 else delta.abs()
            self.largest = max(self.largest, float(distance.max()))

    def add_equal(self, one: torch.Tensor) -> None:
        """Add elements that are known to be equal in both tensors."""
        self.elements += one.numel()
        numbers = _numbers(one)
        if numbers is None:
            self.numeric = False
            return
        finite = _finite_rows(numbers)
        count = int((~finite).sum())
        self.not_finite_before += count
        self.not_finite_after += count
        square = float((numbers[finite] if count else numbers).square().sum())
        self.before += square
        self.after += square
        self.product += square


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _differs(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    if one.dtype == other.dtype:
        a, b = _as_bits(one), _as_bits(other)
        return (a != b).any(1) if a.dim() == 2 else a != b
    a_numbers, b_numbers = _numbers(one), _numbers(other)
    if a_numbers is None or b_numbers is None:
        return torch.ones(one.numel(), dtype=torch.bool, device=one.device)
    if a_numbers.dim() != b_numbers.dim():
        a_numbers, b_numbers = _as_pairs(a_numbers), _as_pairs(b_numbers)
    same = (a_numbers == b_numbers) | (a_numbers.isnan() & b_numbers.isnan())
    return ~(same.all(1) if same.dim() == 2 else same)


def _as_bits(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype is torch.bool:
        return tensor.view(torch.int8)
    bits = tensor.view(_BITS[tensor.element_size()])
    return bits.view(-1, 2) if tensor.element_size() == 16 else bits


def _numbers(tensor: torch.Tensor) -> torch.Tensor | None:
    """Convert to double precision, complex numbers to pairs; return None if torch cannot."""
    try:
        if tensor.dtype is torch.complex32:  # torch supports few operations on it
            return tensor.view(torch.float16).view(-1, 2).to(torch.float64)
        if tensor.is_complex():
            return torch.view_as_real(tensor.to(torch.complex128))
        return tensor.to(torch.float64)
    except (RuntimeError, NotImplementedError):
        return None


def _as_pairs(numbers: torch.Tensor) -> torch.Tensor:
    if numbers.dim() == 2:
        return numbers
    return torch.stack([numbers, torch.zeros_like(numbers)], 1)


def _finite_rows(numbers: torch.Tensor) -> torch.Tensor:
    finite = numbers.isfinite()
    return finite.all(1) if finite.dim() == 2 else finite


def _difference(
    one: torch.Tensor, other: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """Subtract; large integers are subtracted as integers, which float64 would round."""
    delta = b - a
    if one.dtype != other.dtype or one.dtype not in (torch.int64, torch.uint64):
        return delta
    large = (a.abs() >= _EXACT) | (b.abs() >= _EXACT)
    near = large & (delta.abs() < float(1 << 62))
    if not bool(near.any()):
        return delta
    exact = other.view(torch.int64) - one.view(torch.int64)  # wraps around, but is exact if near
    return torch.where(near, exact.to(torch.float64), delta)
