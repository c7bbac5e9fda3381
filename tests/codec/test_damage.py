"""Whatever is stored, reading it ends in the right length or in MalformedObjectError."""

from __future__ import annotations

import os
import resource
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gradient.codec import planes
from gradient.codec.frame import Codec, decode_into, encode
from gradient.codec.mode import Mode
from gradient.errors import MalformedObjectError
from tests.codec.strategies import make
from tests.codec.test_golden import EXAMPLES

FENCE = b"\xa5" * 64


def attempt(codec: int, payload: bytes, size: int, base: bytes | None = None) -> bytes | None:
    """Decode between two fences; None for the one error that is allowed."""
    room = bytearray(FENCE + bytes(size) + FENCE)
    out = memoryview(room)[len(FENCE) : len(FENCE) + size]
    try:
        decode_into(codec, payload, out, base=base)
    except MalformedObjectError:
        return None
    finally:
        assert room[: len(FENCE)] == FENCE
        assert room[len(room) - len(FENCE) :] == FENCE
    return bytes(out)


def zstd(data: bytes, **options: int) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


@settings(max_examples=500)
@given(
    codec=st.integers(0, 5),
    payload=st.binary(max_size=200),
    size=st.integers(0, 400),
    based=st.booleans(),
)
def test_garbage(codec: int, payload: bytes, size: int, *, based: bool) -> None:
    attempt(codec, payload, size, bytes(size) if based else None)


@settings(max_examples=500)
@given(
    width=st.sampled_from([1, 2, 4, 8, 3]),
    transform=st.integers(0, 2),
    table=st.lists(
        st.tuples(st.sampled_from([1, 2, 4, 8, 0]), st.integers(0, 5), st.integers(0, 70)),
        max_size=9,
    ),
    count=st.integers(0, 64),
    tail=st.binary(max_size=300),
)
def test_garbage_with_a_likely_header(
    width: int, transform: int, table: list[tuple[int, int, int]], count: int, tail: bytes
) -> None:
    header = struct.pack("<BB", width, transform)
    header += b"".join(struct.pack("<BBI", *stream) for stream in table)
    body = tail.ljust(sum(size for _, _, size in table), b"\x11")
    attempt(Codec.PLANES, header + body[: sum(s for _, _, s in table)], width * count)


