from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gradient.repo.repository import Repository
from tests.cli.command import call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


@pytest.fixture
def given_up(history: PlainRepo) -> PlainRepo:
    """The history, with the forked branch deleted."""
    tip = history.repo.refs.read("high_lr")
    assert tip is not None
    history.repo.refs.delete("high_lr", after=tip, reason="test")
    return history


def test_nothing_to_collect(history: PlainRepo) -> None:
    printed = call("gc").output
    assert printed.splitlines()[0].startswith("5 commits kept, in 5 packs of ")
    assert printed.splitlines()[1] == "nothing to collect"


def test_the_trash_and_back(given_up: PlainRepo) -> None:
    assert "2 unreachable packs would be moved" in call("gc", "-n", "--grace", "0").output
    assert "nothing to collect" in call("gc").output, "the grace is not over"
    printed = call("gc", "--grace", "0").output
    assert "2 unreachable packs moved to the trash" in printed
    assert "2 packs in the trash removed for good" in printed
    assert call("gc", "--undo").output == "the trash is empty\n"


def test_json(given_up: PlainRepo) -> None:
    found = json.loads(call("gc", "--grace", "0", "--json").output)
    assert (found["commits"], found["dead"], found["removed"]) == (3, 2, 2)
    assert found["dry_run"] is False
    assert json.loads(call("gc", "--undo", "--json").output)["restored"] == 0


def test_the_contents_of_the_trash_are_reported(given_up: PlainRepo) -> None:
    packs = {f"objects/pack/{name}" for name in given_up.repo.storage.names("objects/pack")}
    name = sorted(packs)[0]
    target = f"objects/trash/29990101t000000-01234567.{name.rpartition('/')[2]}"
    given_up.repo.storage.move_all({name: target})
    printed = call("gc", "--grace", "14d").output
    if "brought back" not in printed:
        assert "in the trash until 2999-01-15 00:00 UTC: 1 pack" in printed
        assert "gradient gc --undo" in printed
        assert "1 pack of" in call("gc", "--undo").output
    assert Repository.open(given_up.repo.path).tip("main") is not None


@pytest.mark.parametrize("span", ["1", "x", "1y", "-1d", "1.5h", ""])
def test_invalid_time_spans(history: PlainRepo, span: str) -> None:
    assert "is not a time span" in call("gc", "--grace", span, code=2).output


def test_undo_has_no_dry_run(history: PlainRepo) -> None:
    call("gc", "--undo", "-n", code=2)
