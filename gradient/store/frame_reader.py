"""A frame back into its object: read, decoded, and proved by its hash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gradient.codec.frame import Codec, decode_into
from gradient.codec.scratch_buffers import SCRATCH
from gradient.errors import (
    CorruptObjectError,
    CorruptPackError,
    GradientIOError,
    IntegrityError,
    MalformedObjectError,
)
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Reader
from gradient.store.pack import Pack
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import FrameRow

MAX_DEPTH: Final = 8
"""The longest chain of differences that is followed; it also ends a cycle."""

_MOST_COPIES: Final = 2
"""How many frames of a base are tried: more would multiply with every step of a chain."""

Place = tuple[Pack, FrameRow]


def read_object(
    catalogue: PackCatalogue,
    oid: Oid,
    kind: Kind,
    out: memoryview,
    places: list[Place],
    *,
    readers: dict[str, Reader] | None = None,
) -> None:
    """Fill `out` with the object's body from the first of its frames that proves right.

    Raises the first frame's error when none does.
    """
    first: IntegrityError | GradientIOError | None = None
    tried: set[int] = set()
    for chance in _chances(catalogue, oid, places):
        for pack, row in chance:
            if id(pack) in tried:
                continue
            tried.add(id(pack))
            try:
                _read(catalogue, pack, row, out, 0, readers or {})
                _prove(pack, row, kind, out)
            except (IntegrityError, GradientIOError) as error:
                first = first or error
            else:
                catalogue.note_proved(oid)
                return
    raise first or catalogue.absence(oid)


def copy_of(catalogue: PackCatalogue, pack: Pack, row: FrameRow) -> memoryview:
    """Return the payload of one frame as it stands, proved: for writing it into another pack.

    Raises an IntegrityError where this very frame is damaged, whatever others there are. What is
    returned is valid until the next call in this thread.
    """
    # IMPORTANT: what is proved is what is returned, not what a second look at the disk brings.
    payload = SCRATCH.take("payload to copy", row.stored).data
    with catalogue.open(pack) as reader:
        _fill(reader, pack, row, payload)
    body = payload if _is_raw(row) else SCRATCH.take("body to prove", row.raw).data
    if body is not payload:
        _decode(catalogue, pack, row, payload, body, 0, {})
    _prove(pack, row, row.kind, body)
    return payload


def body_of(catalogue: PackCatalogue, pack: Pack, row: FrameRow) -> memoryview:
    """Return the object that one frame holds, proved; like `copy_of`."""
    body = SCRATCH.take("body to prove", row.raw).data
    _read(catalogue, pack, row, body, 0, {})
    _prove(pack, row, row.kind, body)
    return body


def _chances(catalogue: PackCatalogue, oid: Oid, places: list[Place]) -> Iterator[list[Place]]:
    """Yield where an object may be: as looked up, as it is now, as the packs themselves say."""
    yield places
    # The packs may have been rewritten or repacked since they were looked up.
    catalogue.refresh()
    yield catalogue.index.find(oid)
    if catalogue.recheck():
        yield catalogue.index.find(oid)
    yield catalogue.find_trashed(oid)


def _prove(pack: Pack, row: FrameRow, kind: Kind, out: memoryview) -> None:
    if Oid.of(kind, out) != row.oid:
        raise CorruptObjectError(str(row.oid), "its content has another hash", pack=pack.id)


def _read(
    catalogue: PackCatalogue,
    pack: Pack,
    row: FrameRow,
    out: memoryview,
    depth: int,
    readers: dict[str, Reader],
) -> None:
    if row.raw != out.nbytes:
        reason = f"it has {row.raw} bytes where {out.nbytes} are expected"
        raise CorruptObjectError(str(row.oid), reason, pack=pack.id)
    if depth > MAX_DEPTH:
        raise CorruptObjectError(
            str(row.oid), f"it stands on more than {MAX_DEPTH} differences", pack=pack.id
        )
    payload = out if _is_raw(row) else SCRATCH.take(f"payload {depth}", row.stored).data
    reader = readers.get(pack.id)
    if reader is not None:
        _fill(reader, pack, row, payload)
    else:
        with catalogue.open(pack) as reader:
            _fill(reader, pack, row, payload)
    if payload is not out:
        _decode(catalogue, pack, row, payload, out, depth, readers)


def _is_raw(row: FrameRow) -> bool:
    """Whether a frame's payload is the object as it stands."""
    return row.codec == Codec.RAW and row.base is None and row.stored == row.raw


def _decode(
    catalogue: PackCatalogue,
    pack: Pack,
    row: FrameRow,
    payload: memoryview,
    out: memoryview,
    depth: int,
    readers: dict[str, Reader],
) -> None:
    base = None
    if row.base is not None:
        # The base of each depth has its own scratch: the payload above stays as it is.
        base = SCRATCH.take(f"base {depth}", row.raw).data
        _read_base(catalogue, row.base, base, depth + 1, readers)
    try:
        decode_into(row.codec, payload, out, base=base)
    except MalformedObjectError as error:
        raise CorruptObjectError(str(row.oid), str(error), pack=pack.id) from None


def _read_base(
    catalogue: PackCatalogue, oid: Oid, out: memoryview, depth: int, readers: dict[str, Reader]
) -> None:
    """Fill `out` with the bytes that a difference is against, unproved: the sum is proved."""
    first: IntegrityError | GradientIOError | None = None
    tried: set[int] = set()
    for _ in range(2):  # once more where packs were rewritten since they were looked up
        places = [place for place in catalogue.find(oid) if id(place[0]) not in tried]
        for pack, row in places[:_MOST_COPIES]:
            tried.add(id(pack))
            try:
                _read(catalogue, pack, row, out, depth, readers)
            except (IntegrityError, GradientIOError) as error:
                first = first or error
            else:
                return
    raise first or catalogue.absence(oid)


def _fill(reader: Reader, pack: Pack, row: FrameRow, payload: memoryview) -> None:
    """Read one frame's header and payload; raises where the header is not what the index says."""
    header = np.empty(row.header_bytes, np.uint8)
    done = reader.read_into(row.offset, header.data, payload)
    if done != row.header_bytes + row.stored:
        raise CorruptPackError(pack.id, f"it was cut off; object {row.oid} is not complete")
    if header.tobytes() != row.header:
        reason = "its frame's header is not what the index says"
        raise CorruptObjectError(str(row.oid), reason, pack=pack.id)
