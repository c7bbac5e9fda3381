"""Updates of the view after commits and moved refs: the files to write, and their kind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from gradient.errors import GradientIOError, UnsupportedValueError
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.repo.config import ViewMode
from gradient.repo.foreign_files import FileKind
from gradient.repo.repository import Repository
from gradient.storage.directory import NO_ROOM
from gradient.view.file_names import file_name
from gradient.view.folder import ViewFolder
from gradient.view.manifest import Manifest

_LOG = logging.getLogger("gradient")
_Result = TypeVar("_Result")

MOST_STATE_BYTES: Final = 64 << 20
"""The size above which a state gets a thin file with ``auto``."""

MOST_FULL_BYTES: Final = 1 << 30
"""The total size above which the oldest full files are replaced by thin ones with ``auto``."""


@dataclass(frozen=True, slots=True)
class _Full:
    """A full file: its commit, the time of the commit, and its length."""

    commit: Oid
    time: str
    size: int


class ViewUpdater:
    """Keeps a repo's view up to date. Errors are logged and never fail a commit."""

    def __init__(self, repo: Repository, mode: ViewMode) -> None:
        """Write the manifest of a new repo, and repair the paths in one that was moved."""
        self.repo = repo
        self.mode = mode
        self.folder = ViewFolder(repo)
        self._manifest = Manifest(repo)
        self._branches: list[str] = []
        self._full: dict[str, _Full] | None = None
        self._is_short = False
        guarded("the view", self._settle)

    def add(self, oid: Oid, state: Mapping[str, Any] | None = None) -> str | None:
        """Add an acknowledged commit; return the path of its file, or None without one.

        `state` is the captured state. Missing components are read from the store if needed.
        """
        path = guarded(f"the view of commit {oid.short}", lambda: self._add(oid, state))
        guarded("manifest.json", self._manifest.update)
        return path

    def close(self) -> None:
        """Write a postponed manifest. May be called again."""
        guarded("manifest.json", self._manifest.flush)

    def write(self, name: str, oid: Oid, state: Mapping[str, Any] | None = None) -> None:
        """Write the file of a commit, of the kind that the mode requires."""
        if self.mode == "off":
            self.folder.remove(name)
        elif self.mode == "thin" or self._is_short or not self._try_full(name, oid, state):
            self.folder.write_thin(name, oid)
            self._note(name, oid, "thin")

    def make_room(self) -> bool:
        """Replace all full files by thin ones on a full disk; return whether there were any.

        Later files are thin too, until `has_room` is called.
        """
        files = dict(guarded("the view", self._full_files) or {})
        if files:
            size = sum(file.size for file in files.values())
            _LOG.warning("the disk is full: %d full files (%d bytes) turn thin", len(files), size)
        self._is_short = True
        # All are removed first, because even a thin file may not fit.
        for name in files:
            guarded(name, partial(self.folder.remove, name))
        for name, file in files.items():
            guarded(name, partial(self.folder.write_thin, name, file.commit))
        self._full = None
        return bool(files)

    def has_room(self) -> None:
        """Allow full files again after a commit that fitted on the disk."""
        self._is_short = False

    def full_bytes(self) -> int:
        """Return the total size of all full files."""
        return sum(file.size for file in self._full_files().values())

    def _settle(self) -> None:
        self.folder.sweep(now=time.time())
        if self._manifest.is_current():
            return
        for name, mark in self.folder.marks().items():
            if mark.kind == "thin":
                self.folder.write_thin(name, mark.commit)
        self._manifest.write()

    def _add(self, oid: Oid, state: Mapping[str, Any] | None) -> str | None:
        branches = self.repo.branches()
        if branches != self._branches:
            self.folder.follow()
            self._branches = branches
            self._full = None
        commit = self.repo.read_commit(oid)
        name = file_name(commit.branch, commit.step)
        self.write(name, oid, state)
        return None if self.mode == "off" else self.folder.path(name)

    def _try_full(self, name: str, oid: Oid, state: Mapping[str, Any] | None) -> bool:
        """Write a full file unless the mode, a value or a full disk prevents it."""
        from gradient.view import desc_payload  # lazily: thin files are written without torch

        commit = self.repo.read_commit(oid)
        if self.mode == "auto" and desc_payload.size(self.repo, commit, state) > MOST_STATE_BYTES:
            return False
        try:
            content = self._payload(name, oid, commit, state)
            self.folder.write_full(name, oid, content)
        except (UnsupportedValueError, GradientIOError) as error:
            if isinstance(error, GradientIOError) and error.errno not in NO_ROOM:
                raise
            _LOG.warning("%s is a thin file: %s", name, error)
            return False
        self._note(name, oid, "full")
        if self.mode == "auto":
            self._thin_out()
        return True

    def _payload(
        self, name: str, oid: Oid, commit: CommitRecord, state: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        from gradient.view import desc_payload

        whole = desc_payload.complete(self.repo, commit, state)
        built = desc_payload.build(commit, oid, whole, path=self.folder.path(name))
        return desc_payload.portable(built)

    def _thin_out(self) -> None:
        """Replace the oldest full files by thin ones until the total size is small enough."""
        files = self._full_files()
        while files and self.full_bytes() > MOST_FULL_BYTES:
            oldest = min(files, key=lambda name: files[name].time)
            oid = files[oldest].commit
            if not self.folder.size(oldest):  # another process removed it
                del files[oldest]
                continue
            self.folder.write_thin(oldest, oid)
            self._note(oldest, oid, "thin")

    def _full_files(self) -> dict[str, _Full]:
        if self._full is None:
            marks = self.folder.marks()
            full = {name: mark.commit for name, mark in marks.items() if mark.kind == "full"}
            self._full = {name: self._weighed(name, oid) for name, oid in full.items()}
        return self._full

    def _note(self, name: str, oid: Oid, kind: FileKind) -> None:
        files = self._full_files()
        files.pop(name, None)
        if kind == "full":
            files[name] = self._weighed(name, oid)

    def _weighed(self, name: str, oid: Oid) -> _Full:
        return _Full(oid, self.repo.read_commit(oid).time, self.folder.size(name))


def add_commit(repo: Repository, oid: Oid) -> None:
    """Write the thin file of a commit that no engine made, if the repo has view files."""
    view = ViewUpdater(repo, "thin" if ViewFolder(repo).marks() else "off")
    view.add(oid)
    view.close()


def follow_refs(repo: Repository) -> None:
    """Rename the files and rewrite the manifest after refs moved; log a failure."""
    guarded("the view", ViewFolder(repo).follow)
    guarded("manifest.json", Manifest(repo).write)


def guarded(what: str, work: Callable[[], _Result]) -> _Result | None:
    """Update the view with a function; log an error and return None."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the commit is acknowledged, whatever happens here
        remedy = "The commit is safe; to write it again: gradient view rebuild"
        _LOG.warning("%s is not up to date: %s. %s", what, error, remedy)
        return None
