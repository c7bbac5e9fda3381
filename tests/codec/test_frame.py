from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradient.codec.chunks import CHUNK_BYTES
from gradient.codec.frame import Chunk, Codec, Encoded, decode_into, encode, encode_all
from gradient.codec.mode import Mode
from gradient.errors import MalformedObjectError
from tests.codec.strategies import chunks, make, seeds, widths

MODES = st.sampled_from(Mode)


def joined(encoded: Encoded) -> bytes:
    payload = b"".join(bytes(part) for part in encoded.parts)
    assert len(payload) == encoded.size
    return payload


def decoded(encoded: Encoded, size: int, base: bytes | None = None) -> bytes:
    out = bytearray(b"\xaa" * size)
    used = base if encoded.codec is Codec.DELTA else None
    decode_into(int(encoded.codec), joined(encoded), memoryview(out), base=used)
    return bytes(out)


@settings(max_examples=150)
@given(data=st.data(), width=widths, mode=MODES)
def test_what_goes_in_comes_out(data: st.DataObject, width: int, mode: Mode) -> None:
    raw = data.draw(chunks(width=width))
    encoded = encode(raw, width=width, mode=mode)
    assert encoded.size <= len(raw)
    assert encoded.codec is not Codec.DELTA
    assert decoded(encoded, len(raw)) == raw


@settings(max_examples=150)
@given(data=st.data(), width=widths, mode=MODES, seed=seeds, step=st.integers(0, 300))
def test_what_goes_in_against_a_base_comes_out(
    data: st.DataObject, width: int, mode: Mode, seed: int, step: int
) -> None:
    base = data.draw(chunks(width=width))
    count = len(base) // width
    steps = np.random.default_rng(seed).integers(-step, step + 1, count).astype(f"<i{width}")
    moved = np.frombuffer(base[: count * width], f"<u{width}") + steps.view(f"<u{width}")
    raw = moved.tobytes() + base[count * width :]
    encoded = encode(raw, width=width, mode=mode, base=base)
    assert encoded.size <= len(raw)
    assert decoded(encoded, len(raw), base) == raw


@settings(max_examples=150)
@given(data=st.data(), width=widths, other=widths, mode=MODES, based=st.booleans())
def test_any_plan_serves_any_chunk(
    data: st.DataObject, width: int, other: int, mode: Mode, *, based: bool
) -> None:
    first, second = data.draw(chunks(width=other)), data.draw(chunks(width=other))
    against = second[::-1][: len(first)].ljust(len(first), b"\1")
    plan = encode(first, width=other, mode=mode, base=against if based else None).plan
    raw = data.draw(chunks(width=width))
    base = data.draw(st.sampled_from([None, raw[::-1], bytes(len(raw))]))
    encoded = encode(raw, width=width, mode=mode, base=base, plan=plan)
    assert encoded.size <= len(raw)
    assert decoded(encoded, len(raw), base) == raw


@settings(max_examples=150)
@given(data=st.data(), mode=MODES)
def test_side_by_side_each_comes_out_as_alone(data: st.DataObject, mode: Mode) -> None:
    lengths = data.draw(st.lists(st.sampled_from([0, 100, 257, 1024, 4096]), max_size=6))
    batch: list[Chunk] = []
    for length in lengths:
        width, seed = data.draw(widths), data.draw(seeds)
        kind = data.draw(st.sampled_from(["noise", "weights", "squares", "zeros", "sparse"]))
        raw = make(kind, length, width, seed)
        base = data.draw(st.sampled_from([None, raw, raw[::-1], bytes(length)]))
        earlier = [each.plan for each in encode_all(batch, mode=mode)]
        plan = data.draw(st.sampled_from([None, *earlier]))
        batch.append(Chunk(raw, width, base, plan))
    for (raw, width, base, plan), encoded in zip(batch, encode_all(batch, mode=mode), strict=True):
        alone = encode(raw, width=width, mode=mode, base=base, plan=plan)
        assert (encoded.codec, encoded.plan) == (alone.codec, alone.plan)
        assert joined(encoded) == joined(alone)
        assert decoded(encoded, len(raw), base) == raw


