"""One frame's object in another encoding: without its base, or smaller.

The new encoding is decoded and proved before it is returned: a fault of the codec or of the memory
must not replace the correct frame.
"""

from __future__ import annotations

from typing import Final

from gradient.codec.elements import WIDTHS
from gradient.codec.frame import Codec, Encoded, decode_into, encode
from gradient.codec.mode import Mode
from gradient.codec.scratch_buffers import SCRATCH
from gradient.errors import CorruptObjectError
from gradient.objects.oid import Kind, Oid
from gradient.store.frame_reader import read_body, read_object, read_payload
from gradient.store.pack import Pack
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import FrameRow

_MAX_SHARE: Final = 0.99
"""A new encoding is used if it has at most this share of the old one's bytes."""


def without_base(catalogue: PackCatalogue, pack: Pack, row: FrameRow) -> Encoded:
    """Encode a frame's object without a base; raises an IntegrityError for damage."""
    width = _width_of(read_payload(catalogue, pack, row), row)
    body = read_body(catalogue, pack, row)
    found = encode(body, width=width or 1, mode=Mode.AUTO)
    _prove(row, found, None)
    return found


def smaller(
    catalogue: PackCatalogue, pack: Pack, row: FrameRow
) -> tuple[Encoded, Oid | None] | None:
    """Return a smaller encoding of a frame's object and its base; None if none is worth it.

    Raises an IntegrityError for damage.
    """
    if row.kind is not Kind.BLOB or not row.raw:
        return None
    known = _width_of(read_payload(catalogue, pack, row), row)
    base = None
    if row.base is not None:
        base = SCRATCH.take("base to transcode", row.raw).data
        read_object(catalogue, row.base, Kind.BLOB, base, catalogue.find(row.base))
    best: Encoded | None = None
    # A raw payload does not say how wide its elements are.
    for width in WIDTHS if known is None else (known,):
        body = read_body(catalogue, pack, row)
        found = encode(body, width=width, mode=Mode.AGGRESSIVE, base=base)
        if found.size < (row.stored if best is None else best.size) and found.codec != Codec.RAW:
            best = found
    if best is None or best.size > _MAX_SHARE * row.stored:
        return None
    is_delta = best.codec is Codec.DELTA
    _prove(row, best, base if is_delta else None)
    return best, row.base if is_delta else None


def _width_of(payload: memoryview, row: FrameRow) -> int | None:
    """Return the width of a blob's elements; None if the payload does not say."""
    return payload[0] if row.codec in (Codec.PLANES, Codec.DELTA) else None


def _prove(row: FrameRow, encoded: Encoded, base: memoryview | None) -> None:
    payload = b"".join(encoded.parts)
    body = SCRATCH.take("transcoded body", row.raw).data
    decode_into(encoded.codec, payload, body, base=base)
    if Oid.of(row.kind, body) != row.oid:
        raise CorruptObjectError(str(row.oid), "it does not come back from its new form")
