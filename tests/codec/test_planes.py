from __future__ import annotations

import struct

import numpy as np
import pytest

from gradient.codec import planes, stream
from gradient.codec.elements import Words
from gradient.codec.mode import Mode
from gradient.codec.plane_survey import PLAIN, ROTATED, Survey, survey


def seen_as(transform: int, entropies: tuple[float, ...]) -> Survey:
    """Return a survey that knows of no value that is more frequent than others."""
    return Survey(transform, entropies, (0,) * len(entropies), (0.0,) * len(entropies))


def encoded(elements: Words, seen: Survey) -> bytes:
    (coded,) = planes.encode(elements, [seen], mode=Mode.AUTO)
    return b"".join(map(bytes, coded.parts))


def spans_of(payload: bytes) -> list[tuple[int, int]]:
    """Return (span, method) of each stream."""
    found: list[tuple[int, int]] = []
    while sum(span for span, _ in found) < payload[0]:
        span, method, _ = struct.unpack_from("<BBI", payload, 2 + 6 * len(found))
        found.append((span, method))
    return found


@pytest.mark.parametrize(
    ("entropies", "spans"),
    [
        ((8.0, 8.0, 8.0, 2.5), [2, 1, 1]),
        ((8.0, 8.0, 2.5, 2.5), [2, 1, 1]),
        ((8.0, 2.5, 0.0, 0.0), [1, 1, 2]),
        ((0.0, 0.0, 0.0, 0.0), [4]),
        ((8.0, 2.5), [1, 1]),
        ((8.0,) * 6 + (7.0, 2.5), [4, 2, 1, 1]),
        ((2.5, 0.0, 0.0, 0.0, 8.0, 8.0, 8.0, 8.0), [1, 1, 2, 4]),
        ((0.0,), [1]),
    ],
)
def test_like_planes_stay_together(entropies: tuple[float, ...], spans: list[int]) -> None:
    width = len(entropies)
    elements = np.random.default_rng(0).integers(0, 256, 64 * width).astype(np.uint8)
    words = elements.view(f"<u{width}")
    payload = encoded(words, seen_as(PLAIN, entropies))
    assert [span for span, _ in spans_of(payload)] == spans
    out = memoryview(bytearray(words.nbytes))
    planes.decode_into(memoryview(payload), out)
    assert out == words.tobytes()


def test_a_sample_that_missed_something_costs_bytes_not_bits() -> None:
    words = np.zeros(1000, "<u4")
    words[777] = 0xDEADBEEF
    payload = encoded(words, seen_as(PLAIN, (0.0, 0.0, 0.0, 0.0)))
    assert spans_of(payload) == [(4, stream.ZSTD)]
    out = memoryview(bytearray(4000))
    planes.decode_into(memoryview(payload), out)
    assert out == words.tobytes()


@pytest.mark.parametrize("width", [2, 4, 8])
def test_rotation_puts_an_exponent_of_eight_bits_on_top(width: int) -> None:
    shift = 8 * width - 16
    words = np.array([0x3F80 << shift, 0xBF80 << shift, 0x3FFF << shift], f"<u{width}")
    seen = survey(words, ROTATED)
    assert seen.entropies[-1] == 0
    assert survey(words, PLAIN).entropies[-1] > 0


@pytest.mark.parametrize("width", [2, 4, 8])
def test_every_top_comes_back_from_rotation(width: int) -> None:
    words = np.arange(1 << 16, dtype=f"<u{width}") << np.array(8 * width - 16, f"<u{width}")
    payload = encoded(words, seen_as(ROTATED, (0.0,) * (width - 2) + (7.0, 3.0)))
    assert payload[1] == ROTATED
    out = memoryview(bytearray(words.nbytes))
    planes.decode_into(memoryview(payload), out)
    assert out == words.tobytes()


def test_streams_that_differ_from_part_to_part_get_codes_for_each() -> None:
    generator = np.random.default_rng(0)
    parts = [generator.integers(first, first + 4, 1 << 14) for first in (0, 40, 80, 120) * 2]
    uneven, even = np.concatenate(parts), generator.permutation(np.concatenate(parts))
    seen = seen_as(PLAIN, (4.0,))
    (found,) = planes.encode(uneven.astype(np.uint8), [seen], mode=Mode.AUTO)
    (usual,) = planes.encode(even.astype(np.uint8), [seen], mode=Mode.AUTO)
    assert found.seen.local == (0,)
    assert usual.seen.local == ()
    assert sum(map(len, found.parts)) < 0.6 * sum(map(len, usual.parts))
    out = memoryview(bytearray(uneven.size))
    planes.decode_into(memoryview(b"".join(found.parts)), out)
    assert out == uneven.astype(np.uint8).tobytes()


def test_what_is_known_of_a_stream_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 9, 1 << 17).astype(np.uint8)
    (first,) = planes.encode(values, [seen_as(PLAIN, (3.2,))], mode=Mode.AUTO)
    monkeypatch.delattr("gradient.codec.entropy.try_coders")
    (again,) = planes.encode(values, [first.seen], mode=Mode.AUTO)
    assert again == first
