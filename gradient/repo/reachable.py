"""Everything that commits stand on: trees, lists and chunks, found by reading trees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from gradient.checkpoint.references import below
from gradient.errors import ConflictError, IntegrityError, MissingObjectError
from gradient.objects.commit import Commit
from gradient.objects.oid import Kind, Oid
from gradient.repo.repository import Repository
from gradient.store.database import ObjectStore
from gradient.store.refs import Space


class Marker:
    """Marks objects; what it marked once it does not read again."""

    def __init__(
        self, store: ObjectStore, *, progress: Callable[[int], None] | None = None
    ) -> None:
        self._store = store
        self._progress = progress
        self.marked: set[Oid] = set()
        """Everything that the commits marked so far stand on, themselves included."""

    def mark(self, commits: Iterable[Oid]) -> None:
        """Mark commits, all before them and all they stand on; blobs are not looked at.

        Raises an IntegrityError for an object that is missing or damaged: what it leads to cannot
        be known then. What was marked until then stays marked.
        """
        pending = [(Kind.COMMIT, oid) for oid in commits]
        while pending:
            kind, oid = pending.pop()
            if oid not in self.marked:
                if kind is not Kind.BLOB:
                    pending.extend(_below(self._store, kind, oid))
                self.marked.add(oid)
                if kind is Kind.COMMIT and self._progress is not None:
                    self._progress(1)

    def mark_found(self, commits: Iterable[Oid]) -> set[Oid]:
        """Return what those of the commits stand on that are still there, as far as it is there.

        Beside what is marked; nothing is marked by it.
        """
        found: set[Oid] = set()
        pending = [(Kind.COMMIT, oid) for oid in commits]
        while pending:
            kind, oid = pending.pop()
            if oid in self.marked or oid in found:
                continue
            if kind is not Kind.BLOB:
                try:
                    pending.extend(_below(self._store, kind, oid))
                except IntegrityError:
                    continue
            found.add(oid)
        return found


class Standing:
    """Whether commits can be relied on, now: for those who hold a lease since before this."""

    def __init__(self, repo: Repository) -> None:
        repo.store.refresh()
        self._repo = repo
        self._tips = set(repo.tips().values())
        self._tips |= {
            record.commit for record in repo.refs.tips("tags").values() if record.commit is not None
        }
        self._sound: set[Oid] = set()

    def holds(self, oid: Oid) -> bool:
        """Tell whether a ref leads to a commit, or all that it stands on lies outside the trash."""
        return oid in self._tips or self._is_reachable(oid) or self._is_complete(oid)

    def _is_reachable(self, oid: Oid) -> bool:
        """Follow the first parents, as most commits are reached; the others cost a full look."""
        try:
            return any(oid == at for tip in self._tips for at, _ in self._repo.chain(tip))
        except IntegrityError:
            return False

    def _is_complete(self, oid: Oid) -> bool:
        pending = [(Kind.COMMIT, oid)]
        while pending:
            kind, each = pending.pop()
            if each in self._sound:
                continue
            if not self._repo.store.stands(each):
                return False
            try:
                if kind is not Kind.BLOB:
                    pending.extend(_below(self._repo.store, kind, each))
            except IntegrityError:
                return False
            self._sound.add(each)
        return True


@contextmanager
def relying(repo: Repository, name: str, commit: Oid, *, space: Space = "heads") -> Iterator[int]:
    """Hold a lease while a ref is made to name a commit that is there.

    Yields what `Refs.append` is to be given as `last`. Raises MissingObjectError for a commit that
    was collected, ConflictError for one that lies in the trash.
    """
    last = repo.refs.last(name, space)
    with repo.leases.take() as lease:
        lease.cover(f"{space}/{name}")
        if not Standing(repo).holds(commit):
            if commit not in repo.store:
                raise MissingObjectError(str(commit))
            raise ConflictError(
                f"not all of commit {commit.short} is there any more, or it lies in the trash; "
                f"what is in the trash comes back by: gradient gc --undo"
            )
        yield last


def _below(store: ObjectStore, kind: Kind, oid: Oid) -> Iterator[tuple[Kind, Oid]]:
    """Yield what an object stands on directly."""
    if kind is Kind.COMMIT:
        raw = store.known_commit(oid)
        body = store.read(oid, kind) if raw is None else raw
        commit = Commit.from_known(body) if raw is not None else Commit.from_bytes(body)
        yield from ((Kind.COMMIT, parent) for parent in commit.parents)
        if commit.anchor is not None:
            yield Kind.COMMIT, commit.anchor
        roots = (commit.tree, commit.environment, commit.hparams, commit.fork)
        yield from ((Kind.TREE, root) for root in roots if root is not None)
    elif kind is not Kind.BLOB:
        yield from below(kind, store.read(oid, kind))
