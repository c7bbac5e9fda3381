from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from gradient.errors import ConfigError, MisfitError
from gradient.state import rng
from tests.state.value_roundtrip import same, through


def draw() -> list[float]:
    drawn = [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()]
    return [*drawn, torch.rand(()).item(), torch.randn(()).item()]


def test_every_generator_goes_on_where_it_was() -> None:
    draw()
    state = through(rng.capture())
    expected = [draw() for _ in range(3)]
    rng.reseed(1)
    rng.check(state)
    rng.restore(state)
    assert [draw() for _ in range(3)] == expected


def test_capture_draws_nothing_and_is_a_copy() -> None:
    state = rng.capture()
    kept = through(state)
    assert same(rng.capture(), state)
    draw()
    assert same(state, kept)
    assert not same(rng.capture(), state)


def test_reseed_seeds_every_generator() -> None:
    rng.reseed(5)
    first = draw()
    draw()
    rng.reseed(5)
    assert draw() == first
    rng.reseed(6)
    assert not set(draw()) & set(first)
    rng.reseed((1 << 64) - 1)


@pytest.mark.parametrize("seed", [-1, 1 << 64, 1.0, True, None], ids=str)
def test_bad_seeds(seed: int) -> None:
    with pytest.raises(ConfigError, match="a seed is an integer"):
        rng.reseed(seed)


def test_what_cannot_be_set_is_found_first() -> None:
    state = rng.capture()
    for name, bad in [("python", {}), ("numpy", {"bit_generator": "MT19937"}), ("torch", None)]:
        with pytest.raises(MisfitError, match="generators cannot be set"):
            rng.check(state | {name: bad})
    with pytest.raises(MisfitError, match="MT19937 here, saved PCG64"):
        rng.check(state | {"numpy": np.random.PCG64(1).state})
    assert same(rng.capture(), state)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_devices_are_told() -> None:
    state = rng.capture() | {"cuda": [torch.get_rng_state()], "mps": torch.get_rng_state()}
    with pytest.warns(UserWarning, match=r"1 CUDA devices, here are 0|MPS") as caught:
        rng.restore(state)
    assert len(caught) == 2
    assert "cuda" not in rng.capture()


def test_capturing_does_not_initialise_cuda() -> None:
    before = torch.cuda.is_initialized()
    rng.capture()
    assert torch.cuda.is_initialized() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_goes_on_where_it_was() -> None:
    torch.rand(3, device="cuda")
    state = through(rng.capture())
    expected = torch.rand(5, device="cuda")
    rng.restore(state)
    assert torch.equal(torch.rand(5, device="cuda"), expected)
