"""The graph of commits: tips, first-parent histories, and the states that were dropped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Literal, TypeAlias

from gradient.errors import IntegrityError
from gradient.objects.commit import CommitRecord, Link
from gradient.objects.oid import Kind, Oid
from gradient.repo.reflog_parents import infer_parent
from gradient.store.object_store import ObjectStore
from gradient.store.ref_record import RefRecord
from gradient.store.refs import Refs
from gradient.store.retention_log import Dropped, RetentionLog

_LOG = logging.getLogger("gradient")

OnDamage: TypeAlias = Literal["raise", "skip"]
"""The treatment of a commit that cannot be read: raise its IntegrityError, or get past it."""


class Graph:
    """Commits and the branches that point to them. Read-only; may be shared by threads."""

    def __init__(self, store: ObjectStore, refs: Refs, retention: RetentionLog) -> None:
        self.store = store
        self.refs = refs
        self.retention = retention
        self._commits: dict[Oid, CommitRecord] = {}
        self._links: dict[Oid, Link] = {}
        self._reported: set[Oid] = set()
        self.inferred_parents: dict[Oid, Oid] = {}
        """The parents of commits that could not be read, by the refs' logs."""

    def branches(self) -> list[str]:
        """Return the names of all branches, sorted."""
        return self.refs.names()

    def tip(self, branch: str) -> Oid | None:
        """Return the commit that a branch points to; None if the branch does not exist.

        If that commit is lost (a power cut on a disk that lies about syncing), the newest one
        before it that exists is its substitute, with a logged warning.
        """
        record = self.refs.read(branch)
        return None if record is None else self._existing(branch, record)

    def _existing(self, branch: str, record: RefRecord) -> Oid | None:
        if record.commit is None or record.commit in self.store:
            return record.commit
        moves = (each.commit for each in self.refs.backwards(branch))
        forgotten = self.retention.table()
        existing = (oid for oid in moves if oid is not None and oid in self.store)
        substitute = next((oid for oid in existing if oid not in forgotten), None)
        if substitute is not None and record.commit not in self._reported:
            self._reported.add(record.commit)
            _LOG.warning(
                "the newest commit of branch %r (%s) is lost or its pack is damaged; %s is used "
                "instead. Nothing was deleted",
                branch,
                record.commit.short,
                substitute.short,
            )
        return substitute or record.commit

    def check_tip(self, branch: str) -> None:
        """Raise IntegrityError if the newest commit of a branch is lost or damaged."""
        record = self.refs.read(branch)
        if record is not None and record.commit is not None:
            self.read_commit(record.commit)

    def tips(self) -> dict[str, Oid]:
        """Return every branch with its tip."""
        records = self.refs.tips()
        pairs = ((branch, self._existing(branch, record)) for branch, record in records.items())
        return {branch: oid for branch, oid in pairs if oid is not None}

    def read_commit(self, oid: Oid) -> CommitRecord:
        """Return a commit, checked on the first read; raises IntegrityError for damage."""
        commit = self._commits.get(oid)
        if commit is None:
            known = self.store.indexed_commit(oid)
            if known is not None:
                commit = CommitRecord.from_known(known)
            else:
                commit = CommitRecord.from_bytes(self.store.read(oid, Kind.COMMIT))
            self._commits[oid] = commit
        return commit

    def named(self) -> set[Oid]:
        """Return the commits that a branch or tag points to, which retention always keeps whole."""
        spaces = (self.refs.tips("heads"), self.refs.tips("tags"))
        records = (record for found in spaces for record in found.values())
        return {record.commit for record in records if record.commit is not None}

    def dropped(self) -> Mapping[Oid, Dropped]:
        """Return the states and components that retention dropped, by commit."""
        table = self.retention.table()
        if table:
            named = self.named()
            table = {oid: what for oid, what in table.items() if oid not in named}
        return table

    def link(self, oid: Oid) -> Link:
        """Return a commit's link, without reading the commit if an index has it."""
        link = self._links.get(oid)
        if link is None:
            link = self.store.indexed_link(oid) or self.read_commit(oid).link
            self._links[oid] = link
        return link

    def walk(
        self, oid: Oid | None, *, on_damage: OnDamage = "raise"
    ) -> Iterator[tuple[Oid, CommitRecord]]:
        """Yield a commit and its first parents, the newest first; damage as in `walk_links`."""
        for each, _ in self.walk_links(oid, on_damage=on_damage):
            yield each, self.read_commit(each)

    def walk_links(
        self, oid: Oid | None, *, on_damage: OnDamage = "raise"
    ) -> Iterator[tuple[Oid, Link]]:
        """Yield the links of a commit and its first parents, the newest first.

        With ``on_damage="skip"``, a commit that cannot be read is left out, with a logged warning,
        and the walk continues with its parent by the refs' logs. Raises IntegrityError for such a
        commit if `on_damage` is ``"raise"`` or the logs do not have its parent.
        """
        skipped: set[Oid] = set()
        while oid is not None:
            try:
                link = self.link(oid)
            except IntegrityError:
                if on_damage == "raise" or oid in skipped:
                    raise  # met a second time, the inferred parents form a circle
                skipped.add(oid)
                oid = self.parent(oid)
                continue
            yield oid, link
            oid = link.parent

    def parent(self, oid: Oid) -> Oid | None:
        """Return a commit's first parent; by the refs' logs if the commit cannot be read.

        Raises IntegrityError if the logs do not have it either.
        """
        try:
            return self.link(oid).parent
        except IntegrityError:
            parent = self.inferred_parents.get(oid) or infer_parent(self.refs, oid)
            if parent is None:
                raise
        if oid not in self.inferred_parents:
            self.inferred_parents[oid] = parent
            _LOG.warning(
                "commit %s cannot be read; by its branch's log, %s came before it. "
                "What is damaged, and what can be saved: gradient fsck",
                oid.short,
                parent.short,
            )
        return parent

    def line(self, branch: str) -> Iterator[tuple[Oid, CommitRecord]]:
        """Yield a branch's first-parent history, the newest first; none for an unknown branch."""
        return self.walk(self.tip(branch))
