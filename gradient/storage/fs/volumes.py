"""The file system that a path is on: free space and type."""

from __future__ import annotations

import os

from gradient.errors import GradientIOError
from gradient.storage.fs.calls import Attempt
from gradient.storage.fs.contents import read_stream
from gradient.storage.fs.queries import real


def free_bytes(path: str) -> int:
    """Return the bytes that this process may still write to the file system of `path`."""
    with Attempt("measure", path):
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize


def free_files(path: str) -> int | None:
    """Return how many more files can be created; None if the file system has no limit."""
    with Attempt("measure", path):
        facts = os.statvfs(path)
        return facts.f_favail if facts.f_files else None


def mount_type(path: str) -> str | None:
    """Return the type of the file system that a folder is on; None if the system does not say."""
    try:
        resolved = real(path)
        mounts = read_stream("/proc/self/mountinfo").decode("utf-8", "surrogateescape")
    except GradientIOError:
        return None
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        if len(words) > 4 and after:
            point = words[4].replace("\\040", " ")
            inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
            if inside and (best is None or len(point) >= best[0]):
                best = len(point), after.split()[0]
    return None if best is None else best[1]
