"""Blobs on their way into a transaction, and how they are shared out among threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from gradient.codec.chunks import CHUNK_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from gradient.codec.coding_plan import CodingPlan
    from gradient.objects.oid import Oid

SMALL_BYTES: Final = 128 << 10
"""Of a blob up to this size, most of the work is Python's."""

Item = TypeVar("Item")


class PendingBlob(NamedTuple):
    """One blob that is to be stored."""

    data: Buffer
    """At most 1 MiB, of elements of `width` bytes."""
    width: int
    base: Oid | None = None
    """A blob of the same length, stored without a base itself, that it may be stored as the
    difference from, where that is smaller."""
    plan: CodingPlan | None = None
    """How the one before it was coded; None: whatever is best is found out."""


class StoredBlob(NamedTuple):
    """One blob that was stored, or was there."""

    oid: Oid
    plan: CodingPlan | None
    """For the next one at its place."""


def batches(
    items: Iterable[Item], nbytes: Callable[[Item], int], *, max_items: int
) -> Iterator[list[Item]]:
    """Group items so that a batch is one task for a worker, not each small item.

    A batch has at most `max_items` items, and at most 1 MiB unless a single item is longer.
    """
    batch: list[Item] = []
    size = 0
    for item in items:
        length = nbytes(item)
        if batch and (size + length > CHUNK_BYTES or len(batch) == max_items):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch
