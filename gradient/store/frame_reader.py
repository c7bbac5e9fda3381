"""The reading of frames: read, decode, prove by the hash."""

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
"""The longest chain of differences that is followed; the limit also ends a cycle."""

_MAX_COPIES: Final = 2
"""The number of frames of a base that are tried: more would multiply with every step of a chain."""

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
    """Fill `out` with the object's body from the first of its frames whose hash is right.

    Raises the first frame's error if there is none.
    """
    first: IntegrityError | GradientIOError | None = None
    tried: set[int] = set()
    for candidates in _candidates(catalogue, oid, places):
        for pack, row in candidates:
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


def read_payload(catalogue: PackCatalogue, pack: Pack, row: FrameRow) -> memoryview:
    """Return the payload of one frame, proved, for copying it into another pack.

    Raises an IntegrityError if this frame is damaged, even if the object has another one. The
    result is valid until the next call in this thread.
    """
    # IMPORTANT: the bytes that are proved are the bytes that are returned; they are read once.
    payload = SCRATCH.take("payload to copy", row.stored).data
    with catalogue.open(pack) as reader:
        _fill(reader, pack, row, payload)
    body = payload if _is_raw(row) else SCRATCH.take("body to prove", row.raw).data
    if body is not payload:
        _decode(catalogue, pack, row, payload, body, 0, {})
    _prove(pack, row, row.kind, body)
    return payload


def read_body(catalogue: PackCatalogue, pack: Pack, row: FrameRow) -> memoryview:
    """Return the object of one frame, proved, under the rules of `read_payload`."""
    body = SCRATCH.take("body to prove", row.raw).data
    _read(catalogue, pack, row, body, 0, {})
    _prove(pack, row, row.kind, body)
    return body


def _candidates(catalogue: PackCatalogue, oid: Oid, places: list[Place]) -> Iterator[list[Place]]:
    """Yield an object's frames: as looked up, after a refresh, from the footers, from the trash."""
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
            str(row.oid), f"it depends on more than {MAX_DEPTH} differences", pack=pack.id
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
    """Return whether a frame's payload is the unencoded object."""
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
        # Each depth has a scratch buffer of its own, so the payload above is not overwritten.
        base = SCRATCH.take(f"base {depth}", row.raw).data
        _read_base(catalogue, row.base, base, depth + 1, readers)
    try:
        decode_into(row.codec, payload, out, base=base)
    except MalformedObjectError as error:
        raise CorruptObjectError(str(row.oid), str(error), pack=pack.id) from None


def _read_base(
    catalogue: PackCatalogue, oid: Oid, out: memoryview, depth: int, readers: dict[str, Reader]
) -> None:
    """Fill `out` with a base, unproved: the hash of the decoded object proves both."""
    first: IntegrityError | GradientIOError | None = None
    tried: set[int] = set()
    for _ in range(2):  # again if packs were rewritten since they were looked up
        places = [place for place in catalogue.find(oid) if id(place[0]) not in tried]
        for pack, row in places[:_MAX_COPIES]:
            tried.add(id(pack))
            try:
                _read(catalogue, pack, row, out, depth, readers)
            except (IntegrityError, GradientIOError) as error:
                first = first or error
            else:
                return
    raise first or catalogue.absence(oid)


def _fill(reader: Reader, pack: Pack, row: FrameRow, payload: memoryview) -> None:
    """Read one frame's payload; raises if its header is not what the index says."""
    header = np.empty(row.header_bytes, np.uint8)
    done = reader.read_into(row.offset, header.data, payload)
    if done != row.header_bytes + row.stored:
        raise CorruptPackError(pack.id, f"it was cut off; object {row.oid} is not complete")
    if header.tobytes() != row.header:
        reason = "its frame's header is not what the index says"
        raise CorruptObjectError(str(row.oid), reason, pack=pack.id)
