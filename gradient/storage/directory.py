"""A storage in a folder of a file system, shared by processes and perhaps by machines."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradient.errors import GradientIOError
from gradient.storage import fs
from gradient.storage.base import Reader, Storage, Upload, check

if TYPE_CHECKING:
    from typing_extensions import Buffer

_TEMPORARY = "tmp"
_FLUSH_BYTES = 8 << 20
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The errors that mean that no space is left."""


class DirectoryStorage(Storage):
    """An existing folder. Unfinished contents are in its subfolder ``tmp/``, under random names.

    IMPORTANT: the folder is never created here. If a repo was moved away, or its disk is no longer
    mounted, data written to a new folder of that name would be lost.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._settled: set[str] = set()
        """The folders whose own names this process knows to be durable."""

    def prepare(self, *folders: str) -> None:
        """Create the folders and sync all their parents, once per process."""
        for folder in (_TEMPORARY, *folders):
            parts = check(folder).split("/")
            for depth in range(1, len(parts) + 1):
                self._settle("/".join(parts[:depth]))

    def create(self) -> Upload:
        """Begin a temporary file."""
        return _DirectoryUpload(self, self._create_temporary())

    def put_if_absent(self, name: str, data: Buffer) -> bool:
        """Link a synced temporary file to the name: exclusive without a lock."""
        target, folder = self._target(name)
        file = self._create_temporary()
        try:
            with file:
                file.write(data)
                file.sync()
                try:
                    fs.link(file.path, target)
                except GradientIOError as error:
                    if error.errno in fs.NO_HARD_LINKS:
                        if not self._create_final(target, data):
                            return False
                    elif file.links() < 2:  # else it is done: a network file system lost the reply
                        if error.errno == errno.EEXIST:
                            return False
                        raise
            fs.sync_folder(folder)
        finally:
            fs.discard(file.path)
        return True

    def put_derived(self, name: str, *buffers: Buffer) -> None:
        """Rename a temporary file that is not synced."""
        target = self._path(name)
        file = self._create_temporary()
        try:
            with file:
                file.write(*buffers)
            fs.make_folders(target.rpartition("/")[0], within=self.path)
            fs.rename(file.path, target)
        except BaseException:
            fs.discard(file.path)
            raise

    def open(self, name: str) -> Reader:
        """Open the file; links, pipes and devices are refused."""
        return _DirectoryReader(fs.open_file(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """List the folder; returns no names if it does not exist."""
        return fs.names(self._path(folder))

    def size(self, name: str) -> int | None:
        """Return the file's length; None if it does not exist."""
        return fs.size(self._path(name))

    def move_all(self, targets: Mapping[str, str]) -> list[str]:
        """Link the new names, sync, unlink the old ones; it is harmless if one comes back."""
        for folder in sorted({target.rpartition("/")[0] for target in targets.values()}):
            self._settle(folder)
        moved: list[str] = []
        for name, target in targets.items():
            try:
                if self._link(self._path(name), self._path(target)):
                    moved.append(name)
            except GradientIOError as error:
                if error.errno not in NO_ROOM or not moved:
                    raise
                break
        for folder in sorted({targets[name].rpartition("/")[0] for name in moved}):
            self.sync(folder)
        for name in moved:
            fs.remove(self._path(name))
        return moved

    def _link(self, path: str, target: str) -> bool:
        """Link a file, or rename it if links are not supported; returns False if it is missing."""
        try:
            fs.link(path, target)
        except GradientIOError as error:
            if error.errno in fs.NO_HARD_LINKS:
                fs.rename(path, target)
            elif fs.is_missing(error):
                return False
            elif error.errno == errno.EEXIST:
                # It was linked before a kill, or has the same content; otherwise both files stay.
                return fs.size(path) == fs.size(target)
            else:
                raise
        return True

    def remove(self, name: str) -> None:
        """Remove the file if it exists."""
        fs.remove(self._path(name))

    def idle(self, name: str) -> float:
        """Compare the file's time with ours."""
        status = fs.status(self._path(name))
        return 0.0 if status is None else max(0.0, time.time() - status.st_mtime)

    def sync(self, folder: str) -> None:
        """Sync the folder."""
        fs.sync_folder(self._path(folder))

    def publish(self, file: fs.File, name: str) -> None:
        """Give a complete temporary file its name, durably."""
        target, folder = self._target(name)
        file.sync()
        file.close()
        fs.rename(file.path, target)
        fs.sync_folder(folder)

    def _path(self, name: str) -> str:
        return f"{self.path}/{check(name)}"

    def _target(self, name: str) -> tuple[str, str]:
        """Return the paths of a name and of its folder, after making the folder durable."""
        target = self._path(name)
        if "/" in name:
            self._settle(name.rpartition("/")[0])
        return target, target.rpartition("/")[0]

    def _settle(self, folder: str) -> None:
        # IMPORTANT: the parent of an existing folder is synced once, too. The process that created
        # the folder may not have done so yet, and our names would be lost with it.
        if folder not in self._settled:
            path = f"{self.path}/{folder}"
            if not fs.make_folders(path, within=self.path, durable=True):
                fs.sync_folder(path.rpartition("/")[0])
            self._settled.add(folder)

    def _create_temporary(self) -> fs.File:
        path = f"{self.path}/{_TEMPORARY}/{uuid.uuid4().hex}"
        try:
            return fs.create(path)
        except GradientIOError as error:
            if not fs.is_missing(error):
                raise
        fs.make_folders(f"{self.path}/{_TEMPORARY}", within=self.path)
        return fs.create(path)

    def _create_final(self, target: str, data: Buffer) -> bool:
        """Create the final name exclusively, for file systems without hard links."""
        try:
            file = fs.create(target)
        except GradientIOError as error:
            if error.errno == errno.EEXIST:
                return False
            raise
        with file:
            file.write(data)
            file.sync()
        return True


class _DirectoryUpload(Upload):
    def __init__(self, storage: DirectoryStorage, file: fs.File) -> None:
        self._storage = storage
        self._file = file
        self._open = True
        self._flushing = 0

    def write(self, *buffers: Buffer) -> None:
        self.size += self._file.write(*buffers)
        fresh = self.size - self._flushing
        if fresh >= _FLUSH_BYTES:
            self._file.begin_flush(self._flushing, fresh)
            self._flushing = self.size

    def publish(self, name: str) -> None:
        length = self._file.size()
        if length != self.size:
            reason = OSError(errno.EIO, f"{length} bytes arrived of {self.size}")
            raise GradientIOError("write", self._file.path, reason)
        self._storage.publish(self._file, name)
        self._open = False

    def discard(self) -> None:
        if self._open:
            self._open = False
            # The file is abandoned, so errors of closing it do not matter.
            with contextlib.suppress(GradientIOError):
                self._file.close()
            fs.discard(self._file.path)


class _DirectoryReader(Reader):
    def __init__(self, file: fs.File) -> None:
        self._file = file
        try:
            self.size = file.size()
        except GradientIOError:
            file.close()
            raise

    def read_into(self, offset: int, *outs: memoryview) -> int:
        return self._file.read_into(offset, *outs)

    def close(self) -> None:
        self._file.close()