def weights(seed: int, scale: float = 1.0) -> bytes:
    values = np.random.default_rng(seed).standard_normal(1 << 14) * 0.02 * scale
    return values.astype(np.float32).tobytes()


def test_a_plan_takes_the_place_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    base, raw, later = weights(1), weights(2), weights(3)
    alone = encode(raw, width=4, mode=Mode.AUTO)
    step = encode(base, width=4, mode=Mode.AUTO, base=base)
    monkeypatch.delattr("gradient.codec.entropy.sample_indices")
    again = encode(later, width=4, mode=Mode.AUTO, plan=alone.plan)
    assert again.plan == alone.plan
    assert abs(again.size - alone.size) < 0.01 * alone.size
    leaning = encode(base, width=4, mode=Mode.AUTO, base=base, plan=step.plan)
    assert leaning.codec is Codec.DELTA
    assert leaning.plan == step.plan


def test_a_plan_that_was_outgrown_is_dropped() -> None:
    base = weights(1)
    near = encode(base, width=4, mode=Mode.AUTO, base=base)
    far = encode(weights(2), width=4, mode=Mode.AUTO, base=base, plan=near.plan)
    assert far.plan is None
    asked = encode(weights(2), width=4, mode=Mode.AUTO, base=base)
    assert asked.codec is Codec.PLANES
    assert asked.plan is not None
    assert asked.plan.prefers_delta is False


def test_an_anchor_in_between_keeps_what_is_known_of_differences() -> None:
    base = weights(1)
    near = encode(base, width=4, mode=Mode.AUTO, base=base)
    anchor = encode(base, width=4, mode=Mode.AUTO, plan=near.plan)
    assert anchor.codec is Codec.PLANES
    assert near.plan is not None
    assert anchor.plan is not None
    assert anchor.plan.step == near.plan.step
    assert anchor.plan.prefers_delta


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["noise", "weights", "squares", "zeros", "sparse", "text"])
def test_full_chunks(kind: str, width: int, mode: Mode) -> None:
    raw = make(kind, CHUNK_BYTES, width, 7)
    encoded = encode(raw, width=width, mode=mode)
    assert encoded.size <= len(raw)
    assert decoded(encoded, len(raw)) == raw


def test_off_and_noise_are_not_copied() -> None:
    noise = make("noise", CHUNK_BYTES, 4, 1)
    for mode, raw in ((Mode.OFF, bytes(1000)), (Mode.AUTO, noise)):
        (part,) = encode(raw, width=4, mode=mode).parts
        assert memoryview(part).obj is raw


