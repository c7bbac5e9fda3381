"""The size of a commit: its stored bytes by component and encoding, and the bytes it shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gradient.checkpoint.chunk_walk import blobs
from gradient.codec.frame import Codec
from gradient.maintenance.logical_size import node_bytes
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.repository import Repository
from gradient.store.retention_log import Dropped

ENCODINGS: dict[int, str] = {
    int(codec): "delta" if codec is Codec.DELTA else "raw" if codec is Codec.RAW else "planes"
    for codec in Codec
}
"""The names of the encodings: a delta, uncompressed, byte planes."""


@dataclass(slots=True)
class CommitSize:
    """The size of one component of a commit."""

    component: str
    """Its name."""
    represented: int
    """Bytes of its tensors and data."""
    stored: int = 0
    """Bytes of the frames that hold its chunks, each chunk once."""
    new: int = 0
    """The bytes of these frames that are new: no parent has the chunk."""
    shared: int = 0
    """The decoded bytes of its chunks that a parent has, or that occur more than once in it."""
    raw: dict[str, int] = field(default_factory=dict)
    """The decoded bytes of its chunks, by encoding."""


def usage(repo: Repository, commit: CommitRecord) -> Iterator[CommitSize]:
    """Yield the size of each component of a commit; reads trees and indexes, but no chunks.

    Components that a parent has dropped count as not shared.
    """
    dropped = repo.dropped()
    before = {
        oid
        for parent in commit.parents
        for name, entry in _entries(repo, parent, dropped.get(parent))
        for oid in blobs(repo.store, entry)
    }
    for name, entry in _entries(repo, commit.oid, dropped.get(commit.oid)):
        found = CommitSize(name, node_bytes(repo.store, entry))
        seen: set[Oid] = set()
        for oid in blobs(repo.store, entry):
            frame = repo.store.frame(oid)
            if oid in seen:
                found.shared += frame.raw
                continue
            seen.add(oid)
            found.stored += frame.stored
            encoding = ENCODINGS.get(frame.codec, "other")
            found.raw[encoding] = found.raw.get(encoding, 0) + frame.raw
            if oid in before:
                found.shared += frame.raw
            else:
                found.new += frame.stored
        yield found


def _entries(repo: Repository, oid: Oid, dropped: Dropped | None) -> list[tuple[str, Json]]:
    if dropped is not None and dropped.components is None:
        return []
    root = trees.parse(repo.store.read(repo.read_commit(oid).tree, Kind.TREE))
    entries = root.entries if isinstance(root, Tree) else {}
    return [each for each in entries.items() if dropped is None or not dropped.covers(each[0])]
