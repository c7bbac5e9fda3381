"""One frame's object in another form: without its base, or in a smaller form.

What is written is decoded again and proved before it is handed out: a fault of the codec, or of
the memory, must not replace the frame that was right.
"""

from __future__ import annotations

from typing import Final

from gradient.codec.elements import WIDTHS
from gradient.codec.frame import Codec, Encoded, decode_into, encode
from gradient.codec.mode import Mode
from gradient.codec.scratch_buffers import SCRATCH
from gradient.errors import CorruptObjectError
from gradient.objects.oid import Kind, Oid
from gradient.store.frame_reader import body_of, copy_of, read_object
from gradient.store.pack import Pack
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import FrameRow

_WORTH: Final = 0.99
"""Another form is taken where it has at most so much of the old one's bytes."""


def alone(catalogue: PackCatalogue, pack: Pack, row: FrameRow) -> Encoded:
    """Return a form of a frame's object that needs no base; raises an IntegrityError for damage."""
    width = _width_of(copy_of(catalogue, pack, row), row)
    body = body_of(catalogue, pack, row)
    found = encode(body, width=width or 1, mode=Mode.AUTO)
    _prove(row, found, None)
    return found


def smaller(
    catalogue: PackCatalogue, pack: Pack, row: FrameRow
) -> tuple[Encoded, Oid | None] | None:
    """Return the smallest form of a frame's object and its base; None where it has that already.

    Raises an IntegrityError for damage.
    """
    if row.kind is not Kind.BLOB or not row.raw:
        return None
    known = _width_of(copy_of(catalogue, pack, row), row)
    base = None
    if row.base is not None:
        base = SCRATCH.take("base to recode", row.raw).data
        read_object(catalogue, row.base, Kind.BLOB, base, catalogue.find(row.base))
    best: Encoded | None = None
    # What was stored as it is does not say how wide its elements are.
    for width in WIDTHS if known is None else (known,):
        body = body_of(catalogue, pack, row)
        found = encode(body, width=width, mode=Mode.AGGRESSIVE, base=base)
        if found.size < (row.stored if best is None else best.size) and found.codec != Codec.RAW:
            best = found
    if best is None or best.size > _WORTH * row.stored:
        return None
    leans = best.codec is Codec.DELTA
    _prove(row, best, base if leans else None)
    return best, row.base if leans else None


def _width_of(payload: memoryview, row: FrameRow) -> int | None:
    """Return the width of a blob's elements where its payload tells."""
    return payload[0] if row.codec in (Codec.PLANES, Codec.DELTA) else None


def _prove(row: FrameRow, encoded: Encoded, base: memoryview | None) -> None:
    payload = b"".join(encoded.parts)
    body = SCRATCH.take("body that was recoded", row.raw).data
    decode_into(encoded.codec, payload, body, base=base)
    if Oid.of(row.kind, body) != row.oid:
        raise CorruptObjectError(str(row.oid), "it does not come back from its new form")
