"""Frames that contradict their rows: an error that names the object, never wrong bytes."""

from __future__ import annotations

import pytest

from gradient.codec.frame import Codec, Encoded
from gradient.errors import CorruptObjectError, CorruptPackError
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Reader
from gradient.storage.memory import MemoryStorage
from gradient.store import frame_reader
from gradient.store.object_store import ObjectStore
from gradient.store.pack import PackWriter

BODY = b"a" * 100
OID = Oid.of(Kind.BLOB, BODY)


def stored(payload: bytes = BODY, codec: Codec = Codec.RAW) -> ObjectStore:
    """Return a store of one object with this payload."""
    storage = MemoryStorage()
    with storage.create() as upload:
        writer = PackWriter(upload)
        writer.append(Kind.BLOB, OID, len(BODY), Encoded(codec, (payload,), len(payload)))
        writer.publish()
    store = ObjectStore(storage, workers=1)
    store.refresh()
    return store


class Short(Reader):
    """Reads a byte less than requested."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def size(self) -> int:
        return self._reader.size

    def read_into(self, offset: int, *buffers: memoryview) -> int:
        *whole, last = buffers
        return self._reader.read_into(offset, *whole, last[:-1])

    def close(self) -> None:
        self._reader.close()


def test_a_short_frame() -> None:
    store = stored()
    ((pack, row),) = store.catalogue.find(OID)
    out = memoryview(bytearray(row.stored))
    with store.catalogue.open(pack) as reader:
        frame_reader._fill(reader, pack, row, out)
        assert bytes(out) == BODY
        with pytest.raises(CorruptPackError, match=f"cut off.*{OID}"):
            frame_reader._fill(Short(reader), pack, row, out)


def test_a_raw_frame_that_is_shorter_than_its_object() -> None:
    with pytest.raises(CorruptObjectError, match="99 raw bytes instead of 100"):
        stored(BODY[:-1]).read(OID, Kind.BLOB)


def test_a_frame_of_another_object() -> None:
    with pytest.raises(CorruptObjectError, match="another hash"):
        stored(b"b" * 100).read(OID, Kind.BLOB)


def test_a_frame_of_an_unexpected_length() -> None:
    with pytest.raises(CorruptObjectError, match="100 bytes where 99 are expected"):
        stored().read_into(OID, memoryview(bytearray(99)))
