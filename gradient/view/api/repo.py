"""`Repo`: a repo opened for reading."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias

from gradient.repo.damage import naming_commits
from gradient.repo.discovery import locate
from gradient.repo.repository import Repository
from gradient.view import html
from gradient.view.api.commit import Commit, Log, first_line

if TYPE_CHECKING:
    from gradient.view.compare import Comparison, Side
    from gradient.view.export import Exported

Against: TypeAlias = "str | Commit | Side"
"""One side of a comparison: a revision, a commit, or a file (`integrations.file_tensors`)."""


def open_repo(path: str | os.PathLike[str] = ".") -> Repo:
    """Open the repo that contains a folder, or the only repo below it, for reading.

    Raises ContextError if there is no repo or there are several, FormatVersionError for a repo of a
    newer Gradient, ForeignRepoError for one of the published package.
    """
    return Repo(Repository.open(locate(path).repo))


class Repo:
    """A repo opened for reading, by `open_repo`.

    ``repo["main@100"]`` is a commit; any revision works: a branch, ``main~2``, ``main@best:loss``,
    a tag, an id. Nothing here changes the repo.
    """

    def __init__(self, repository: Repository) -> None:
        self._repo = repository

    @property
    def path(self) -> str:
        """The absolute path of the repo's folder."""
        return self._repo.path

    @property
    def name(self) -> str:
        """The repo's name."""
        return self._repo.config.name

    @property
    def branches(self) -> list[str]:
        """The names of all branches, sorted."""
        return self._repo.branches()

    @property
    def tags(self) -> list[str]:
        """The names of all tags, sorted."""
        return self._repo.refs.names(space="tags")

    @property
    def active_branch(self) -> str:
        """The branch whose tip ``latest`` names: the one in HEAD, or ``main``."""
        return self._repo.active_branch()

    def __getitem__(self, revision: str) -> Commit:
        """Return the commit that a revision names.

        Raises MalformedRevisionError, UnknownRevisionError with the nearest existing revisions,
        AmbiguousRevisionError for the beginning of several ids, or IntegrityError for a damaged
        commit.
        """
        resolved = self._repo.resolve(revision)
        return Commit(self._repo, resolved.oid, resolved.commit)

    def log(self, revision: str | None = None, *, limit: int | None = None) -> Log:
        """Return a commit and its first-parent history, the newest first.

        Without a revision, this is the history of the active branch, which may be empty. `limit` is
        the most commits to return. A damaged commit in between is left out, with a logged warning,
        if the refs' logs have its parent. Raises the errors of ``repo[revision]``, and
        IntegrityError if they do not.
        """
        start = (
            self._repo.tip(self.active_branch)
            if revision is None
            else self._repo.resolve(revision).oid
        )
        log = Log()
        for oid, commit in self._repo.walk(start, on_damage="skip"):
            if limit is not None and len(log) >= limit:
                break
            log.append(Commit(self._repo, oid, commit))
        return log

    def diff(self, a: Against, b: Against, *, optimizer: bool = False) -> Comparison:
        """Compare two commits or files: their metadata, and each tensor of the model.

        With `optimizer`, the optimizer's tensors are compared too. Raises the errors of
        ``repo[revision]``, ForgottenError if the state of a commit was dropped, and IntegrityError
        for damage.
        """
        from gradient.view.compare import compare  # lazily, as all below that needs torch

        with naming_commits(self._repo):
            sides = [self._side(each, optimizer=optimizer) for each in (a, b)]
            return compare(*sides, optimizer=optimizer)

    def export(
        self,
        revision: str | Commit,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        **what: Any,
    ) -> Exported:
        """Write a commit to a ``.pt`` or ``.safetensors`` file, or to a folder.

        `what` selects a part: ``components=("model",)``, ``weights_only=True``,
        ``match=("lora_*",)``, ``dtype="bfloat16"``. A single component or pattern may be given as
        text: ``match="lora_*"``. With `force`, an existing file or export folder is replaced.

        Raises ConfigError for an unknown format or a contradictory selection, NotFoundError for
        a component that the commit does not have, ConflictError if the path exists,
        UnsupportedValueError for values that the format cannot hold, and ForgottenError.
        """
        from gradient.view.export import Selection, export

        for name in ("components", "match"):
            if isinstance(what.get(name), str):
                what[name] = (what[name],)
        with naming_commits(self._repo):
            oid = self._commit(revision).oid
            return export(self._repo, oid, os.fspath(path), Selection(**what), force=force)

    def _commit(self, revision: str | Commit) -> Commit:
        return revision if isinstance(revision, Commit) else self[revision]

    def _side(self, one: Against, *, optimizer: bool) -> Side:
        from gradient.view.compare import Side, revision_side

        if isinstance(one, Side):
            return one
        commit = self._commit(one)
        return revision_side(self._repo, commit.oid, commit.revision, optimizer=optimizer)

    def __repr__(self) -> str:
        tip = self._repo.tip(self.active_branch)
        at = f"{self.active_branch}@{self._repo.read_commit(tip).step}" if tip else "no commits"
        count = len(self.branches)
        branches = "1 branch" if count == 1 else f"{count} branches"
        return f"<Repo {self.name!r} at {at}, {branches}, {self.path}>"

    def _repr_html_(self) -> str:
        rows = []
        for branch, tip in self._repo.tips().items():
            commit = self._repo.read_commit(tip)
            active = "active" if branch == self.active_branch else ""
            rows.append((branch, commit.step, first_line(commit.message), commit.time, active))
        head = ("branch", "step", "message", "time", "")
        return html.table(f"{self.name} ({self.path})", head, rows)