@settings(max_examples=400)
@given(
    name=st.sampled_from(sorted(EXAMPLES)),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    keep=st.integers(0, 200),
    grow=st.integers(-3, 3),
)
def test_changed_examples(name: str, changes: list[tuple[int, int]], keep: int, grow: int) -> None:
    example = EXAMPLES[name]
    payload = bytearray(bytes.fromhex(example.payload))
    for where, value in changes:
        payload[where % len(payload)] = value
    size = max(0, len(example.raw) + grow)
    attempt(example.codec, bytes(payload[:keep]), size, example.base)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["weights", "squares", "sparse"]),
    width=st.sampled_from([2, 4, 8]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_changed_chunks(kind: str, width: int, changes: list[tuple[int, int]]) -> None:
    raw = make(kind, 16_384, width, 5)
    encoded = encode(raw, width=width, mode=Mode.AUTO)
    payload = bytearray(b"".join(bytes(part) for part in encoded.parts))
    for where, value in changes:
        payload[where % len(payload)] = value
    attempt(encoded.codec, bytes(payload), len(raw))


@pytest.mark.parametrize("cut", range(1, 30))
def test_truncated_and_extended(cut: int) -> None:
    for example in EXAMPLES.values():
        payload = bytes.fromhex(example.payload)
        size = len(example.raw)
        assert attempt(example.codec, payload[:-cut], size, example.base) is None
        assert attempt(example.codec, payload + bytes(cut), size, example.base) is None


def lying_frame(data: bytes, announced: int) -> bytes:
    """Return a zstd frame whose header announces `announced` bytes (a field of eight)."""
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    body = frame[zstandard.frame_header_size(frame) :]
    return frame[:4] + b"\xe0" + announced.to_bytes(8, "little") + body


def zeros_in_a_window(descriptor: int) -> bytes:
    """Return a frame of 1024 zeros, whole in itself, that asks for room to look back."""
    run = (1024 << 3 | 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\xc0" + bytes([descriptor]) + (1024).to_bytes(8, "little") + run


HOSTILE = {
    "bomb": zstd(bytes(1 << 24)),
    "bomb within the window": zstd(bytes(1 << 22)),
    "announces more": lying_frame(bytes(1024), 1 << 40),
    "announces right, holds less": lying_frame(bytes(1000), 1024),
    "announces right, holds more": lying_frame(bytes(1 << 20), 1024),
    "announces nothing": zstd(bytes(1024), write_content_size=False),
    "two frames": zstd(bytes(512)) + zstd(bytes(512)),
    "a frame and an empty frame": zstd(bytes(1024)) + zstd(b""),
    "trailing byte": zstd(bytes(1024)) + b"\0",
    "skippable frame first": struct.pack("<II", 0x184D2A50, 4) + b"skip" + zstd(bytes(1024)),
    "skippable frame last": zstd(bytes(1024)) + struct.pack("<II", 0x184D2A50, 0),
    "skippable frame only": struct.pack("<II", 0x184D2A50, 4) + b"skip",
    "a window of 3.75 TB": b"\x28\xb5\x2f\xfd\xc0\xff" + (1024).to_bytes(8, "little") + b"\1\0\0",
    "a window of 2 GiB": zeros_in_a_window(0xA8),
    "wants a dictionary": b"\x28\xb5\x2f\xfd\x61\x07\x00\x03" + b"\3\0\2\0",
    "empty": b"",
    "magic only": b"\x28\xb5\x2f\xfd",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_zstd_frames(name: str) -> None:
    frame = HOSTILE[name]
    assert len(frame) < 1024 - 8  # a payload longer than its chunk is not even looked at
    tracemalloc.start()
    try:
        assert attempt(Codec.ZSTD, frame, 1024) is None
        stream = struct.pack("<BBBBI", 1, 0, 1, 1, len(frame)) + frame
        assert attempt(Codec.PLANES, stream, 1024) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_bomb_takes_no_memory_beyond_its_chunk() -> None:
    """Of a gibibyte in 32 KiB no more is ever there than the chunk that it should be."""
    compressor = zstandard.ZstdCompressor().compressobj(size=1 << 30)
    block = bytes(1 << 20)
    bomb = b"".join(compressor.compress(block) for _ in range(1 << 10)) + compressor.flush()
    assert (1 << 30) // len(bomb) > 30_000
    pid = os.fork()
    if not pid:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        stream = struct.pack("<BBBBI", 1, 0, 1, 1, len(bomb)) + bomb
        refused = [attempt(Codec.ZSTD, bomb, 1 << 20), attempt(Codec.PLANES, stream, 1 << 20)]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        os._exit(0 if refused == [None, None] and grown < (65 << 20) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_honest_frame_of_the_same_kind_is_read() -> None:
    assert attempt(Codec.ZSTD, lying_frame(bytes(1024), 1024), 1024) == bytes(1024)
    assert attempt(Codec.ZSTD, zeros_in_a_window(0x68), 1024) == bytes(1024)  # of 8 MiB
    with_checksum = zstd(bytes(1024), write_checksum=True)
    assert attempt(Codec.ZSTD, with_checksum, 1024) == bytes(1024)
    assert attempt(Codec.ZSTD, with_checksum[:-1] + b"\xff", 1024) is None


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "04",
        "0400",
        "0300 0300 03000000 000000",
        "0402 0402 04000000 00000000",
        "0400 0402 03000000 000000",
        "0400 0402 05000000 0000000000",
        "0400 0405 04000000 00000000",
        "0400 0302 03000000 0102 01000000 00000000",
        "0400 0102 01000000 0202 02000000 0102 01000000 00000000",
        "0400 0802 08000000 0000000000000000",
        "0400 0202 02000000 0000",
        "0400 0402 04000000 00000000 00",
        "0400 0203 0e000000 0202 02000000 00000000000000000000000000000000",
        *(
            f"0400 0103 {size:02x}000000 0102 01000000 0202 02000000 {bytes(size + 3).hex()}"
            for size in (0, 7, 13, 15, 21)
        ),
        "0401 0402 04000000 00000000",
        "0401 0202 02000000 0202 02000000 00000000",
        "0101 0102 01000000 00",
        "0400 0401 ffffffff 00000000",
    ],
)
def test_headers_that_are_not_canonical(payload: str) -> None:
    assert attempt(Codec.PLANES, bytes.fromhex(payload), 64) is None
    assert attempt(Codec.DELTA, bytes.fromhex(payload), 64, bytes(64)) is None


def sparse(
    *,
    common: int = 0,
    others: int = 2,
    length: int = 2,
    parts: tuple[tuple[int, bytes], tuple[int, bytes]] = ((0, b"\3\4"), (0, b"\1\2")),
    more: bytes = b"",
) -> bytes:
    """Return a payload of one sparse stream of single bytes."""
    (how, where), (method, what) = parts
    head = struct.pack("<BIIBIBI", common, others, length, how, len(where), method, len(what))
    stream = head + where + what + more
    return struct.pack("<BBBBI", 1, 0, 1, 4, len(stream)) + stream


def test_a_sparse_stream_is_read() -> None:
    assert attempt(Codec.PLANES, sparse(), 64) == b"\0\0\0\1\0\0\0\0\2".ljust(64, b"\0")
    everywhere = sparse(others=64, length=64, parts=((0, bytes(64)), (0, b"\7" * 64)))
    assert attempt(Codec.PLANES, everywhere, 64) is None  # longer than the bytes themselves
    zeros = zstd(bytes(600))
    far = sparse(others=600, length=600, parts=((1, zeros), (1, zstd(b"\7" * 600))))
    assert attempt(Codec.PLANES, far, 600) == b"\7" * 600
    nothing = sparse(common=9, others=0, length=0, parts=((0, b""), (0, b"")))
    assert attempt(Codec.PLANES, nothing, 64) == b"\x09" * 64


@pytest.mark.parametrize(
    "payload",
    [
        sparse(others=3),
        sparse(length=3),
        sparse(more=b"\0"),
        sparse(parts=((0, b"\3\x40"), (0, b"\1\2"))),
        sparse(parts=((0, b"\3"), (0, b"\1\2"))),
        sparse(parts=((0, b"\3\4"), (0, b"\1"))),
        sparse(parts=((0, b"\3\xff"), (0, b"\1\2"))),
        sparse(parts=((2, b"\3\4"), (0, b"\1\2"))),
        sparse(parts=((0, b"\3\4"), (4, b"\1\2"))),
        sparse(parts=((1, zstd(b"\3\4\5")), (0, b"\1\2"))),
        sparse(others=0, length=1, parts=((0, b"\xff"), (0, b""))),
        sparse(others=1, length=1, parts=((0, b"\xff"), (0, b"\1"))),
        sparse(others=0xFFFFFFFF, length=0xFFFFFFFF),
        sparse()[:-8] + b"\3" + sparse()[-7:],  # the second part is longer than it says
        b"\1\0\1\4\0\0\0\0",
        struct.pack("<BBBBI", 1, 0, 1, 4, 18) + bytes(18),
    ],
)
def test_sparse_streams_that_do_not_fit(payload: bytes) -> None:
    assert attempt(Codec.PLANES, payload, 64) is None


def test_a_sparse_stream_ends_with_a_value() -> None:
    parts = ((0, b"\3\4\xff"), (0, b"\1\2"))
    assert attempt(Codec.PLANES, sparse(length=3, parts=parts), 600) is None


@pytest.mark.parametrize("others", [2, 1 << 24])
def test_a_sparse_stream_takes_no_more_room_than_what_it_is_for(others: int) -> None:
    where, what = (1, zstd(bytes(1 << 24))), (1, zstd(bytes(others)))
    payload = sparse(others=others, length=1 << 24, parts=(where, what))
    tracemalloc.start()
    try:
        assert attempt(Codec.PLANES, payload, 4096) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_sum_of_distances_does_not_wrap() -> None:
    count = (1 << 24) + 300
    where = np.full(count, 254, np.uint8)
    parts = ((1, zstd(where.tobytes())), (1, zstd(bytes(count))))
    assert attempt(Codec.PLANES, sparse(others=count, length=count, parts=parts), count) is None


def test_nothing_cannot_be_planes() -> None:
    assert attempt(Codec.PLANES, b"", 0) is None
    with pytest.raises(MalformedObjectError, match="0 bytes cannot"):
        planes.decode_into(memoryview(b"\1\0\1\0\0\0\0\0"), memoryview(b""))
    assert attempt(Codec.RAW, b"", 0) == b""


def test_several_streams_of_seven_bits_keep_apart() -> None:
    values = np.arange(64 * 8, dtype=np.uint8).reshape(64, 8) % 128
    streams = b""
    for column in values.T:
        eighths = column.reshape(8, 8)
        bits = [(eighths[7] >> (6 - i) & 1) << 7 for i in range(7)]
        streams += b"".join((eighths[i] | bits[i]).tobytes() for i in range(7))
    header = b"\x08\x00" + struct.pack("<BBI", 1, 3, 56) * 8
    assert attempt(Codec.PLANES, header + streams, 512) == values.tobytes()
