"""The metrics that a run may record, and how they are stored."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
import pytest
import torch

from gradient.engine.hparams import check_hparams
from gradient.engine.metrics import numbers
from gradient.errors import UnsupportedValueError

GOOD: list[tuple[Any, int | float]] = [
    (1, 1),
    (1.5, 1.5),
    (True, 1),
    (1 << 80, 1 << 80),
    (-math.inf, -math.inf),
    (np.float32(0.5), 0.5),
    (np.float64(0.25), 0.25),
    (np.int8(-3), -3),
    (np.bool_(True), 1),
    (np.array(2.0), 2.0),
    (torch.tensor(2.5, dtype=torch.bfloat16), 2.5),
    (torch.tensor(3), 3),
    (torch.tensor(1.5, requires_grad=True), 1.5),
]


@pytest.mark.parametrize(("value", "plain"), GOOD)
def test_numbers_become_plain(value: Any, plain: float) -> None:
    found = numbers({"val/loss": value})
    assert found == {"val/loss": plain}
    assert type(found["val/loss"]) is type(plain)


class Color(enum.Enum):
    RED = 1


BAD = ["1", None, [1], torch.zeros(2), torch.zeros(1), np.zeros(1), 1j, torch.tensor(1j), Color.RED]


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_anything_else_is_refused_by_name(value: Any) -> None:
    with pytest.raises(UnsupportedValueError, match="metric 'loss'"):
        numbers({"loss": value})


@pytest.mark.parametrize("name", ["", 1, None, "\ud800"])
def test_a_name_is_text(name: Any) -> None:
    with pytest.raises(UnsupportedValueError, match="a name is text"):
        numbers({name: 1})


def test_none_means_none() -> None:
    assert numbers(None) == {}
    with pytest.raises(UnsupportedValueError, match="not a dict"):
        numbers(3)  # type: ignore[arg-type]


def test_hyperparameters_are_text_and_numbers() -> None:
    given = {
        "lr": np.float64(0.1),
        "n": torch.tensor(3),
        "betas": (0.9, 0.99),
        "names": ["a", None],
    }
    plain = check_hparams(given | {"flag": True, "path": "x"})
    assert plain == {
        "lr": 0.1,
        "n": 3,
        "betas": (0.9, 0.99),
        "names": ["a", None],
        "flag": True,
        "path": "x",
    }
    assert [type(plain[name]) for name in ("lr", "n", "flag")] == [float, int, bool]


@pytest.mark.parametrize("value", [{"nested": 1}, torch.float16, Color.RED, object(), b"x", 1j])
def test_a_hyperparameter_that_is_no_plain_value_is_refused_by_name(value: Any) -> None:
    with pytest.raises(UnsupportedValueError, match=r"hparams\['model'\]"):
        check_hparams({"lr": 1, "model": value})
    with pytest.raises(UnsupportedValueError, match=r"hparams\['model'\]\[1\]"):
        check_hparams({"model": [1, value]})


@pytest.mark.parametrize("hparams", [[("lr", 1)], "lr=1", {1: 2}])
def test_hyperparameters_are_a_dict_with_names(hparams: Any) -> None:
    with pytest.raises(UnsupportedValueError, match="hparams"):
        check_hparams(hparams)
