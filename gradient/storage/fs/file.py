"""Open files: write, read, sync, lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
from typing import TYPE_CHECKING, Self

from gradient.errors import GradientIOError
from gradient.storage.fs.calls import Attempt

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LOG = logging.getLogger("gradient")
_MAX_VECTORS = 512
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class File:
    """An open file that knows its path."""

    __slots__ = ("_fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    def write(self, *buffers: Buffer) -> int:
        """Write all buffers completely, in as many system calls as it takes; returns the bytes."""
        views = [view for view in map(_bytes_of, buffers) if view.nbytes]
        total = sum(view.nbytes for view in views)
        while views:
            batch = tuple(views[:_MAX_VECTORS])
            with Attempt("write", self.path, data=batch) as attempt:
                if attempt.limit is None:
                    done = os.writev(self._fd, batch)
                else:
                    done = os.write(self._fd, batch[0][: attempt.limit])
                if done == 0:
                    raise OSError(errno.EIO, "the system wrote nothing")
            while views and done >= views[0].nbytes:
                done -= views.pop(0).nbytes
            if done:
                views[0] = views[0][done:]
        return total

    def read_into(self, offset: int, *outs: memoryview) -> int:
        """Fill the buffers from `offset` on; returns fewer bytes only at the end of the file."""
        views = [view for view in map(_bytes_of, outs) if view.nbytes]
        total = 0
        while views:
            with Attempt("read", self.path):
                done = os.preadv(self._fd, views[:_MAX_VECTORS], offset + total)
            if done == 0:
                break
            total += done
            while views and done >= views[0].nbytes:
                done -= views.pop(0).nbytes
            if done:
                views[0] = views[0][done:]
        return total

    def begin_flush(self, offset: int, length: int) -> None:
        """Ask the system to begin writing a range to the disk. It promises nothing.

        `sync` then waits for less: the disk writes while the rest of the file is still being
        computed. `sync` also raises the errors of this writing.
        """
        # Linux begins to write the dirty pages of the range. It would also drop clean pages from
        # its cache; there are none as long as each range is named once, right after it was written.
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        """Return the current length."""
        with Attempt("inspect", self.path):
            return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._fd

    def links(self) -> int:
        """Return how many names the file has."""
        with Attempt("inspect", self.path):
            return os.fstat(self._fd).st_nlink

    def sync(self) -> bool:
        """Make the content durable. After a failure the file must be abandoned.

        Logs a warning and returns False if the file system does not support it.
        """
        with Attempt("sync", self.path):
            return sync_descriptor(self._fd, self.path)

    def close(self) -> None:
        """Close the file, raising a delayed write error (quota, network). Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                attempt = Attempt("close", self.path)
            except GradientIOError:
                os.close(fd)
                raise
            with attempt:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create(path: str, *, mode: int = 0o444) -> File:
    """Create a file that does not exist yet, for writing; the umask applies to `mode`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with Attempt("create", path):
        return File(os.open(path, flags, mode), path)


def open_file(path: str) -> File:
    """Open a regular file for reading; refuses links, pipes and devices without opening them."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with Attempt("open", path):
        fd = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return File(fd, path)


def try_lock(file: File) -> bool:
    """Lock an open file exclusively unless another process has locked it; closing unlocks it."""
    with Attempt("lock", file.path):
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def sync_descriptor(fd: int, path: str) -> bool:
    """Sync an open file or folder; logs a warning and returns False if that is not supported."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        _LOG.warning("%s is on a file system that cannot sync; a power cut may lose it", path)
        return False
    return True


def _bytes_of(buffer: Buffer) -> memoryview:
    view = memoryview(buffer)
    if view.nbytes == 0:
        return memoryview(b"")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
