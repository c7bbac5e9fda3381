"""One repo on disk: its store, its refs, its active branch, its commits.

Reading never writes: everything here but `set_head` and `prepare` works on a read-only folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping

from gradient.errors import ContextError, MalformedObjectError
from gradient.objects.commit import Commit, Link
from gradient.objects.oid import Kind, Oid
from gradient.repo import documents, foreign, forgotten, layout, names, revisions
from gradient.repo.config import DEFAULT_BRANCH, RepoConfig
from gradient.repo.workspace import load_repo
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store.database import ObjectStore
from gradient.store.leases import Leases
from gradient.store.refs import RefRecord, Refs
from gradient.store.retention import Dropped, Retention

_LOG = logging.getLogger("gradient")


class Repository:
    """A repo that was opened. Made by `open`; may be shared by threads."""

    def __init__(self, config: RepoConfig, *, workers: int | None = None) -> None:
        self.config = config
        self.path = config.repo_path
        self.storage = DirectoryStorage(layout.inside(self.path))
        self.store = ObjectStore(self.storage, workers=workers)
        self.refs = Refs(self.storage)
        self.leases = Leases(self.storage)
        self.retention = Retention(self.storage)
        self._commits: dict[Oid, Commit] = {}
        self._reported: set[Oid] = set()

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, workers: int | None = None) -> Repository:
        """Open a repo for reading; `check_writable` says whether writing is allowed too.

        Raises ContextError where there is no repo, FormatVersionError for one of a newer Gradient,
        ForeignRepoError for one of the published package.
        """
        root = fs.absolute(path)
        foreign.check_format(root)
        config = load_repo(root)
        if config is None:
            raise ContextError(f"{root} is not a repo; make it one: gradient repo init")
        return cls(config, workers=workers)

    def __repr__(self) -> str:
        return f"Repository({self.path!r})"

    def check_writable(self) -> None:
        """Refuse to write beside another program's data: raises ForeignRepoError."""
        foreign.refuse_writing(self.path)

    @property
    def head(self) -> str | None:
        """The branch that HEAD names; None where HEAD was never set."""
        raw = documents.read_bytes(layout.inside(self.path, layout.HEAD), limit=documents.MAX_BYTES)
        if raw is None:
            return None
        try:
            branch = raw.decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError:
            branch = ""
        if not names.is_branch_name(branch):
            raise MalformedObjectError(
                f"HEAD of {self.path} names no branch; set it again: gradient switch BRANCH"
            )
        return branch

    def set_head(self, branch: str) -> None:
        """Make `branch` the active one, durably; it need not have commits yet."""
        names.check_branch_name(branch)
        path = layout.inside(self.path, layout.HEAD)
        fs.replace_file(path, f"{branch}\n".encode(), durable=True)

    def active_branch(self, explicit: str | None = None) -> str:
        """Return the branch that is meant: the explicit one, else HEAD, else ``main``."""
        return explicit or self.head or str(DEFAULT_BRANCH)

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
        found = next((oid for oid in moves if oid is not None and oid in self.store), None)
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

    def resolve(self, revision: str, *, branch: str | None = None) -> revisions.Resolved:
        """Find the commit that a revision names.

        ``latest`` and ``HEAD`` mean `branch`, by default the active one. Raises
        MalformedRevisionError, UnknownRevisionError, AmbiguousRevisionError.
        """
        return revisions.resolve(self, revision, branch=self.active_branch(branch))

    def resolve_range(self, text: str, *, branch: str | None = None) -> revisions.Span:
        """Find the commits of a range such as ``main@100..main@500``; raises like `resolve`."""
        return revisions.resolve_range(self, text, branch=self.active_branch(branch))

    def read_commit(self, oid: Oid) -> Commit:
        """Return a commit, verified when it is first read; raises IntegrityError for damage."""
        commit = self._commits.get(oid)
        if commit is None:
            known = self.store.known_commit(oid)
            if known is not None:
                commit = Commit.from_known(known)
            else:
                commit = Commit.from_bytes(self.store.read(oid, Kind.COMMIT))
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

    def check_kept(self, oid: Oid, *, components: Collection[str] | None = None) -> None:
        """Raise ForgottenError where retention has let go of a commit, or one of its components."""
        forgotten.check(self, oid, components)

    def link(self, oid: Oid) -> Link:
        """Return a commit's place in history, without reading more of it than needed."""
        commit = self._commits.get(oid)
        known = self.store.known_link(oid) if commit is None else None
        return known or self.read_commit(oid).link

    def chain(self, oid: Oid | None) -> Iterator[tuple[Oid, Link]]:
        """Yield the places in history of a commit and its first parents, the newest first."""
        while oid is not None:
            link = self.link(oid)
            yield oid, link
            oid = link.parent

    def walk(self, oid: Oid | None) -> Iterator[tuple[Oid, Commit]]:
        """Yield a commit and its first parents, the newest first."""
        while oid is not None:
            commit = self.read_commit(oid)
            yield oid, commit
            oid = commit.parents[0] if commit.parents else None

    def line(self, branch: str) -> Iterator[tuple[Oid, Commit]]:
        """Yield the commits of a branch's line, the newest first; none for an unknown branch."""
        return self.walk(self.tip(branch))
