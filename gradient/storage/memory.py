"""A storage in memory, for tests and for repos that need no disk."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gradient.storage.base import Reader, Storage, Upload, check, missing

if TYPE_CHECKING:
    from typing_extensions import Buffer


class MemoryStorage(Storage):
    """A dict. It lasts as long as the process."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        """All contents, by name; tests may damage them."""
        self._lock = threading.Lock()

    def prepare(self, *folders: str) -> None:
        """Check the names; there are no folders."""
        for folder in folders:
            check(folder)

    def create(self) -> Upload:
        """Begin new content."""
        return _MemoryUpload(self)

    def put_if_absent(self, name: str, data: Buffer) -> bool:
        """Store under a new name, atomically between threads."""
        check(name)
        with self._lock:
            if name in self.contents:
                return False
            self.contents[name] = bytes(data)
            return True

    def put_derived(self, name: str, *buffers: Buffer) -> None:
        """Store the buffers, one after another."""
        self.contents[check(name)] = b"".join(bytes(memoryview(each)) for each in buffers)

    def open(self, name: str) -> Reader:
        """Open the content as it is now."""
        try:
            return _MemoryReader(self.contents[check(name)])
        except KeyError:
            raise missing("open", name) from None

    def names(self, folder: str) -> list[str]:
        """List the names directly in the folder."""
        prefix = check(folder) + "/"
        with self._lock:
            inside = [name for name in self.contents if name.startswith(prefix)]
        return sorted({name[len(prefix) :].partition("/")[0] for name in inside})

    def size(self, name: str) -> int | None:
        """Return the content's length; None if it does not exist."""
        content = self.contents.get(check(name))
        return None if content is None else len(content)

    def move_all(self, targets: Mapping[str, str]) -> list[str]:
        """Store the contents under the other names."""
        with self._lock:
            moved = [name for name in targets if check(name) in self.contents]
            for name in moved:
                self.contents[check(targets[name])] = self.contents.pop(name)
        return moved

    def remove(self, name: str) -> None:
        """Remove the content."""
        with self._lock:
            self.contents.pop(check(name), None)

    def idle(self, name: str) -> float:
        """Return 0, because nothing is ever unfinished."""
        check(name)
        return 0.0

    def sync(self, folder: str) -> None:
        """Check the name; memory needs no sync."""
        check(folder)


class _MemoryUpload(Upload):
    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._content = bytearray()

    def write(self, *buffers: Buffer) -> None:
        for buffer in buffers:
            self._content += memoryview(buffer).tobytes()
        self.size = len(self._content)

    def publish(self, name: str) -> None:
        self._storage.contents[check(name)] = bytes(self._content)
        self._content.clear()

    def discard(self) -> None:
        self._content.clear()


class _MemoryReader(Reader):
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_into(self, offset: int, *outs: memoryview) -> int:
        position = offset
        for out in outs:
            part = self._content[position : position + out.nbytes]
            out[: len(part)] = part
            position += len(part)
        return position - offset

    def close(self) -> None:
        pass
