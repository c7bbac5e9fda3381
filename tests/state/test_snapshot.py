from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import torch
from hypothesis import given

from gradient.state.snapshot import snapshot
from gradient.state.tensors import extent
from tests import strategies
from tests.state.value_roundtrip import same


@given(strategies.values())
def test_a_snapshot_is_equal(value: Any) -> None:
    assert same(snapshot(value), value)


def test_nothing_is_shared_with_the_original() -> None:
    value = {"t": torch.zeros(3), "a": np.zeros(3), "l": [bytearray(2)], "d": datetime.date.min}
    copied = snapshot(value)
    value["t"] += 1
    value["a"] += 1
    value["l"][0][0] = 1
    value["l"].append(1)
    assert same(copied["t"], torch.zeros(3))
    assert same(copied["a"], np.zeros(3))
    assert copied["l"] == [bytearray(2)]


def test_what_overlaps_overlaps_in_the_copy() -> None:
    whole = torch.arange(100.0)
    wide = torch.zeros(4, dtype=torch.complex128)
    value = {
        "tied": [whole[10:20], whole[10:20]],
        "views": [whole[40:60].reshape(4, 5).t(), whole[50:70:2]],
        "mixed": [wide[1:3], torch.view_as_real(wide)[1:]],
    }
    copied = snapshot(value)
    assert same(copied, value)
    copied["tied"][0][0] = -1
    assert copied["tied"][1][0] == -1
    copied["views"][0][0, 2] = -2
    assert copied["views"][1][0] == -2
    copied["mixed"][0][0] = 3
    assert copied["mixed"][1][0, 0] == 3
    assert whole[10] == 10
    assert whole[50] == 50
    _, start, stop = extent(copied["tied"][0])
    assert stop - start == 40
    assert copied["tied"][0].untyped_storage().nbytes() < 64


def test_layout_and_flags_stay() -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    assert snapshot(image).stride() == image.stride()
    assert type(snapshot(parameter)) is torch.nn.Parameter
    assert not snapshot(parameter).requires_grad
