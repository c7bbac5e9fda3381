"""The interface of a storage: a place that keeps named bytes.

Names are relative and separated by ``/`` (``objects/pack/ab12.pack``). A name's content is written
once and complete: it appears under its name once it is durable, or never. Every error is a
GradientIOError; an absent name has errno ENOENT.
"""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from gradient.errors import GradientIOError, InvalidNameError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NAME = re.compile(r"[a-z0-9%_-][a-z0-9._%-]*(/[a-z0-9%_-][a-z0-9._%-]*)*")


class Upload(ABC):
    """Bytes that get a name once they are complete. For one writer; `publish` or `discard` ends it.

    As a context manager it discards bytes that were not published.
    """

    size: int = 0
    """The bytes written so far."""

    @abstractmethod
    def write(self, *buffers: Buffer) -> None:
        """Append the buffers, which the caller may reuse at once."""

    @abstractmethod
    def publish(self, name: str) -> None:
        """Make the bytes durable and give them their name, replacing existing content.

        If this raises, the bytes may be visible under the name, but must not be relied on.
        """

    @abstractmethod
    def discard(self) -> None:
        """Discard the bytes; never raises, does nothing after `publish`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class Reader(ABC):
    """The open content of a name; any thread may read it."""

    size: int
    """The length when it was opened."""

    @abstractmethod
    def read_into(self, offset: int, *outs: memoryview) -> int:
        """Fill the buffers in turn; returns fewer bytes only at the end of the content."""

    @abstractmethod
    def close(self) -> None:
        """Release it; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Storage(ABC):
    """Named bytes. Safe to use from several threads, and in forked children."""

    @abstractmethod
    def prepare(self, *folders: str) -> None:
        """Make sure that the folders exist durably; a storage without folders does nothing."""

    @abstractmethod
    def create(self) -> Upload:
        """Begin new content of unknown length."""

    @abstractmethod
    def put_if_absent(self, name: str, data: Buffer) -> bool:
        """Store `data` under a name that does not exist yet: the compare-and-swap of refs.

        Returns True if it is stored and durable; False if the name exists, and nothing changed.
        Only one of several processes that try gets True. A storage that is not atomic may show
        readers a part of `data`, which must carry its own checksum. If this raises, `data` may be
        visible.
        """

    @abstractmethod
    def put_derived(self, name: str, *buffers: Buffer) -> None:
        """Store content that can be derived again: atomically for readers, but not durably.

        After a power cut the name may have any content: its readers must be able to detect that.
        """

    @abstractmethod
    def open(self, name: str) -> Reader:
        """Open content for reading; raises GradientIOError (ENOENT) if the name does not exist."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the sorted last parts of the names directly in a folder, folders included."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the length of content; None if the name does not exist."""

    @abstractmethod
    def move_all(self, targets: Mapping[str, str]) -> list[str]:
        """Rename contents, and return the names that were moved.

        The new names are durable. At each moment a content has one of its names, or both; after a
        power cut perhaps both again. Absent names are left out. So are names for which no space is
        left, if at least one could be moved.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a name; does nothing if it does not exist."""

    @abstractmethod
    def idle(self, name: str) -> float:
        """Return the seconds since content was last written, by the storage's clock; 0 if absent.

        Only a hint, because clocks can be wrong.
        """

    @abstractmethod
    def sync(self, folder: str) -> None:
        """Make the names visible in a folder durable, also those that other processes made."""

    def read(self, name: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return `size` bytes from `offset` on (by default all of them); fewer at the end."""
        with self.open(name) as reader:
            rest = max(reader.size - offset, 0)
            content = bytearray(rest if size is None else min(size, rest))
            done = reader.read_into(offset, memoryview(content))
        return bytes(content[:done])

    def read_into(self, name: str, offset: int, out: memoryview) -> int:
        """Fill `out`; returns fewer bytes only at the end of the content."""
        with self.open(name) as reader:
            return reader.read_into(offset, out)


def check(name: str) -> str:
    """Return the name; raises InvalidNameError for one that could leave the storage."""
    if _NAME.fullmatch(name) is None:
        raise InvalidNameError(name, "storage names are made of a-z 0-9 . _ % - and /")
    return name


def missing(operation: str, name: str) -> GradientIOError:
    """Make the error for an absent name."""
    return GradientIOError(operation, name, OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
