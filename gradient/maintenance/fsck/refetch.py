"""Fetching lost objects from other places: the trash, and other repos.

An object is identified by its id, so any place can serve as a source: each object is compared with
its id before it is written. View files are not a source, because reading them needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Final

from gradient.checkpoint.references import references_in
from gradient.codec.mode import Mode
from gradient.errors import GradientError
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo import paths
from gradient.repo.discovery import find_workspace
from gradient.repo.workspace import list_repos
from gradient.storage.directory import DirectoryStorage
from gradient.store.object_store import ObjectStore

_MOST_BYTES: Final = 64 << 20
"""The maximum size of one pack, so that an interruption loses little."""


def places(root: str, named: Iterable[str] = ()) -> list[str]:
    """Return the source repos: the named ones, the repo itself (its trash), and its siblings."""
    workspace = find_workspace(root)
    beside = [] if workspace is None else list_repos(workspace)
    neighbours = [str(PurePath(workspace or "", name)) for name in beside]
    return list(dict.fromkeys([*named, root, *neighbours]))


def refetch(root: str, lost: Iterable[Oid], source: str) -> Iterator[int]:
    """Write the lost objects that a source has, and the missing objects that they reference.

    Yields the number of objects of each new pack. An unreadable source counts as empty.
    """
    own = ObjectStore(DirectoryStorage(paths.inside(root)))
    found = _found(own, ObjectStore(DirectoryStorage(paths.inside(source))), lost)
    while True:
        count = size = 0
        with own.begin(mode=Mode.AUTO) as transaction:
            for kind, body in found:
                transaction.put(kind, body)
                count, size = count + 1, size + len(body)
                if size > _MOST_BYTES:
                    break
            transaction.seal()
        if not count:
            return
        yield count


def _found(
    own: ObjectStore, other: ObjectStore, lost: Iterable[Oid]
) -> Iterator[tuple[Kind, bytes]]:
    pending = list(lost)
    seen: set[Oid] = set()
    while pending:
        oid = pending.pop()
        if oid in seen or own.can_rely_on(oid):
            continue
        seen.add(oid)
        try:
            places = other.catalogue.find(oid)
            if not places:
                continue
            kind = places[0][1].kind
            body = other.read(oid, kind)
        except GradientError:
            continue
        yield kind, body
        pending += _named(kind, body)


def _named(kind: Kind, body: bytes) -> Iterator[Oid]:
    """Yield the dependencies of an object; for a commit, also the commits before it."""
    if kind is Kind.COMMIT:
        commit = CommitRecord.from_bytes(body)
        yield from commit.parents
        facts = (commit.tree, commit.environment, commit.hparams, commit.fork)
        yield from (each for each in facts if each is not None)
    else:
        yield from (oid for _, oid in references_in(kind, body))
