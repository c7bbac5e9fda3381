"""What was found out about a tensor's chunks serves for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gradient.checkpoint import writer
from gradient.checkpoint.codec_cache import MAX_AGE, CodecCache
from gradient.checkpoint.delta_bases import DeltaBases
from gradient.codec import coding_plan, frame
from gradient.codec.coding_plan import CodingPlan
from gradient.codec.frame import Chunk, Encoded
from gradient.codec.mode import Mode
from gradient.storage.memory import MemoryStorage
from gradient.store.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from gradient.codec.elements import Words

ASKED = CodingPlan(prefers_delta=False, size=1)


def test_a_plan_serves_so_many_times_and_is_asked_anew() -> None:
    plans = CodecCache()
    assert plans.get("w", 2) == [None, None]
    plans.put("w", [ASKED, None])
    assert [plans.get("w", 2) for _ in range(MAX_AGE)] == [[ASKED, None]] * MAX_AGE
    assert plans.get("w", 2) == [None, None]
    plans.put("w", [ASKED, ASKED])
    assert plans.get("w", 2) == [ASKED, ASKED]


def test_they_are_not_all_asked_anew_by_the_same_commit() -> None:
    plans = CodecCache()
    names = [f"w{number}" for number in range(3 * (MAX_AGE + 1))]
    asked = []
    for _ in range(3 * MAX_AGE):
        asked.append([name for name in names if plans.get(name, 1) == [None]])
        for name in names:
            plans.put(name, [ASKED])
    assert asked[0] == names
    assert {len(each) for each in asked[1:]} == {3}
    assert {name for each in asked[1 : MAX_AGE + 2] for name in each} == set(names)


def test_a_tensor_of_another_length_is_asked() -> None:
    plans = CodecCache()
    plans.put("w", [ASKED])
    assert plans.get("w", 2) == [None, None]


def test_only_the_first_commits_take_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tensors, one of which gains from its anchor: both are known after two commits."""
    store, known = ObjectStore(MemoryStorage(), workers=1), CodecCache()
    generator = np.random.default_rng(1)
    moved = generator.standard_normal(1 << 13).astype(np.float32)
    samples: list[int] = []
    based: list[int] = []
    sampled, encoded = coding_plan.sample, frame.encode_all

    def sample(elements: Words) -> Words:
        samples[-1] += elements.itemsize > 1  # not of trees
        return sampled(elements)

    def encode(chunks: Sequence[Chunk], *, mode: Mode) -> list[Encoded]:
        based[-1] += sum(chunk.base is not None for chunk in chunks)
        return encoded(chunks, mode=mode)

    monkeypatch.setattr(coding_plan, "sample", sample)
    monkeypatch.setattr("gradient.store.transaction.encode_all", encode)
    bases = None
    for _ in range(5):
        samples.append(0)
        based.append(0)
        state = {
            "model": {
                "moved": torch.from_numpy(moved + generator.standard_normal(1 << 13) * 1e-6),
                "fresh": torch.from_numpy(generator.standard_normal(1 << 13)),
            }
        }
        with store.begin(mode=Mode.AUTO) as transaction:
            root = writer.write_state(transaction, state, delta_bases=bases, codec_cache=known)
            transaction.seal()
        bases = bases or DeltaBases(store, root)
    assert samples[:2] == [2, 4]
    assert samples[2:] == [0, 0, 0]
    assert based == [0, 2, 1, 1, 1]
