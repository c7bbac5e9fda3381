"""The search for intact objects in a pack with an unreliable index.

Every frame describes itself, so the file is searched for frames. A frame counts only if its content
has the hash that it names, which stray bytes never do. The work is bounded by the length of the
file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from gradient.codec.frame import Codec
from gradient.objects.oid import Oid
from gradient.storage import fs
from gradient.store import pack_format
from gradient.store.pack_format import FRAME, FRAME_MAGIC, HAS_BASE, FrameRow

_WINDOW: Final = 1 << 20
_MOST_WORK: Final = 16
"""The maximum number of decoded bytes, as a multiple of the file's length."""


@dataclass(slots=True)
class Scanned:
    """The contents of a file."""

    intact: list[FrameRow] = field(default_factory=list)
    """The proved frames, in the order of the file; each object once."""
    pending: list[FrameRow] = field(default_factory=list)
    """Deltas whose base was not available; they may be intact."""
    named: set[Oid] = field(default_factory=set)
    """The objects named by frames, intact or not."""


def scan(file: fs.File, prove: Callable[[FrameRow, memoryview], bool | None]) -> Scanned:
    """Search a file for frames.

    `prove` returns whether a payload matches its header; None if that is still unknown.
    """
    found = Scanned()
    size = file.size()
    work = _MOST_WORK * size + (pack_format.MAX_RAW[pack_format.KINDS[1]] << 6)
    offset: int | None = pack_format.HEADER.size
    kept: set[Oid] = set()
    while offset is not None and offset < size:
        row = _row(file, offset, size)
        if row is None:
            offset = _next(file, offset + 1, size)
            continue
        found.named.add(row.oid)
        work -= row.raw
        if work < 0:
            break
        start = offset + row.header_bytes
        proved = prove(row, memoryview(_read(file, start, row.stored)))
        if proved is None:
            found.pending.append(row)
        if proved:
            if row.oid not in kept:
                kept.add(row.oid)
                found.intact.append(row)
            offset = start + row.stored
        else:
            offset = _next(file, offset + len(FRAME_MAGIC), size)
    return found


def _row(file: fs.File, offset: int, size: int) -> FrameRow | None:
    """Return the frame header at an offset; None if there is none."""
    raw = _read(file, offset, FRAME.size + 32)
    if not raw.startswith(FRAME_MAGIC) or len(raw) < FRAME.size:
        return None
    _, kind, codec, flags, reserved, length, stored, oid = FRAME.unpack_from(raw)
    if kind not in pack_format.KINDS or flags not in (0, HAS_BASE) or reserved:
        return None
    known = codec in tuple(Codec) and (codec == Codec.DELTA) == bool(flags)
    if not known or stored > length or length > pack_format.MAX_RAW[pack_format.KINDS[kind]]:
        return None
    base = None
    if flags:
        if kind != 1 or len(raw) < FRAME.size + 32:
            return None
        base = Oid(raw[FRAME.size :])
    row = FrameRow(Oid(oid), offset, stored, length, pack_format.KINDS[kind], codec, base)
    return row if offset + row.header_bytes + stored <= size else None


def _next(file: fs.File, start: int, size: int) -> int | None:
    """Return the offset at which the next frame may begin."""
    for window in _windows(start, size):
        at = _read(file, window, _WINDOW + len(FRAME_MAGIC) - 1).find(FRAME_MAGIC)
        if at >= 0:
            return window + at
    return None


def _windows(start: int, size: int) -> Iterator[int]:
    return iter(range(start, size, _WINDOW))


def _read(file: fs.File, offset: int, length: int) -> bytes:
    content = bytearray(length)
    done = file.read_into(offset, memoryview(content))
    return bytes(content[:done])
