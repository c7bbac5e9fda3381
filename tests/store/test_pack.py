"""The bytes of a pack: golden, and refused if they are damaged."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from blake3 import blake3

from gradient.codec.frame import Codec, Encoded
from gradient.codec.mode import Mode
from gradient.errors import CorruptPackError, FormatVersionError, GradientError
from gradient.objects.oid import Kind, Oid
from gradient.storage.memory import MemoryStorage
from gradient.store import pack_format
from gradient.store.object_store import ObjectStore
from gradient.store.pack import Pack, PackWriter, id_of, name_of, open_packs
from gradient.store.pack_format import FRAME, HEADER, ROW, TRAILER, FrameRow

if TYPE_CHECKING:
    from collections.abc import Callable

BLOB = b"gradient"
TREE = b'{"value":1}'

GOLDEN_ID = "0672887bb58a2cb39450ce74f972355ec3cc605baf00bb8517ddecd831c3a7fc"
GOLDEN = bytes.fromhex(
    # header
    "475241445041434b" "01000000" "00000000"
    # the blob's frame
    "f7474652" "01000000" "08000000" "08000000"
    "c174a8d473f354196b26b42bf949cbd572a2a7fb584bcb7818615ab91b1e45fb"
    "6772616469656e74"
    # the tree's frame
    "f7474652" "03000000" "0b000000" "0b000000"
    "728456568c10df8493bc977105a09ec843d5bb9e7348f8386ec3cb6fd73ce338"
    "7b2276616c7565223a317d"
    # the index: tree, blob
    "728456568c10df8493bc977105a09ec843d5bb9e7348f8386ec3cb6fd73ce338"
    "4800000000000000" "0b000000" "0b000000" "03000000"
    "c174a8d473f354196b26b42bf949cbd572a2a7fb584bcb7818615ab91b1e45fb"
    "1000000000000000" "08000000" "08000000" "01000000"
    # the trailer
    "8300000000000000" "6800000000000000" "02000000" "00000000"
    "7d02c637dddfbca432f8f3916f62bc952f018c7fce74038941cff008ef9ea269"
    "0672887bb58a2cb39450ce74f972355ec3cc605baf00bb8517ddecd831c3a7fc"
    "47524144454e440a"
)  # fmt: skip

BASED_HEADER = bytes.fromhex(
    "f7474652" "01030100" "00001000" "d2040000"
    "1111111111111111111111111111111111111111111111111111111111111111"
    "2222222222222222222222222222222222222222222222222222222222222222"
)  # fmt: skip


def raw(body: bytes) -> Encoded:
    return Encoded(Codec.RAW, (body[:3], body[3:]), len(body))


def make_pack(objects: list[tuple[Kind, bytes]]) -> tuple[MemoryStorage, str]:
    storage = MemoryStorage()
    writer = PackWriter(storage.create())
    for kind, body in objects:
        writer.append(kind, Oid.of(kind, body), len(body), raw(body))
    return storage, writer.publish().id


def reseal(pack: bytes, index: bytes) -> tuple[str, bytes]:
    """Replace the index of a pack, with right hashes."""
    offset, _, count, bases, *_ = TRAILER.unpack(pack[-TRAILER.size :])
    head = struct.pack("<QQII32s", offset, len(index), count, bases, blake3(index).digest())
    body = pack[:offset] + index + head
    digest = blake3(body).digest()
    return digest.hex(), body + digest + pack_format.END_MAGIC


def open_bytes(pack_id: str, content: bytes) -> Pack:
    storage = MemoryStorage()
    storage.contents[name_of(pack_id)] = content
    # Beside a good one: neither must hide what is wrong with the other.
    storage.contents[name_of(GOLDEN_ID)] = GOLDEN
    good, opened = open_packs(storage, [GOLDEN_ID, pack_id])
    if pack_id == GOLDEN_ID:
        storage.contents[name_of(GOLDEN_ID)] = content
        (opened,) = open_packs(storage, [pack_id])
    assert isinstance(good, Pack)
    if not isinstance(opened, Pack):
        raise opened
    return opened


def test_golden() -> None:
    storage, pack_id = make_pack([(Kind.BLOB, BLOB), (Kind.TREE, TREE)])
    assert pack_id == GOLDEN_ID
    assert storage.contents == {name_of(GOLDEN_ID): GOLDEN}
    assert blake3(GOLDEN[:-40]).hexdigest() == GOLDEN_ID
    store = ObjectStore(storage)
    assert store.read(Oid.of(Kind.BLOB, BLOB), Kind.BLOB) == BLOB
    assert store.read(Oid.of(Kind.TREE, TREE), Kind.TREE) == TREE


def test_golden_header_of_a_difference() -> None:
    oid, base = Oid(b"\x11" * 32), Oid(b"\x22" * 32)
    row = FrameRow(oid, 16, 1234, 1 << 20, Kind.BLOB, Codec.DELTA, base)
    assert row.header == BASED_HEADER
    assert row.header_bytes == len(BASED_HEADER)


def test_sizes_are_those_of_the_format() -> None:
    assert (HEADER.size, FRAME.size, ROW.itemsize, TRAILER.size) == (16, 48, 52, 96)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_number(kind: Kind) -> None:
    number = pack_format.KIND_IDS[kind]
    assert pack_format.KINDS[number] is kind
    assert kind in pack_format.MAX_RAW


def test_bases_survive_the_round_trip() -> None:
    storage = MemoryStorage()
    writer = PackWriter(storage.create())
    expected: dict[Oid, Oid | None] = {}
    for number in range(50):
        oid = Oid.of(Kind.BLOB, b"%d" % number)
        expected[oid] = Oid.of(Kind.BLOB, b"base %d" % number) if number % 3 else None
        writer.append(Kind.BLOB, oid, 5, raw(b"12345"), base=expected[oid])
    written = writer.publish()
    (pack,) = open_packs(storage, [written.id])
    assert isinstance(pack, Pack)
    rows = [pack.row(position) for position in range(50)]
    assert {row.oid: row.base for row in rows} == expected
    assert [row.oid for row in rows] == sorted(expected)
    for row in rows:
        header = storage.read(pack.name, offset=row.offset, size=row.header_bytes)
        assert header == row.header


@pytest.mark.parametrize("name", ["x.pack", "a" * 64, "A" * 64 + ".pack", "a" * 63 + ".pack"])
def test_other_files_are_not_packs(name: str) -> None:
    assert id_of(name) is None


def read_all(content: bytes) -> list[bytes | None]:
    """Read both objects of the golden pack from damaged bytes; None if that is refused."""
    storage = MemoryStorage()
    storage.contents[name_of(GOLDEN_ID)] = content
    store = ObjectStore(storage)
    found: list[bytes | None] = []
    for kind, body in ((Kind.BLOB, BLOB), (Kind.TREE, TREE)):
        try:
            found.append(store.read(Oid.of(kind, body), kind))
        except GradientError:
            found.append(None)
    return found


def test_a_pack_cut_anywhere_is_refused_and_named() -> None:
    for length in range(len(GOLDEN)):
        assert read_all(GOLDEN[:length]) == [None, None]
        with pytest.raises(CorruptPackError, match=GOLDEN_ID):
            open_bytes(GOLDEN_ID, GOLDEN[:length])
    for extended in (GOLDEN + b"\0", GOLDEN + GOLDEN, b"\0" + GOLDEN, bytes(len(GOLDEN))):
        assert read_all(extended) == [None, None]


def test_no_flipped_bit_gives_wrong_bytes() -> None:
    payloads = {*range(64, 72), *range(120, 131)}
    refused = 0
    for position in range(len(GOLDEN)):
        for bit in range(8):
            damaged = bytearray(GOLDEN)
            damaged[position] ^= 1 << bit
            found = read_all(bytes(damaged))
            assert all(got in (None, body) for got, body in zip(found, (BLOB, TREE), strict=True))
            # Only the other object's frame may be damaged without this one noticing.
            assert None in found
            refused += found == [None, None]
            if position in payloads:
                assert found != [None, None]
    assert refused


def test_a_newer_version_is_not_reported_as_damage() -> None:
    newer = bytearray(GOLDEN)
    newer[8] = 2
    with pytest.raises(FormatVersionError, match="version 2"):
        open_bytes(GOLDEN_ID, bytes(newer))


def test_a_pack_under_another_name_is_refused() -> None:
    with pytest.raises(CorruptPackError, match="by its own account"):
        open_bytes("0" * 64, GOLDEN)


def _set(field: str, position: int, value: int) -> Callable[[Any], None]:
    def change(rows: Any) -> None:
        rows[field][position] = value

    return change


def _swap(rows: Any) -> None:
    rows[:] = rows[::-1].copy()


def _double(rows: Any) -> None:
    rows["oid"][1] = rows["oid"][0]


LIES: dict[str, Callable[[Any], None]] = {
    "kind 0": _set("kind", 0, 0),
    "kind 5": _set("kind", 0, 5),
    "kind 255": _set("kind", 1, 255),
    "unknown flag": _set("flags", 1, 2),
    "base without bases": _set("flags", 1, 1),
    "reserved": _set("reserved", 0, 1),
    "blob over 1 MiB": _set("raw", 1, (1 << 20) + 1),
    "tree over 64 MiB": _set("raw", 0, (64 << 20) + 1),
    "stored more than raw": _set("stored", 1, 9),
    "overlap": _set("offset", 0, 16),
    "hole": _set("offset", 0, 73),
    "beyond the end": _set("offset", 0, 1 << 63),
    "offset -1": _set("offset", 0, (1 << 64) - 1),
    "before the start": _set("offset", 1, 0),
    "not sorted": _swap,
    "twice": _double,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_wrong_index_with_a_right_hash_is_refused(lie: str) -> None:
    index = GOLDEN[0x83 : 0x83 + 0x68]
    rows = np.frombuffer(index, ROW).copy()
    LIES[lie](rows)
    with pytest.raises(CorruptPackError):
        open_bytes(*reseal(GOLDEN, rows.tobytes()))
    open_bytes(*reseal(GOLDEN, index))


def test_an_empty_pack_is_refused() -> None:
    storage = MemoryStorage()
    with storage.create() as upload:
        pack = PackWriter(upload).publish()
    with pytest.raises(CorruptPackError, match="does not fit"):
        open_bytes(pack.id, storage.contents[pack.name])


def test_a_pack_with_every_codec_never_gives_wrong_bytes() -> None:
    storage = MemoryStorage()
    generator = np.random.default_rng(0)
    weights = (generator.standard_normal(300) * 0.02).astype(np.float32)
    chunks = [weights.tobytes(), bytes(500), generator.bytes(200), b"text " * 30]
    with ObjectStore(storage, workers=1).begin(mode=Mode.AGGRESSIVE) as transaction:
        oids = transaction.put_chunks(chunks, width=4)
        pack_id = transaction.seal()
    assert pack_id is not None
    name = name_of(pack_id)
    whole = storage.contents[name]
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        storage.contents[name] = bytes(damaged)
        store = ObjectStore(storage, workers=1)
        for oid, chunk in zip(oids, chunks, strict=True):
            try:
                assert store.read(oid, Kind.BLOB) == chunk
            except GradientError:
                continue
