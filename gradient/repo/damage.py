"""The commits that need a damaged pack or a missing object, for the error that reports it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from gradient.checkpoint.references import references_in
from gradient.errors import (
    CorruptObjectError,
    CorruptPackError,
    IntegrityError,
    MissingObjectError,
)
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo.repository import Repository
from gradient.repo.retention.partial_tree import remaining


@contextmanager
def naming_commits(repo: Repository) -> Iterator[None]:
    """Add the commits that need it to the error for a damaged pack or a missing object."""
    try:
        yield
    except CorruptPackError as error:
        if error.commits:
            raise
        commits = damaged_commits(repo)
        raise CorruptPackError(error.pack, error.reason, commits=commits) from error
    except MissingObjectError as error:
        if error.commits:
            raise
        commits = damaged_commits(repo)
        if not commits:  # the object never existed
            raise
        raise MissingObjectError(error.name, commits=commits) from error
    except CorruptObjectError as error:
        if error.pack is None:
            raise
        commits = damaged_commits(repo, {error.name})
        reason = f"object {error.name}: {error.reason}"
        raise CorruptPackError(error.pack, reason, commits=commits) from error


def damaged_commits(repo: Repository, unreadable: Collection[str] = ()) -> list[str]:
    """Return the revisions of the commits that need a missing object, or one of the given ids.

    An object whose delta base is missing counts as missing. A commit that is lost itself is named
    by its branch and id. Trees are read, blobs are only looked up. The result is sorted by branch,
    the oldest first.
    """
    search = _Search(repo, frozenset(unreadable))
    found: dict[Oid, str] = {}
    for branch in repo.branches():
        records = repo.refs.log(branch)
        for oid in dict.fromkeys(record.commit for record in records if record.commit is not None):
            found.setdefault(oid, branch)
    return [
        name for oid, branch in found.items() if (name := search.damage(oid, branch)) is not None
    ]


class _Search:
    """Checks commits; caches the result per object, because commits share most objects."""

    def __init__(self, repo: Repository, unreadable: Collection[str]) -> None:
        self._repo = repo
        self._unreadable = {Oid.parse(text) for text in unreadable}
        self._sound: dict[Oid, bool] = {}
        self._dropped = repo.dropped()

    def damage(self, oid: Oid, branch: str) -> str | None:
        """Return the name of a damaged commit; None for an intact one."""
        try:
            self._present(oid)
            commit = self._repo.read_commit(oid)
        except IntegrityError:
            return f"{branch} ({oid.short})"
        return None if self._is_intact(oid, commit) else commit.revision

    def _is_intact(self, oid: Oid, commit: CommitRecord) -> bool:
        facts = (commit.environment, commit.hparams, commit.fork)
        needed = [(Kind.TREE, root) for root in facts if root is not None]
        try:
            needed += self._state(oid, commit.tree)
        except IntegrityError:
            return False
        return all(self._is_sound(*each) for each in needed)

    def _state(self, oid: Oid, root: Oid) -> list[tuple[Kind, Oid]]:
        """Return the parts of a commit's tree that must exist."""
        dropped = self._dropped.get(oid)
        if dropped is None:
            return [(Kind.TREE, root)]
        return list(remaining(self._repo.store, root, dropped, set()))

    def _is_sound(self, kind: Kind, oid: Oid) -> bool:
        known = self._sound.get(oid)
        if known is None:
            try:
                known = all(self._is_sound(*each) for each in self._below(kind, oid))
            except IntegrityError:
                known = False
            self._sound[oid] = known
        return known

    def _below(self, kind: Kind, oid: Oid) -> Iterator[tuple[Kind, Oid]]:
        self._present(oid)
        if kind is not Kind.BLOB:
            yield from references_in(kind, self._repo.store.read(oid, kind))

    def _present(self, oid: Oid) -> None:
        if not self._repo.store.is_complete(oid, without=self._unreadable):
            raise MissingObjectError(str(oid))
