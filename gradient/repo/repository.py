"""A repo on disk: its store, its refs, its active branch, and the resolution of revisions.

Reading never writes: everything here except for `set_head` works on a read-only folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from gradient.errors import ContextError, MalformedObjectError
from gradient.objects.oid import Oid
from gradient.repo import branch_names, foreign_files, json_files, paths, revisions
from gradient.repo.config import DEFAULT_BRANCH, RepoConfig
from gradient.repo.graph import Graph
from gradient.repo.retention import forgotten_error
from gradient.repo.trust import Trust
from gradient.repo.workspace import load_repo
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store.leases import Leases
from gradient.store.object_store import ObjectStore
from gradient.store.refs import Refs
from gradient.store.retention_log import RetentionLog


class Repository(Graph):
    """An open repo, made by `open`; may be shared by threads."""

    def __init__(
        self, config: RepoConfig, *, workers: int | None = None, trust: Trust | None = None
    ) -> None:
        self.config = config
        self.trust = trust or Trust()
        """The repos of other users that may be written to."""
        self.path = config.repo_path
        self.storage = DirectoryStorage(paths.inside(self.path))
        self.leases = Leases(self.storage)
        super().__init__(
            ObjectStore(self.storage, workers=workers),
            Refs(self.storage),
            RetentionLog(self.storage),
        )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        workers: int | None = None,
        trust: Trust | None = None,
    ) -> Repository:
        """Open a repo for reading; call `check_writable` before writing.

        Raises ContextError if the folder is not a repo, FormatVersionError for a repo of a newer
        Gradient, ForeignRepoError for one of the published package.
        """
        root = fs.absolute(path)
        foreign_files.check_format(root)
        config = load_repo(root)
        if config is None:
            raise ContextError(f"{root} is not a repo; make it one: gradient repo init")
        return cls(config, workers=workers, trust=trust)

    def __repr__(self) -> str:
        return f"Repository({self.path!r})"

    def check_writable(self) -> None:
        """Raise an error if writing could do harm.

        Raises OwnershipError for another user's repo, ForeignRepoError if the folder holds another
        program's data.
        """
        self.trust.check(self.path)
        foreign_files.refuse_writing(self.path)

    @property
    def head(self) -> str | None:
        """The branch that HEAD names; None if HEAD is not set."""
        raw = json_files.read_bytes(paths.inside(self.path, paths.HEAD), limit=json_files.MAX_BYTES)
        if raw is None:
            return None
        try:
            branch = raw.decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError:
            branch = ""
        if not branch_names.is_branch_name(branch):
            raise MalformedObjectError(
                f"HEAD of {self.path} names no branch; set it again: gradient switch BRANCH"
            )
        return branch

    def set_head(self, branch: str) -> None:
        """Make `branch` the active one, durably; it need not have commits."""
        branch_names.check_branch_name(branch)
        path = paths.inside(self.path, paths.HEAD)
        fs.replace_file(path, f"{branch}\n".encode(), durable=True)

    def active_branch(self, explicit: str | None = None) -> str:
        """Return the explicit branch, else the one that HEAD names, else ``main``."""
        return explicit or self.head or str(DEFAULT_BRANCH)

    def resolve(self, revision: str, *, branch: str | None = None) -> revisions.Resolved:
        """Return the commit that a revision names.

        ``latest`` and ``HEAD`` mean `branch`, by default the active one. Raises
        MalformedRevisionError, UnknownRevisionError, AmbiguousRevisionError.
        """
        return revisions.resolve(self, revision, branch=self.active_branch(branch))

    def resolve_range(self, text: str, *, branch: str | None = None) -> revisions.Span:
        """Return the commits of a range such as ``main@100..main@500``; raises as `resolve`."""
        return revisions.resolve_range(self, text, branch=self.active_branch(branch))

    def check_kept(self, oid: Oid, *, components: Collection[str] | None = None) -> None:
        """Raise ForgottenError if the state of a commit, or one of `components`, was dropped."""
        forgotten_error.check(self, oid, components)
