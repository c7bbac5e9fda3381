"""Bytes made from other bytes: by chance, and the same again for the same seed."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Final

TOKENS: Final = [
    *(b"null", b"true", b"-0", b"-0.0", b"1e999", b"NaN", b"[]", b"{}", b'""', b'"\\ud800"'),
    *(b'{"int":"0x1"}', b'{"float":"7ff0000000000000"}', b'{"tree":"', b"[[[[[[[[", b'{"a":' * 9),
    *(b"9" * 400, b"..", b"/", b"\\", b"\0", b"%2e%2e", b"\xff\xfe", b"GRADPACK", b"\xf7GFR"),
    *(b"(\xb5/\xfd", b"P*M\x18\x04\0\0\0abcd", b'{"pickle":"80049', b"cos\nsystem\n"),
]
"""What parsers stumble over."""

_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
_DIGITS: Final = re.compile(rb"[0-9]+")


def mutate(chance: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return a seed with a few changes."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        chance.choice(_CHANGES)(chance, data, seeds)
    return bytes(data)


def _flip(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _cut(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    del data[start : start + chance.choice((1, 4, 40, 1 << 20))]


def _repeat(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    piece = data[start : start + chance.choice((1, 8, 64))]
    data[start:start] = piece * chance.choice((1, 2, 50))


def _insert(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice(TOKENS)


def _number(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    width = chance.choice((1, 4, 8))
    if len(data) >= width:
        start = chance.randrange(len(data) - width + 1)
        number = chance.choice(_NUMBERS) & ((1 << 8 * width) - 1)
        data[start : start + width] = struct.pack("<Q", number)[:width]


def _digits(chance: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    found = list(_DIGITS.finditer(data))
    if found:
        match = chance.choice(found)
        data[match.start() : match.end()] = str(chance.choice(_NUMBERS)).encode()


def _splice(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]


_CHANGES: Final[tuple[Callable[[random.Random, bytearray, Sequence[bytes]], None], ...]] = (
    *(_flip, _cut, _repeat, _insert, _number, _digits, _splice),
)
