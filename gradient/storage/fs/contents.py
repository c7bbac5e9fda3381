"""Whole files: read at once, or replaced atomically."""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from gradient.errors import GradientIOError
from gradient.storage.fs.entries import discard, rename, sync_folder
from gradient.storage.fs.file import File, create, open_file

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BLOCK_BYTES = 1 << 20


def read_file(path: str, *, limit: int | None = None) -> bytes:
    """Return the content of a file; more than `limit` bytes are an error (EFBIG)."""
    with open_file(path) as file:
        length = file.size()
        if limit is not None and length > limit:
            reason = OSError(errno.EFBIG, f"{length} bytes; at most {limit} are expected")
            raise GradientIOError("read", path, reason)
        content = bytearray(length)
        done = file.read_into(0, memoryview(content))
    return bytes(content[:done])


def read_stream(path: str) -> bytes:
    """Return the content of a file whose length is not known in advance, as in ``/proc``."""
    content = bytearray()
    block = bytearray(_BLOCK_BYTES)
    with open_file(path) as file:
        while done := file.read_into(len(content), memoryview(block)):
            content += block[:done]
    return bytes(content)


def read_system(path: str, most: int = 4096) -> bytes | None:
    """Return the first bytes of a file that the system generates; None if it cannot be read.

    Such files (``/proc``) have no length, and are absent on some systems.
    """
    try:
        with open_file(path) as file:
            content = bytearray(most)
            return bytes(content[: file.read_into(0, memoryview(content))])
    except GradientIOError:
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
    seekable). The temporary file is in the folder of the target. `durable` syncs file and folder;
    without it readers see the old file or the new one, but a power cut may leave an empty one.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp-{uuid.uuid4().hex}")
    file = create(temporary, mode=mode)
    try:
        with file:
            if callable(content):
                with io.BufferedWriter(_Sink(file), _BLOCK_BYTES) as sink:
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


class _Sink(io.RawIOBase):
    """The view of a File that `replace_file` hands to a writing function."""

    def __init__(self, file: File) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        return self._file.write(data)