def test_equal_elements_cost_a_few_bytes() -> None:
    for width in (1, 2, 4, 8):
        assert encode(bytes(CHUNK_BYTES), width=width, mode=Mode.AUTO).size <= 16
        ones = (1).to_bytes(width, "little") * (CHUNK_BYTES // width)
        assert encode(ones, width=width, mode=Mode.AUTO).size <= 16


def test_floats_shrink() -> None:
    weights = make("weights", CHUNK_BYTES, 4, 1)
    assert encode(weights, width=4, mode=Mode.AUTO).size < CHUNK_BYTES / 1.19
    weights = make("weights", CHUNK_BYTES, 2, 1)
    assert encode(weights, width=2, mode=Mode.AUTO).size < CHUNK_BYTES / 1.48
    squares = make("squares", CHUNK_BYTES, 2, 1)
    assert encode(squares, width=2, mode=Mode.AUTO).size < CHUNK_BYTES / 1.5


def test_a_sparse_change_of_bf16_costs_its_proportion() -> None:
    base = make("weights", CHUNK_BYTES, 2, 1)
    words = np.frombuffer(base, "<u2").copy()
    generator = np.random.default_rng(2)
    where = generator.choice(words.size, words.size // 100, replace=False)
    words[where] += generator.integers(1, 5, where.size).astype("<u2")
    encoded = encode(words.tobytes(), width=2, mode=Mode.AUTO, base=base)
    assert encoded.codec is Codec.DELTA
    assert encoded.size < CHUNK_BYTES / 50
    same = encode(base, width=2, mode=Mode.AUTO, base=base)
    assert same.size <= 16


def test_a_base_that_does_not_help_is_not_used() -> None:
    raw, base = make("weights", CHUNK_BYTES, 4, 1), make("noise", CHUNK_BYTES, 4, 2)
    for mode in (Mode.AUTO, Mode.AGGRESSIVE):
        assert encode(raw, width=4, mode=mode, base=base).codec is Codec.PLANES


def test_parts_outlive_the_next_encode() -> None:
    first, second = (make("squares", CHUNK_BYTES, 4, seed) for seed in (1, 2))
    kept = encode(first, width=4, mode=Mode.AUTO)
    encode(second, width=4, mode=Mode.AUTO)
    decoded(encode(second, width=4, mode=Mode.AUTO), CHUNK_BYTES)
    assert decoded(kept, CHUNK_BYTES) == first


def test_any_contiguous_buffer_serves() -> None:
    array = np.linspace(-1, 1, 1000, dtype="<f4").reshape(10, 100)
    encoded = encode(array, width=4, mode=Mode.AUTO, base=array * np.float32(1.001))
    out = np.empty_like(array)
    base = array * np.float32(1.001)
    decode_into(
        encoded.codec,
        np.frombuffer(joined(encoded), np.uint8),
        memoryview(out),
        base=base if encoded.codec is Codec.DELTA else None,
    )
    assert out.tobytes() == array.tobytes()


def test_unaligned_buffers_serve() -> None:
    raw = make("weights", 40_000, 4, 3)
    shifted = memoryview(b"\0" + raw)[1:]
    encoded = encode(shifted, width=4, mode=Mode.AUTO)
    room = bytearray(len(raw) + 1)
    payload = memoryview(b"\0" + joined(encoded))[1:]
    decode_into(encoded.codec, payload, memoryview(room)[1:])
    assert room[1:] == raw


@pytest.mark.parametrize("width", [0, 3, 16])
def test_an_unknown_width_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="width"):
        encode(bytes(100), width=width, mode=Mode.AUTO)


def test_a_base_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="base"):
        encode(bytes(100), width=4, mode=Mode.AUTO, base=bytes(104))


def test_a_delta_needs_its_base_and_nothing_else_takes_one() -> None:
    base = make("weights", 4000, 4, 1)
    delta = encode(base, width=4, mode=Mode.AUTO, base=base)
    out = memoryview(bytearray(4000))
    assert delta.codec is Codec.DELTA
    with pytest.raises(MalformedObjectError, match="base"):
        decode_into(delta.codec, joined(delta), out)
    with pytest.raises(MalformedObjectError, match="base"):
        decode_into(delta.codec, joined(delta), out, base=base[:-4])
    for codec in (Codec.RAW, Codec.ZSTD, Codec.PLANES, 9):
        with pytest.raises(MalformedObjectError, match="base"):
            decode_into(codec, joined(delta), out, base=base)


def test_threads_do_not_share_scratch() -> None:
    failures: list[int] = []
    gate = threading.Barrier(4)

    def work(seed: int) -> None:
        gate.wait()
        for turn in range(12):
            width = (2, 4, 8)[turn % 3]
            base = make("weights", 200_000, width, seed)
            raw = make(("weights", "squares", "sparse")[turn % 3], 200_000, width, seed + turn)
            against = base if turn % 2 else None
            encoded = encode(raw, width=width, mode=Mode.AUTO, base=against)
            if decoded(encoded, len(raw), against) != raw:
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
