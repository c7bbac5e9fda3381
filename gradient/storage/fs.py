"""The only module that touches the operating system's file system.

Goals: every refusal of the system arrives as a GradientIOError that names operation and path; every
call can be watched, counted or made to fail by a test; a durable write is one function.

Rules: a file is complete and synced before it gets its final name; nothing is written in place; an
`fsync` that failed is never repeated on the same file (the kernel has already forgotten the dirty
pages and would report success), the caller abandons the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import logging
import os
import pwd
import shutil
import stat
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Literal, Self

from gradient.errors import GradientIOError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

_LOG = logging.getLogger("gradient")
_MOST_VECTORS = 512
_COPY_BYTES = 1 << 20
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What the system says where a file, or a folder, can not have a second name."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that is about to be made."""

    operation: str
    """``open`` ``create`` ``read`` ``write`` ``sync`` ``close`` ``rename`` ``link`` ``remove``
    ``make folder`` ``sync folder`` ``list`` ``inspect`` ``measure`` ``lock``."""
    path: str
    """What it is made on."""
    target: str = ""
    """The second path of ``rename`` and ``link``."""
    data: tuple[memoryview, ...] = ()
    """What ``write`` is asked to write; valid during the call only."""


Kind = Literal["file", "folder", "link", "special file"]
"""What a path may name; pipes, sockets and devices are special."""

Observer = Callable[[Call], "int | None"]

observer: Observer | None = None
"""Sees every call before it is made. It may raise OSError, which is handled as if the system had;
for a ``write`` it may return a number: so many bytes are written and no more. For tests."""


class _Attempt:
    """Announces one call and translates its OSError."""

    __slots__ = ("limit", "operation", "path")

    def __init__(
        self, operation: str, path: str, target: str = "", data: tuple[memoryview, ...] = ()
    ) -> None:
        self.operation = operation
        self.path = path
        self.limit: int | None = None
        if observer is not None:
            try:
                self.limit = observer(Call(operation, path, target, data))
            except OSError as error:
                raise GradientIOError(operation, path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, GradientIOError):
            raise GradientIOError(self.operation, self.path, error) from error


