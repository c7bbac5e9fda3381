"""A pack's bytes, table by table (docs/format.md, "Packs"). All numbers are little-endian.

    header | frame … frame | index: one row per frame, sorted by oid; bases | trailer

Every frame describes itself: if index or trailer are lost, a scan finds the objects. The index
repeats the headers of the frames, so that opening a pack costs two small reads.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gradient.codec.chunks import CHUNK_BYTES
from gradient.objects import canonical
from gradient.objects.oid import Kind, Oid

VERSION: Final = 1
"""The only pack version that is written and read."""

MAGIC: Final = b"GRADPACK"
FRAME_MAGIC: Final = b"\xf7GFR"
END_MAGIC: Final = b"GRADEND\n"

HEADER: Final = struct.Struct("<8sII")
"""magic, version, reserved (0)."""
FRAME: Final = struct.Struct("<4sBBBBII32s")
"""magic, kind, codec, flags, reserved (0), raw length, stored length, oid; a base's oid follows if
the flags say so, then the payload of stored length."""
TRAILER: Final = struct.Struct("<QQII32s32s8s")
"""index offset, index length, rows, bases, BLAKE3 of the index, BLAKE3 of all before it, magic."""
HASHED_TRAILER_BYTES: Final = TRAILER.size - 40
"""The pack's hash covers everything before itself: this much of the trailer too."""
EMPTY_BYTES: Final = HEADER.size + TRAILER.size
"""The bytes of a pack besides frames and index."""

ROW: Final = np.dtype(
    [
        ("oid", "V32"),
        ("offset", "<u8"),
        ("stored", "<u4"),
        ("raw", "<u4"),
        ("kind", "u1"),
        ("codec", "u1"),
        ("flags", "u1"),
        ("reserved", "u1"),
    ]
)
"""One row of the index, packed: 52 bytes."""

HAS_BASE: Final = 1
"""The flag of a frame whose payload is a difference against the blob named as its base."""

KIND_IDS: Final[dict[Kind, int]] = {Kind.BLOB: 1, Kind.LIST: 2, Kind.TREE: 3, Kind.COMMIT: 4}
KINDS: Final[dict[int, Kind]] = {number: kind for kind, number in KIND_IDS.items()}

MAX_RAW: Final[dict[Kind, int]] = {
    Kind.BLOB: CHUNK_BYTES,
    Kind.LIST: canonical.MAX_BYTES,
    Kind.TREE: canonical.MAX_BYTES,
    Kind.COMMIT: canonical.MAX_BYTES,
}
"""The longest body of each kind, in bytes."""

Rows = npt.NDArray[Any]
"""A one-dimensional array of `ROW`."""


@dataclass(frozen=True, slots=True)
class FrameRow:
    """The position of one frame, and the fields of its header."""

    oid: Oid
    offset: int
    """The position of the frame's header in the pack."""
    stored: int
    """The length of the payload in bytes."""
    raw: int
    """The length of the object's body in bytes."""
    kind: Kind
    codec: int
    base: Oid | None = None
    """The base of a difference."""

    @property
    def header_bytes(self) -> int:
        """The length of the frame's header."""
        return FRAME.size + (32 if self.base is not None else 0)

    @property
    def header(self) -> bytes:
        """The frame's header."""
        flags = HAS_BASE if self.base is not None else 0
        kind = KIND_IDS[self.kind]
        fixed = FRAME.pack(FRAME_MAGIC, kind, self.codec, flags, 0, self.raw, self.stored, self.oid)
        return fixed + (self.base or b"")


def index_bytes(rows: list[FrameRow]) -> tuple[bytes, int]:
    """Return the index of the rows, and the number of bases at its end."""
    ordered = sorted(rows, key=lambda row: row.oid)
    table = np.zeros(len(ordered), ROW)
    for position, row in enumerate(ordered):
        flags = HAS_BASE if row.base is not None else 0
        kind = KIND_IDS[row.kind]
        table[position] = (row.oid, row.offset, row.stored, row.raw, kind, row.codec, flags, 0)
    bases = [row.base for row in ordered if row.base is not None]
    return table.tobytes() + b"".join(bases), len(bases)


