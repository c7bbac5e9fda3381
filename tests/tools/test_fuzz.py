"""Every parser refuses what is malformed with an error of ours: a short sample of the fuzzers."""

from __future__ import annotations

import pytest

from tools.fuzz import __main__ as fuzz
from tools.fuzz.targets import Target, targets

RUNS = {"pack": 150, "scan": 150, "index": 150, "ledger": 150, "config": 150, "manifest": 150}
"""Inputs for the slower ones; 500 for the others."""

NAMES = [
    *("pack", "scan", "index", "ledger", "frame", "tree", "commit", "ref", "retention"),
    *("config", "head", "manifest", "mark", "value"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_there_is_one_for_each_parser(found: dict[str, Target]) -> None:
    assert list(found) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_malformed_input_is_refused_and_nothing_else_happens(
    name: str, found: dict[str, Target]
) -> None:
    target = found[name]
    said = fuzz.run(name, target, runs=RUNS.get(name, 500), seed=20260210)
    assert target.seeds
    assert sum(said.values()) == RUNS.get(name, 500)


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_are_accepted(name: str, found: dict[str, Target]) -> None:
    target = found[name]
    said = [fuzz.attempt(name, target, seed) for seed in target.seeds]
    assert "accepted" in said


def test_a_parser_that_fails_is_told() -> None:
    with pytest.raises(fuzz.FuzzError, match="ZeroDivisionError"):
        fuzz.attempt("bad", Target([b"x"], lambda data: 1 // 0), b"x")


FOUND = [
    ("value", b'{"deque":{"items":[1],"maxlen":9223372036854775808}}'),
    ("value", b'{"size":[9223372036854775808]}'),
]
"""What the fuzzers found, and what is near it."""


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_is_refused(name: str, data: bytes, found: dict[str, Target]) -> None:
    assert fuzz.attempt(name, found[name], data) == "MalformedObjectError"
