"""The ``ckpt_*.pt`` files of a repo; files of other programs are never changed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any, Final

from gradient.errors import ForeignRepoError, MissingObjectError
from gradient.objects.oid import Oid
from gradient.repo import foreign_files, paths
from gradient.repo.foreign_files import Mark
from gradient.repo.history import Entry, History
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.view import thin, zip_comment
from gradient.view.file_names import file_name

_LOG = logging.getLogger("gradient")
_TEMPORARY = re.compile(r"\.(?:ckpt_.*\.pt|manifest\.json)\.tmp-[0-9a-f]{32}", re.DOTALL)
_ABANDONED: Final = 3600.0
"""Seconds after which no writer is still at a file. One that is gets an error, not a wrong file."""


class ViewFolder:
    """The view files of a repo."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo

    def path(self, name: str) -> str:
        """Return a file's absolute path."""
        return paths.beside(self.repo.path, name)

    def mark(self, name: str) -> Mark | None:
        """Return the mark of our file; None if it is missing or damaged.

        Raises ForeignRepoError for another program's file, and for a link or a folder.
        """
        path = self.path(name)
        if not fs.is_regular_file(path) and not fs.exists(path):
            return None
        found = foreign_files.read_mark(path)
        if found in ("foreign", "no file"):
            raise ForeignRepoError(f"{path} was not written by this store; it is left as it is")
        return found if isinstance(found, Mark) else None

    def marks(self) -> dict[str, Mark]:
        """Return the marks of all our files."""
        read = (
            (name, foreign_files.read_mark(self.path(name)))
            for name in foreign_files.checkpoint_names(self.repo.path)
        )
        return {name: mark for name, mark in read if isinstance(mark, Mark)}

    def size(self, name: str) -> int:
        """Return a file's length; 0 if it does not exist."""
        return fs.size(self.path(name)) or 0

    def write_thin(self, name: str, oid: Oid) -> None:
        """Write a thin file for a commit, replacing our file."""
        self.mark(name)
        content = thin.to_bytes(
            str(oid),
            self.repo.read_commit(oid).revision,
            self.repo.path,
            comment=Mark("thin", oid).to_bytes(),
        )
        fs.replace_file(self.path(name), content)

    def write_full(self, name: str, oid: Oid, payload: dict[str, Any]) -> None:
        """Write a portable payload for a commit, replacing our file."""
        self.mark(name)
        mark = Mark("full", oid)
        fs.replace_file(self.path(name), lambda out: zip_comment.save(payload, out, mark))

    def remove(self, name: str) -> None:
        """Remove our file, if it exists."""
        if self.mark(name) is not None:
            fs.remove(self.path(name))

    def sweep(self, *, now: float) -> None:
        """Remove temporary files of killed writers that are older than an hour."""
        for name in fs.names(self.repo.path):
            if _TEMPORARY.fullmatch(name) is not None:
                facts = fs.status(self.path(name))
                if facts is not None and now - facts.st_mtime > _ABANDONED:
                    fs.remove(self.path(name))

    def follow(self) -> dict[str, Entry]:
        """Rename every file after its commit's present revision; return the entry of each name.

        The files of a branch that was set aside are renamed with it. A file is removed if no branch
        reaches its commit, if its step was committed again, or if its commit was forgotten. It can
        be rebuilt as long as the commit exists. Copies under other names stay.
        """
        # IMPORTANT: list the files before the history. A file appears after its commit is
        # acknowledged, so a listed file without a commit in the history has really lost it.
        marks = self.marks()
        history = History(self.repo)
        wanted = names_of(history)
        names = {entry.oid: name for name, entry in wanted.items()}
        branches = self.repo.refs.known()
        for name, mark in marks.items():
            target = names.get(mark.commit)
            if target == name or not self._is_given(name, mark.commit, branches):
                continue
            if target is not None and not fs.exists(self.path(target)):
                fs.rename(self.path(name), self.path(target))
                _LOG.info("%s is called %s now", name, target)
            else:
                fs.remove(self.path(name))
        return wanted

    def _is_given(self, name: str, oid: Oid, branches: Iterable[str]) -> bool:
        """Return whether the file has a name of ours: its commit's step and a known branch."""
        try:
            commit = self.repo.read_commit(oid)
        except MissingObjectError:
            return False
        return any(name == file_name(branch, commit.step) for branch in (commit.branch, *branches))


def names_of(history: History) -> dict[str, Entry]:
    """Return the possible file names with their entries.

    A commit with dropped components has no file.
    """
    return {
        file_name(entry.branch, entry.step): entry
        for entry in history.newest()
        if entry.oid not in history.dropped
    }