class File:
    """An open file that knows its path."""

    __slots__ = ("_fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    def write(self, *buffers: Buffer) -> int:
        """Write all of all buffers, however often the system stops early; returns the bytes."""
        views = [view for view in map(_bytes_of, buffers) if view.nbytes]
        total = sum(view.nbytes for view in views)
        while views:
            batch = tuple(views[:_MOST_VECTORS])
            with _Attempt("write", self.path, data=batch) as attempt:
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
            with _Attempt("read", self.path):
                done = os.preadv(self._fd, views[:_MOST_VECTORS], offset + total)
            if done == 0:
                break
            total += done
            while views and done >= views[0].nbytes:
                done -= views.pop(0).nbytes
            if done:
                views[0] = views[0][done:]
        return total

    def begin_flush(self, offset: int, length: int) -> None:
        """Ask the system to begin writing a range to the disk; nothing is promised by it.

        `sync` then waits for less. A file that goes out while the rest of it is still being made
        costs the disk's time or the processor's, not their sum. What goes wrong with it is told by
        `sync`.
        """
        # Linux begins to write what is dirty there; it would also forget what is not, and that is
        # nothing as long as a range is named once, right after it was written.
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        """Return the length now."""
        with _Attempt("inspect", self.path):
            return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        """Return the system's number of it."""
        return self._fd

    def links(self) -> int:
        """Return how many names the file has."""
        with _Attempt("inspect", self.path):
            return os.fstat(self._fd).st_nlink

    def sync(self) -> bool:
        """Make the content durable. After a failure the file must be abandoned.

        Returns False, with a logged warning, where the file system has no such thing.
        """
        with _Attempt("sync", self.path):
            return _sync(self._fd, self.path)

    def close(self) -> None:
        """Close; a delayed write error (quota, network) is raised here. Again is harmless."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                attempt = _Attempt("close", self.path)
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
    with _Attempt("create", path):
        return File(os.open(path, flags, mode), path)


def open_file(path: str) -> File:
    """Open a regular file for reading; links, pipes and devices are refused unopened."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with _Attempt("open", path):
        fd = os.open(path, flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file")
        return File(fd, path)


def rename(path: str, target: str) -> None:
    """Rename, replacing `target`."""
    with _Attempt("rename", path, target):
        os.replace(path, target)


def link(path: str, target: str) -> None:
    """Give a file a second name that does not exist yet."""
    with _Attempt("link", path, target):
        os.link(path, target, follow_symlinks=False)


def move(path: str, target: str) -> None:
    """Give a file or a folder another name, durably: a power cut leaves it one of the two, or both.

    A file gets the new one before it loses the old one, where the place lets it have two: a rename
    may come to half of that, in the one folder and not in the other.
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
    """Remove a name; returns False where there was none."""
    with _Attempt("remove", path):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True


def sync_folder(path: str) -> bool:
    """Make the names in a folder durable; returns False, as `File.sync`, where that cannot be."""
    with _Attempt("sync folder", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _sync(fd, path)
        finally:
            os.close(fd)


def make_folders(
    path: str, *, within: str | None = None, durable: bool = False, mode: int = 0o777
) -> bool:
    """Create a folder and the missing ones above; returns whether anything was missing.

    The one that they are `within` is never created: if it is gone, that is an error (ENOENT). With
    `durable` the folder above each *created* one is synced. A folder that another process created
    a moment ago is not: who depends on it calls `sync_folder` on the one above.
    """
    missing: list[str] = []
    while path and not is_folder(path):
        if path == within:
            reason = "it is gone: moved, deleted, or its file system is no longer mounted"
            raise GradientIOError("write to", path, OSError(errno.ENOENT, reason))
        missing.append(path)
        path = os.path.dirname(path)
    for folder in reversed(missing):
        with _Attempt("make folder", folder):
            try:
                os.mkdir(folder, mode)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
        if durable:
            sync_folder(os.path.dirname(folder) or ".")
    return bool(missing)


def names(folder: str) -> list[str]:
    """Return the sorted names in a folder; none where there is no folder."""
    with _Attempt("list", folder):
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []


def status(path: str) -> os.stat_result | None:
    """Return the system's facts about a path, links followed; None where there is nothing."""
    with _Attempt("inspect", path):
        try:
            return os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


def absolute(path: str | os.PathLike[str]) -> str:
    """Return the path from the root on, without ``..``; links stay as they are."""
    with _Attempt("inspect", os.fspath(path)):
        return os.path.abspath(path)


def real(path: str) -> str:
    """Return the path from the root on that leads through no link."""
    with _Attempt("inspect", path):
        return os.path.realpath(path)


def user(number: int) -> str:
    """Return what a user is called here, with the number; for people."""
    try:
        return f"{pwd.getpwuid(number).pw_name} (uid {number})"
    except KeyError:
        return f"uid {number}"


def exists(path: str) -> bool:
    """Tell whether a path names anything."""
    return status(path) is not None


def is_file(path: str) -> bool:
    """Tell whether a path is a regular file."""
    facts = status(path)
    return facts is not None and stat.S_ISREG(facts.st_mode)


def is_plain_file(path: str) -> bool:
    """Tell whether a path is itself a regular file, not a link to one."""
    with _Attempt("inspect", path):
        try:
            return stat.S_ISREG(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


def kind(path: str) -> Kind | None:
    """Return what a path names, links not followed; None where it names nothing."""
    with _Attempt("inspect", path):
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
    """Tell whether a path is a folder."""
    facts = status(path)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def size(path: str) -> int | None:
    """Return the length of a regular file; None where there is none."""
    facts = status(path)
    return facts.st_size if facts is not None and stat.S_ISREG(facts.st_mode) else None


def free_bytes(path: str) -> int:
    """Return the space that is left for us where `path` is."""
    with _Attempt("measure", path):
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize


def free_files(path: str) -> int | None:
    """Return how many more files there is room for; None where the file system has no limit."""
    with _Attempt("measure", path):
        facts = os.statvfs(path)
        return facts.f_favail if facts.f_files else None


def try_lock(file: File) -> bool:
    """Take an exclusive lock on an open file if no other process has one; closing ends it."""
    with _Attempt("lock", file.path):
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def mount_type(path: str) -> str | None:
    """Return the type of the file system that a folder is on; None where the system won't say."""
    try:
        place = real(path)
        mounts = read_stream("/proc/self/mountinfo").decode("utf-8", "surrogateescape")
    except GradientIOError:
        return None
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        if len(words) > 4 and after:
            point = words[4].replace("\\040", " ")
            inside = place == point or place.startswith(point.rstrip("/") + "/")
            if inside and (best is None or len(point) >= best[0]):
                best = len(point), after.split()[0]
    return None if best is None else best[1]


def read_stream(path: str) -> bytes:
    """Return the content of a file whose length is not known before, such as those of ``/proc``."""
    content = bytearray()
    block = bytearray(_COPY_BYTES)
    with open_file(path) as file:
        while done := file.read_into(len(content), memoryview(block)):
            content += block[:done]
    return bytes(content)


def read_file(path: str, *, limit: int | None = None) -> bytes:
    """Return a file's content, of at most `limit` bytes (more is an error, EFBIG)."""
    with open_file(path) as file:
        length = file.size()
        if limit is not None and length > limit:
            reason = OSError(errno.EFBIG, f"{length} bytes; at most {limit} are expected")
            raise GradientIOError("read", path, reason)
        content = bytearray(length)
        done = file.read_into(0, memoryview(content))
    return bytes(content[:done])


def read_system(path: str, most: int = 4096) -> bytes | None:
    """Return the first bytes of a file that the system makes up; None where it has none for us.

    Such files (``/proc``) have no length, and are absent on some systems.
    """
    try:
        with open_file(path) as file:
            content = bytearray(most)
            return bytes(content[: file.read_into(0, memoryview(content))])
    except GradientIOError:
        return None


def read_link(path: str) -> str | None:
    """Return what a symbolic link says; None where there is none that we may read."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def replace_file(
    path: str,
    content: Buffer | Callable[[IO[bytes]], object],
    *,
    durable: bool = False,
    mode: int = 0o666,
) -> None:
    """Put a complete new file in place of `path`, atomically.

    `content` is the bytes, or a function that writes them to the binary file it is given (not
    seekable). The temporary file lies beside the target. `durable` syncs file and folder; without
    it readers see the old file or the new one, but a power cut may leave an empty one.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp-{uuid.uuid4().hex}")
    file = create(temporary, mode=mode)
    try:
        with file:
            if callable(content):
                with io.BufferedWriter(_Sink(file), _COPY_BYTES) as sink:
                    content(sink)
            else:
                file.write(content)
            if durable:
                file.sync()
        rename(temporary, path)
    except BaseException:
        discard(temporary)
        raise
    if durable:
        sync_folder(folder or ".")


def discard(path: str) -> None:
    """Remove a temporary file while another error is on its way; never fails."""
    try:
        remove(path)
    except GradientIOError as error:
        _LOG.debug("left behind: %s", error)


def discard_folder(path: str) -> None:
    """Remove an unfinished folder with all that is in it; never fails, follows no links."""
    with _Attempt("remove", path):
        shutil.rmtree(path, ignore_errors=True)


class _Sink(io.RawIOBase):
    """What a writer function sees of a File."""

    def __init__(self, file: File) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        return self._file.write(data)


def _bytes_of(buffer: Buffer) -> memoryview:
    view = memoryview(buffer)
    if view.nbytes == 0:
        return memoryview(b"")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _sync(fd: int, path: str) -> bool:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        _LOG.warning("%s is on a file system that cannot sync; a power cut may lose it", path)
        return False
    return True


def is_missing(error: GradientIOError) -> bool:
    """Tell whether the error says that the path names nothing."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR)
