"""The ``ckpt_*.pt`` files of one repo: written, renamed and removed, never one of another's."""

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
    """The visible files of a repo."""

    def __init__(self, repo: Repository) -> None:
        self.repo = repo

    def path(self, name: str) -> str:
        """Return a file's absolute path."""
        return paths.beside(self.repo.path, name)

    def mark(self, name: str) -> Mark | None:
        """Return the mark of a file of ours; None where there is none that counts.

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
        """Return the marks of all files of ours."""
        read = (
            (name, foreign_files.read_mark(self.path(name)))
            for name in foreign_files.checkpoint_names(self.repo.path)
        )
        return {name: mark for name, mark in read if isinstance(mark, Mark)}

    def size(self, name: str) -> int:
        """Return a file's length; 0 where there is none."""
        return fs.size(self.path(name)) or 0

    def write_thin(self, name: str, oid: Oid) -> None:
        """Write a thin file for a commit, in place of ours."""
        self.mark(name)
        content = thin.to_bytes(
            str(oid),
            self.repo.read_commit(oid).revision,
            self.repo.path,
            comment=Mark("thin", oid).to_bytes(),
        )
        fs.replace_file(self.path(name), content)

    def write_full(self, name: str, oid: Oid, payload: dict[str, Any]) -> None:
        """Write a portable payload for a commit, in place of ours."""
        self.mark(name)
        mark = Mark("full", oid)
        fs.replace_file(self.path(name), lambda out: zip_comment.save(payload, out, mark))

    def remove(self, name: str) -> None:
        """Remove a file of ours, if it is there."""
        if self.mark(name) is not None:
            fs.remove(self.path(name))

    def sweep(self, *, now: float) -> None:
        """Remove what writers that were killed left half-written more than an hour ago."""
        for name in fs.names(self.repo.path):
            if _TEMPORARY.fullmatch(name) is not None:
                facts = fs.status(self.path(name))
                if facts is not None and now - facts.st_mtime > _ABANDONED:
                    fs.remove(self.path(name))

    def follow(self) -> dict[str, Entry]:
        """Give every file the name that its commit has by now; returns what each name stands for.

        A line that was set aside takes its files along. The file of a commit that no branch leads
        to, or whose step was committed again, goes: it can be rebuilt while the commit is there.
        So does that of a commit that is not whole any more.
        Copies that someone made under names of their own stay.
        """
        # IMPORTANT: files first, then history: a file appears after its commit was acknowledged,
        # so that one that is listed here and not known below has really lost its commit.
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
        """Whether we gave the file its name: its commit's step, a branch there is or was."""
        try:
            commit = self.repo.read_commit(oid)
        except MissingObjectError:
            return False
        return any(name == file_name(branch, commit.step) for branch in (commit.branch, *branches))


def names_of(history: History) -> dict[str, Entry]:
    """Return the name of each file that there could be, and what it stands for.

    A commit that retention has let go of, or of a part of it, has none.
    """
    return {
        file_name(entry.branch, entry.step): entry
        for entry in history.newest()
        if entry.oid not in history.dropped
    }
