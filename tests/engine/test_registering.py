"""Optimizers that are registered come back with the bits they had, casts or not."""

from __future__ import annotations

import pytest
import torch

from gradient.engine.registering import load_exactly, registered
from gradient.errors import ConfigError, MisfitError
from gradient.state.snapshot import snapshot
from tests.engine.rig import assert_same


def optimizer(width: int = 3) -> torch.optim.Adam:
    """Make bf16 parameters with moments of full precision, which torch would cast."""
    parameters = [torch.nn.Parameter(torch.randn(width, dtype=torch.bfloat16)) for _ in range(2)]
    made = torch.optim.Adam(
        [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.5}], lr=0.1
    )
    for parameter in parameters:
        made.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": torch.randn(width)}
    return made


def test_moments_keep_their_dtype() -> None:
    source, target = optimizer(), optimizer()
    saved = snapshot(source.state_dict())
    entry = registered(target, None, required=True, pickle=False)
    entry.setter(snapshot(saved))
    assert_same(entry.getter(), saved)


def test_other_groups_are_a_misfit_and_change_nothing() -> None:
    target = torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))], lr=0.3)
    before = snapshot(target.state_dict())
    with pytest.raises(MisfitError, match="2 groups, here 1"):
        load_exactly(target, snapshot(optimizer().state_dict()))
    assert_same(target.state_dict(), before)


def test_what_has_no_state_is_refused() -> None:
    with pytest.raises(ConfigError, match="register a getter and a setter"):
        registered([], None, required=True, pickle=False)
