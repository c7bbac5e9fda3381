"""Changes to the entries of folders: rename, link, move, remove, make folders, sync them."""

from __future__ import annotations

import errno
import logging
import os
import shutil

from gradient.errors import GradientIOError
from gradient.storage.fs.calls import Attempt
from gradient.storage.fs.file import sync_descriptor
from gradient.storage.fs.queries import is_folder

_LOG = logging.getLogger("gradient")

NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""The errors that mean that a file or folder cannot have a second name."""


def rename(path: str, target: str) -> None:
    """Rename, replacing `target`."""
    with Attempt("rename", path, target):
        os.replace(path, target)


def link(path: str, target: str) -> None:
    """Give a file a second name that does not exist yet."""
    with Attempt("link", path, target):
        os.link(path, target, follow_symlinks=False)


def move(path: str, target: str) -> None:
    """Move a file or folder durably: after a power cut it has one of its two names, or both.

    A file gets the new name before it loses the old one, if the file system supports hard links: a
    power cut may make only one half of a rename durable, because it changes two folders.
    """
    try:
        link(path, target)
    except GradientIOError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        rename(path, target)
    sync_folder(os.path.dirname(target))
    remove(path)
    sync_folder(os.path.dirname(path))


def remove(path: str) -> bool:
    """Remove a file; returns False if it does not exist."""
    with Attempt("remove", path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True


def discard(path: str) -> None:
    """Remove a temporary file while another error is being raised; never raises."""
    try:
        remove(path)
    except GradientIOError as error:
        _LOG.debug("left behind: %s", error)


def discard_folder(path: str) -> None:
    """Remove an unfinished folder and everything in it; never raises, follows no links."""
    with Attempt("remove", path):
        shutil.rmtree(path, ignore_errors=True)


def sync_folder(path: str) -> bool:
    """Make the names in a folder durable; returns False, like `File.sync`, if not supported."""
    with Attempt("sync folder", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return sync_descriptor(fd, path)
        finally:
            os.close(fd)


def make_folders(
    path: str, *, within: str | None = None, durable: bool = False, mode: int = 0o777
) -> bool:
    """Create a folder and its missing parents; returns whether any was missing.

    `within` is never created: if it does not exist, that is an error (ENOENT). With `durable` the
    parent of each *created* folder is synced. A folder that another process has just created is
    not: a caller that depends on it calls `sync_folder` on the parent.
    """
    missing: list[str] = []
    while path and not is_folder(path):
        if path == within:
            reason = "it is gone: moved, deleted, or its file system is no longer mounted"
            raise GradientIOError("write to", path, OSError(errno.ENOENT, reason))
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with Attempt("make folder", folder):
            try:
                os.mkdir(folder, mode)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
        if durable:
            sync_folder(os.path.dirname(folder) or ".")
    return bool(missing)
