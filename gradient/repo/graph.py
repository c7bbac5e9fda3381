"""The commits of a store as refs and parents connect them: tips, lines, what is kept of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from gradient.objects.commit import CommitRecord, Link
from gradient.objects.oid import Kind, Oid
from gradient.store.object_store import ObjectStore
from gradient.store.refs import RefRecord, Refs
from gradient.store.retention_log import Dropped, Retention

_LOG = logging.getLogger("gradient")


class Graph:
    """Commits and the branches that lead to them. Reads only; may be shared by threads."""

    def __init__(self, store: ObjectStore, refs: Refs, retention: Retention) -> None:
        self.store = store
        self.refs = refs
        self.retention = retention
        self._commits: dict[Oid, CommitRecord] = {}
        self._links: dict[Oid, Link] = {}
        self._reported: set[Oid] = set()
        self.bridges: dict[Oid, Oid] = {}
        """What could not be read, with what came before it by the logs (see `bridging`)."""

    def branches(self) -> list[str]:
        """Return the names of all branches, sorted."""
        return self.refs.names()

    def tip(self, branch: str) -> Oid | None:
        """Return the commit a branch stands on; None where there is no such branch.

        Where that commit was lost (a power cut on a disk that lies about syncing), the newest one
        before it that is there stands in for it, with a logged warning.
        """
        record = self.refs.read(branch)
        return None if record is None else self._standing(branch, record)

    def _standing(self, branch: str, record: RefRecord) -> Oid | None:
        if record.commit is None or record.commit in self.store:
            return record.commit
        moves = (each.commit for each in self.refs.backwards(branch))
        forgotten = self.retention.table()
        there = (oid for oid in moves if oid is not None and oid in self.store)
        found = next((oid for oid in there if oid not in forgotten), None)
        if found is not None and record.commit not in self._reported:
            self._reported.add(record.commit)
            _LOG.warning(
                "the newest commit of branch %r (%s) is lost or its pack damaged; %s stands in "
                "for it. Nothing was deleted",
                branch,
                record.commit.short,
                found.short,
            )
        return found or record.commit

    def check_tip(self, branch: str) -> None:
        """Raise IntegrityError if the newest commit of a branch is lost or damaged."""
        record = self.refs.read(branch)
        if record is not None and record.commit is not None:
            self.read_commit(record.commit)

    def tips(self) -> dict[str, Oid]:
        """Return every branch with the commit it stands on."""
        records = self.refs.tips()
        found = ((branch, self._standing(branch, record)) for branch, record in records.items())
        return {branch: oid for branch, oid in found if oid is not None}

    def read_commit(self, oid: Oid) -> CommitRecord:
        """Return a commit, verified when it is first read; raises IntegrityError for damage."""
        commit = self._commits.get(oid)
        if commit is None:
            known = self.store.known_commit(oid)
            if known is not None:
                commit = CommitRecord.from_known(known)
            else:
                commit = CommitRecord.from_bytes(self.store.read(oid, Kind.COMMIT))
            self._commits[oid] = commit
        return commit

    def named(self) -> set[Oid]:
        """Return the commits that a branch or tag names: nothing of these is ever let go of."""
        spaces = (self.refs.tips("heads"), self.refs.tips("tags"))
        records = (record for found in spaces for record in found.values())
        return {record.commit for record in records if record.commit is not None}

    def dropped(self) -> Mapping[Oid, Dropped]:
        """Return what retention has let go of, by commit."""
        table = self.retention.table()
        if table:
            named = self.named()
            table = {oid: what for oid, what in table.items() if oid not in named}
        return table

    def link(self, oid: Oid) -> Link:
        """Return a commit's place in history, without reading more of it than needed."""
        link = self._links.get(oid)
        if link is None:
            link = self.store.known_link(oid) or self.read_commit(oid).link
            self._links[oid] = link
        return link

    def chain(self, oid: Oid | None) -> Iterator[tuple[Oid, Link]]:
        """Yield the places in history of a commit and its first parents, the newest first."""
        while oid is not None:
            link = self.link(oid)
            yield oid, link
            oid = link.parent

    def walk(self, oid: Oid | None) -> Iterator[tuple[Oid, CommitRecord]]:
        """Yield a commit and its first parents, the newest first."""
        while oid is not None:
            commit = self.read_commit(oid)
            yield oid, commit
            oid = commit.parents[0] if commit.parents else None

    def line(self, branch: str) -> Iterator[tuple[Oid, CommitRecord]]:
        """Yield the commits of a branch's line, the newest first; none for an unknown branch."""
        return self.walk(self.tip(branch))
