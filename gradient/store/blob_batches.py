"""Blobs that a transaction writes, and batches of small ones for the worker threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from gradient.codec.chunks import CHUNK_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from gradient.codec.coding_plan import CodingPlan
    from gradient.objects.oid import Oid

SMALL_BYTES: Final = 128 << 10
"""Python does most of the work on a blob up to this size."""

Item = TypeVar("Item")


class PendingBlob(NamedTuple):
    """One blob to store."""

    data: Buffer
    """At most 1 MiB, of elements of `width` bytes."""
    width: int
    base: Oid | None = None
    """A blob of the same length, stored without a base itself. The new blob is stored as the
    difference from it if that is smaller."""
    plan: CodingPlan | None = None
    """The coding plan of its predecessor; None to find the best one."""


class StoredBlob(NamedTuple):
    """One blob that was stored, or existed already."""

    oid: Oid
    plan: CodingPlan | None
    """The coding plan for its successor."""


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
