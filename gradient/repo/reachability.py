"""The objects that commits depend on: trees, lists and chunks, found by reading trees.

Dropped state is left out: a forgotten commit depends on its metadata and its parents, but not on
its tree. The commits that refs point to are whole, even if a retention record names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from gradient.checkpoint.references import references_in
from gradient.errors import ConflictError, IntegrityError, MissingObjectError
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo.repository import Repository
from gradient.repo.retention.partial_tree import remaining
from gradient.store.object_store import ObjectStore
from gradient.store.ref_record import Space
from gradient.store.retention_log import Dropped


class Marker:
    """Marks reachable objects; reads each of them once."""

    def __init__(
        self, store: ObjectStore, *, progress: Callable[[int], None] | None = None
    ) -> None:
        self._store = store
        self._progress = progress
        self._marked: set[Oid] = set()
        self._parts: set[Oid] = set()
        self.dropped: Mapping[Oid, Dropped] = {}
        """The states and components that retention dropped; it only grows."""

    @property
    def marked(self) -> set[Oid]:
        """The marked commits and all objects that they depend on."""
        return self._marked | self._parts

    def mark(self, commits: Iterable[Oid]) -> None:
        """Mark commits as whole, all their ancestors, and all their dependencies.

        Blobs are marked and not read. Raises IntegrityError for an object that is missing or
        damaged, because its dependencies are unknown. Objects marked before that stay marked.
        """
        commits = list(commits)
        pending = [(Kind.COMMIT, oid) for oid in commits]
        # IMPORTANT: in every call, the trees too: a commit marked before, when no ref pointed to
        # it, may be marked without its tree.
        pending += [(Kind.TREE, _commit(self._store, oid).tree) for oid in commits]
        while pending:
            kind, oid = pending.pop()
            if oid not in self._marked:
                pending.extend(self._below(kind, oid, self._parts))
                self._marked.add(oid)
                if kind is Kind.COMMIT and self._progress is not None:
                    self._progress(1)

    def mark_found(self, commits: Iterable[Oid]) -> set[Oid]:
        """Return the objects reachable from those commits that still exist, ignoring missing ones.

        Objects that are marked are left out, and nothing is marked.
        """
        found: set[Oid] = set()
        parts: set[Oid] = set()
        pending = [(Kind.COMMIT, oid) for oid in commits]
        while pending:
            kind, oid = pending.pop()
            if oid in self._marked or oid in found:
                continue
            try:
                pending.extend(self._below(kind, oid, parts))
            except IntegrityError:
                continue
            found.add(oid)
        return found | parts

    def _below(self, kind: Kind, oid: Oid, parts: set[Oid]) -> Iterator[tuple[Kind, Oid]]:
        """Yield an object's dependencies; add trees that are kept in part to `parts`."""
        if kind is Kind.COMMIT and oid in self.dropped:
            commit = _commit(self._store, oid)
            yield from _around(commit)
            yield from remaining(self._store, commit.tree, self.dropped[oid], parts)
        elif kind is not Kind.BLOB:
            yield from _below(self._store, kind, oid)


class IntactCommits:
    """A check that commits can be relied on, for a caller that took a lease before it."""

    def __init__(self, repo: Repository) -> None:
        repo.store.refresh()
        self._repo = repo
        self._tips = set(repo.tips().values())
        self._tips |= {
            record.commit for record in repo.refs.tips("tags").values() if record.commit is not None
        }
        self._dropped = repo.retention.table()
        self._sound: set[Oid] = set()

    def holds(self, oid: Oid) -> bool:
        """Return whether a commit and its state are reachable from a ref, or outside the trash."""
        if oid in self._tips or (oid not in self._dropped and self._is_reachable(oid)):
            return True
        return self._is_complete(oid)

    def may_follow(self, oid: Oid) -> bool:
        """Return whether a commit can be a parent, which does not need its state."""
        return oid in self._tips or self._is_reachable(oid) or self._is_complete(oid)

    def _is_reachable(self, oid: Oid) -> bool:
        """Return whether a tip's first-parent history has the commit; merged ones are not found."""
        try:
            # Strict: behind damage, only a full check proves that a commit is intact.
            walks = (self._repo.walk_links(tip, on_damage="raise") for tip in self._tips)
            return any(oid == each for walk in walks for each, _ in walk)
        except IntegrityError:
            return False

    def _is_complete(self, oid: Oid) -> bool:
        store = self._repo.store
        if not store.can_rely_on(oid):
            return False
        try:
            pending = [(Kind.COMMIT, oid), (Kind.TREE, _commit(store, oid).tree)]
            while pending:
                kind, each = pending.pop()
                if each in self._sound:
                    continue
                if not store.can_rely_on(each):
                    return False
                if kind is Kind.COMMIT and each in self._dropped:
                    pending.extend(_around(_commit(store, each)))
                elif kind is not Kind.BLOB:
                    pending.extend(_below(store, kind, each))
                self._sound.add(each)
        except IntegrityError:
            return False
        return True


@contextmanager
def relying(repo: Repository, name: str, commit: Oid, *, space: Space = "heads") -> Iterator[int]:
    """Hold a lease while a ref is pointed to an existing commit.

    Yields the argument `last` of `Refs.append`. Raises MissingObjectError for a commit that was
    collected, ConflictError for one in the trash.
    """
    last = repo.refs.last(name, space)
    with repo.leases.acquire() as lease:
        lease.cover(f"{space}/{name}")
        if not IntactCommits(repo).holds(commit):
            if commit not in repo.store:
                raise MissingObjectError(str(commit))
            dropped = repo.retention.table().get(commit)
            why = "" if dropped is None else f" (dropped by: gradient forget {dropped.policy})"
            raise ConflictError(
                f"commit {commit.short} is not complete{why}, or it is in the trash; to bring back "
                f"everything in the trash: gradient gc --undo"
            )
        yield last


def _below(store: ObjectStore, kind: Kind, oid: Oid) -> Iterator[tuple[Kind, Oid]]:
    """Yield an object's direct dependencies."""
    if kind is Kind.COMMIT:
        commit = _commit(store, oid)
        yield from _around(commit)
        yield Kind.TREE, commit.tree
    elif kind is not Kind.BLOB:
        yield from references_in(kind, store.read(oid, kind))


def _commit(store: ObjectStore, oid: Oid) -> CommitRecord:
    raw = store.indexed_commit(oid)
    return (
        CommitRecord.from_bytes(store.read(oid, Kind.COMMIT))
        if raw is None
        else CommitRecord.from_known(raw)
    )


def _around(commit: CommitRecord) -> Iterator[tuple[Kind, Oid]]:
    """Yield a commit's dependencies except for its tree."""
    yield from ((Kind.COMMIT, parent) for parent in commit.parents)
    if commit.anchor is not None:
        yield Kind.COMMIT, commit.anchor
    facts = (commit.environment, commit.hparams, commit.fork)
    yield from ((Kind.TREE, root) for root in facts if root is not None)