def joined(tables: list[Rows]) -> Rows:
    """Return the concatenation of tables: numpy's own takes ten times as long for this type."""
    return np.frombuffer(b"".join([table.tobytes() for table in tables]), ROW)


@dataclass(frozen=True, slots=True)
class PackIndex:
    """One pack's index, not checked yet."""

    rows: Rows
    bases: int
    """The number of bases after the rows."""
    end: int
    """The end of the frames: the offset of the index."""


def faulty(indexes: list[PackIndex]) -> dict[int, str]:
    """Return the faults of the damaged indexes, by their position in the list.

    All are checked together, because numpy takes as long for a few rows as for thousands.
    """
    if not indexes or _fault(indexes) is None:
        return {}
    reasons = {number: _fault([index]) for number, index in enumerate(indexes)}
    return {number: reason for number, reason in reasons.items() if reason is not None}


def _fault(indexes: list[PackIndex]) -> str | None:
    rows = joined([index.rows for index in indexes])
    counts = np.array([len(index.rows) for index in indexes])
    firsts = np.cumsum(counts) - counts
    based = rows["flags"] == HAS_BASE
    if not (based | (rows["flags"] == 0)).all() or rows["reserved"].any():
        return "its index has unknown flags"
    kinds = rows["kind"]
    if not ((kinds >= 1) & (kinds <= len(KINDS))).all():
        return "its index has unknown kinds"
    bases = np.add.reduceat(based.astype(np.int64), firsts)
    if (bases != [index.bases for index in indexes]).any() or (based & (kinds != _BLOB)).any():
        return "its index has the wrong bases"
    if (rows["raw"] > _LIMITS[kinds]).any() or (rows["stored"] > rows["raw"]).any():
        return "its index has impossible lengths"
    if not _ascending(rows, firsts):
        return "its index is not sorted"
    ends = np.array([index.end for index in indexes], np.uint64)
    if not _filled(rows, based, counts, ends):
        return "its frames do not fill it"
    return None


_BLOB: Final = KIND_IDS[Kind.BLOB]
_LIMITS: Final = np.array([0, *(MAX_RAW[KINDS[i]] for i in range(1, len(KINDS) + 1))], np.uint64)


def _filled(
    rows: Rows, based: npt.NDArray[np.bool_], counts: npt.NDArray[Any], ends: npt.NDArray[Any]
) -> bool:
    """Return whether each pack's frames fill it end to end."""
    number = np.repeat(np.arange(len(counts)), counts)
    lengths = rows["stored"].astype(np.uint64) + np.uint64(FRAME.size)
    lengths += based.astype(np.uint64) * np.uint64(32)
    starts, limits = rows["offset"], ends[number]
    if (starts < HEADER.size).any() or (starts > limits).any() or (lengths > limits - starts).any():
        return False
    order = np.lexsort((starts, number))
    starts, stops, number = starts[order], (starts + lengths)[order], number[order]
    first = np.ones(len(rows), bool)
    first[1:] = number[1:] != number[:-1]
    last = np.roll(first, -1)
    expected = np.where(first, np.uint64(HEADER.size), np.roll(stops, 1))
    return bool((starts == expected).all() and (stops[last] == ends).all())


def _ascending(rows: Rows, firsts: npt.NDArray[Any]) -> bool:
    """Return whether the ids of each pack are strictly ascending."""
    words = np.frombuffer(rows["oid"].tobytes(), ">u8").reshape(-1, 4).astype(np.uint64)
    before, after = words[:-1], words[1:]
    settled = np.zeros(len(words), bool)
    settled[firsts] = True
    settled = settled[1:]
    for column in range(4):
        left, right = before[:, column], after[:, column]
        if (~settled & (left > right)).any():
            return False
        settled = settled | (left < right)
        if settled.all():
            return True
    return False
