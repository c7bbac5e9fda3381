"""The examples of docs/format.md: stored bytes that must decode to the same content for ever."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from gradient.codec.frame import Codec, decode_into, encode
from gradient.codec.mode import Mode


@dataclass(frozen=True, slots=True)
class Example:
    codec: Codec
    payload: str
    """Hex, with blanks between the fields."""
    raw: bytes
    base: bytes | None = None


EXAMPLES = {
    "raw": Example(Codec.RAW, "67726164", b"grad"),
    "zstd": Example(
        Codec.ZSTD,
        "28b52ffd 20 60 9d0000 60 7b2273746570223a3130307d 01 00f1a924 01",
        b'{"step":100}' * 8,
    ),
    "one value": Example(
        Codec.PLANES,
        "04 00  04 02 04000000  0000803f",
        struct.pack("<f", 1.0) * 32,
    ),
    "raw stream, rotated": Example(
        Codec.PLANES,
        "02 01  01 00 10000000  01 02 01000000  000102030405060780818283848586c0  7f",
        bytes.fromhex("803f813f823f833f843f853f863f873f80bf81bf82bf83bf84bf85bf86bfc0bf"),
    ),
    "seven bits": Example(
        Codec.PLANES,
        "04 00  02 02 02000000  01 03 07000000  01 02 01000000  0000  01020384050607  3f",
        b"".join(struct.pack("<I", 0x3F000000 | value << 16) for value in range(1, 9)),
    ),
    "rare values": Example(
        Codec.PLANES,
        "02 00  01 04 18000000  01 02 01000000"
        "00 02000000 03000000  00 03000000  00 02000000  03ff8d 0205  00",
        b"".join(struct.pack("<H", {3: 2, 400: 5}.get(place, 0)) for place in range(600)),
    ),
    "zstd streams": Example(
        Codec.PLANES,
        "04 01  02 02 02000000  01 01 11000000  01 01 13000000  0000"
        "28b52ffd20204500001000800100890e0b"
        "28b52ffd2020550000207f7f7e7e0100338e08",
        struct.pack("<4f", 1.0, -1.0, 0.5, -0.5) * 8,
    ),
    "delta": Example(
        Codec.DELTA,
        "02 00  02 02 02000000  0100",
        struct.pack("<8H", *range(8)),
        struct.pack("<8H", *range(1, 9)),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_decode(name: str) -> None:
    example = EXAMPLES[name]
    out = bytearray(b"\xaa" * len(example.raw))
    decode_into(example.codec, bytes.fromhex(example.payload), memoryview(out), base=example.base)
    assert out == example.raw


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_no_larger_than_raw(name: str) -> None:
    example = EXAMPLES[name]
    assert len(bytes.fromhex(example.payload)) <= len(example.raw)


def test_what_depends_on_no_library_is_also_encoded_so() -> None:
    ones, stepped = struct.pack("<f", 1.0) * 32, struct.pack("<4096H", *range(4096))
    after = struct.pack("<4096H", *range(1, 4097))
    encoded = encode(ones, width=4, mode=Mode.AUTO)
    assert encoded.codec is Codec.PLANES
    assert b"".join(map(bytes, encoded.parts)).hex() == "040004020400000000" + "00803f"
    encoded = encode(stepped, width=2, mode=Mode.AUTO, base=after)
    assert encoded.codec is Codec.DELTA
    assert b"".join(map(bytes, encoded.parts)).hex() == "02000202020000000100"


def test_every_codec_and_its_number() -> None:
    assert {codec.name: codec.value for codec in Codec} == {
        "RAW": 0,
        "ZSTD": 1,
        "PLANES": 2,
        "DELTA": 3,
    }
    assert {example.codec for example in EXAMPLES.values()} == set(Codec)
