"""What the store asks of a place that keeps named bytes.

Names are relative and separated by ``/`` (``objects/pack/ab12.pack``). A name's content is written
once and complete: it appears under its name when it is durable, or not at all. Every refusal of the
place is a GradientIOError; an absent name has errno ENOENT.
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
    """Bytes on their way to a name. One writer; exactly one of publish and discard ends it.

    As a context manager it discards what was not published.
    """

    size: int = 0
    """The bytes written so far."""

    @abstractmethod
    def write(self, *buffers: Buffer) -> None:
        """Append the buffers, which may be reused at once."""

    @abstractmethod
    def publish(self, name: str) -> None:
        """Make the bytes durable and give them their name, replacing what had it.

        When this raises the bytes may be visible under the name, but must not be relied on.
        """

    @abstractmethod
    def discard(self) -> None:
        """Forget the bytes; never raises, harmless after publish."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()


class Reader(ABC):
    """A named content, open for reading from any thread."""

    size: int
    """Its length when it was opened."""

    @abstractmethod
    def read_into(self, offset: int, *outs: memoryview) -> int:
        """Fill the buffers in turn; returns fewer bytes only where the content ends."""

    @abstractmethod
    def close(self) -> None:
        """Release it; again is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Storage(ABC):
    """Named bytes. Safe to use from several threads, and from forked children."""

    @abstractmethod
    def prepare(self, *folders: str) -> None:
        """Make sure that the folders exist durably; places without folders do nothing."""

    @abstractmethod
    def create(self) -> Upload:
        """Begin a new content of unknown length."""

    @abstractmethod
    def put_if_absent(self, name: str, data: Buffer) -> bool:
        """Store `data` under a name that nothing has yet: the compare-and-swap of refs.

        True: stored and durable. False: the name was taken, nothing changed. Of several
        processes that try, one gets True. Where a place cannot do it atomically a reader may see
        a part of `data`: it must carry its own checksum. When this raises, `data` may be visible.
        """

    @abstractmethod
    def put_derived(self, name: str, *buffers: Buffer) -> None:
        """Store what can be made again: whole or not at all for readers, but not durable.

        After a power cut anything may be under the name: its readers must be able to tell.
        """

    @abstractmethod
    def open(self, name: str) -> Reader:
        """Open a content for reading; an absent one raises GradientIOError (ENOENT)."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the sorted last parts of the names directly in a folder, folders included."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the length of a content; None where there is none."""

    @abstractmethod
    def move_all(self, targets: Mapping[str, str]) -> list[str]:
        """Give contents other names, and return the names that were moved.

        The new names are durable. At each moment a content has one of its names, or both; after a
        power cut perhaps both again. One that is
        absent is left out, and so are those for whose new names there is no room left, if at
        least one could be moved.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a name; harmless where there is none."""

    @abstractmethod
    def idle(self, name: str) -> float:
        """Return for how many seconds a content was not written to, by the place's clock; 0: none.

        Only ever a hint: clocks go wrong.
        """

    @abstractmethod
    def sync(self, folder: str) -> None:
        """Make the names durable that are visible in a folder, whoever made them."""

    def read(self, name: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Return `size` bytes from `offset` on (all that follow without it); fewer at the end."""
        with self.open(name) as reader:
            rest = max(reader.size - offset, 0)
            content = bytearray(rest if size is None else min(size, rest))
            done = reader.read_into(offset, memoryview(content))
        return bytes(content[:done])

    def read_into(self, name: str, offset: int, out: memoryview) -> int:
        """Fill `out`; returns fewer bytes only where the content ends."""
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
