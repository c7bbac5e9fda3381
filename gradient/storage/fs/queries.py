"""Questions about paths. None of them changes anything."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from typing import Literal

from gradient.errors import GradientIOError
from gradient.storage.fs.calls import Attempt

Kind = Literal["file", "folder", "link", "special file"]
"""The kinds of things that a path can name; pipes, sockets and devices are special files."""


def names(folder: str) -> list[str]:
    """Return the sorted names in a folder; none if the folder does not exist."""
    with Attempt("list", folder):
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []


def status(path: str) -> os.stat_result | None:
    """Return the system's metadata of a path, following links; None if nothing exists there."""
    with Attempt("inspect", path):
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the absolute path without ``..``; links are not resolved."""
    with Attempt("inspect", os.fspath(path)):
        return os.path.abspath(path)


def real(path: str) -> str:
    """Return the absolute path with all links resolved."""
    with Attempt("inspect", path):
        return os.path.realpath(path)


def user(number: int) -> str:
    """Return the name and number of a user, for people."""
    try:
        return f"{pwd.getpwuid(number).pw_name} (uid {number})"
    except KeyError:
        return f"uid {number}"


def exists(path: str) -> bool:
    """Return whether something exists at a path."""
    return status(path) is not None


def is_file(path: str) -> bool:
    """Return whether a path is a regular file, following links."""
    facts = status(path)
    return facts is not None and stat.S_ISREG(facts.st_mode)


def is_regular_file(path: str) -> bool:
    """Return whether a path is a regular file itself, not a link to one."""
    with Attempt("inspect", path):
        try:
            return stat.S_ISREG(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


def kind(path: str) -> Kind | None:
    """Return the kind of thing at a path, not following links; None if nothing exists there."""
    with Attempt("inspect", path):
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "special file"


def is_folder(path: str) -> bool:
    """Return whether a path is a folder, following links."""
    facts = status(path)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def size(path: str) -> int | None:
    """Return the length of a regular file; None if it does not exist."""
    facts = status(path)
    return facts.st_size if facts is not None and stat.S_ISREG(facts.st_mode) else None


def read_link(path: str) -> str | None:
    """Return the target of a symbolic link; None if there is no link that we may read."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def is_missing(error: GradientIOError) -> bool:
    """Return whether an error means that nothing exists at the path."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR)
