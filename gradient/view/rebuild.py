"""The rebuild of the whole view from the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gradient.repo.config import ViewMode
from gradient.repo.repository import Repository
from gradient.view.manifest import Manifest
from gradient.view.updates import MOST_FULL_BYTES, ViewUpdater


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild."""

    written: tuple[str, ...]
    """The files that were missing or damaged and are restored."""
    kept: int
    """The number of files that existed."""


def rebuild(
    repo: Repository,
    *,
    mode: ViewMode = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Rebuilt:
    """Write every view file that is missing, and the manifest; names and paths are repaired.

    `progress` receives the number of finished files and of all files. Raises ForeignRepoError if
    another program's files are in the folder, GradientIOError and IntegrityError.
    """
    repo.check_writable()
    view = ViewUpdater(repo, mode)
    wanted = view.folder.follow()
    marks = view.folder.marks()
    missing = [name for name, entry in wanted.items() if name not in marks]
    if mode == "off":
        missing = []
    # The newest first: with "auto" they are the ones that may be full.
    missing.sort(key=lambda name: wanted[name].commit.time, reverse=True)
    for done, name in enumerate(missing):
        if progress is not None:
            progress(done, len(missing))
        if mode == "auto" and view.full_bytes() > MOST_FULL_BYTES:
            view.folder.write_thin(name, wanted[name].oid)
        else:
            view.write(name, wanted[name].oid)
    Manifest(repo).write()
    return Rebuilt(tuple(sorted(missing)), len(wanted) - len(missing))
