"""Blobs on their way into a transaction, and how they are shared out among threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from gradient.codec.chunks import CHUNK_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from gradient.codec.coding_plan import CodingPlan
    from gradient.objects.oid import Oid

SMALL_BYTES: Final = 128 << 10
"""Of a blob up to this size, most of the work is Python's."""

_MOST_PER_JOB: Final = 256


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


def jobs(pieces: Iterable[PendingBlob]) -> Iterator[list[PendingBlob]]:
    """Group pieces, so that short ones do not cost a hand-over each."""
    job: list[PendingBlob] = []
    size = 0
    for piece in pieces:
        nbytes = memoryview(piece.data).nbytes
        if job and (size + nbytes > CHUNK_BYTES or len(job) == _MOST_PER_JOB):
            yield job
            job, size = [], 0
        job.append(piece)
        size += nbytes
    if job:
        yield job
