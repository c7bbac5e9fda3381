from __future__ import annotations

from typing import Any

import pytest

from gradient.errors import ConfigError
from gradient.repo.retention.rules import Best, Keep, parse_best, parse_span

SPANS = {"0": 0, "30s": 30, "30m": 1800, "12h": 43200, "14d": 14 * 86400, "2w": 14 * 86400}
BESTS = {
    "val_loss": Best("val_loss", 1, 1),
    "val_loss:3": Best("val_loss", 1, 3),
    "acc:max": Best("acc", -1, 1),
    "acc:max:2": Best("acc", -1, 2),
    "val/loss:min:10": Best("val/loss", 1, 10),
}
REFUSED: list[dict[str, Any]] = [
    {},
    {"last": -1},
    {"last": True},
    {"last": 1.0},
    {"every": 0},
    {"best": "loss:0"},
    {"best": ":3"},
    {"best": ""},
    {"best": [""]},
    {"last": 1, "aside": "14"},
    {"last": 1, "aside": "x"},
    {"last": 1, "grace": "1y"},
    {"last": 1, "drop": [1]},
    {"last": 1, "tagged": False},
    {"aside": "14d"},
]


@pytest.mark.parametrize(("text", "seconds"), SPANS.items())
def test_spans(text: str, seconds: int) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "1y", "-1d", "1.5h", "d", "٣d", "9" * 12 + "d"])
def test_spans_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a time span"):
        parse_span(text)


@pytest.mark.parametrize(("spec", "best"), BESTS.items())
def test_the_best(spec: str, best: Best) -> None:
    assert parse_best(spec) == best


@pytest.mark.parametrize("settings", REFUSED)
def test_rules_that_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Keep(**settings)


def test_the_words_are_those_of_the_command() -> None:
    keep = Keep(last=5, every=1000, best=("val_loss:3", "acc:max"), aside="14d", drop="optimizer")
    assert keep.words == (
        "--keep-last 5 --keep-every 1000 --keep-best val_loss:3 --keep-best acc:max "
        "--keep-aside 14d --drop optimizer"
    )
    assert Keep(last=0).words == "--keep-last 0"
