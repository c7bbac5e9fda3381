"""Every operation fails at every call: a sample of `python -m tools.campaigns.faults`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tools.campaigns import faults
from tools.campaigns.faults import Campaign, Case
from tools.campaigns.operations import Operation
from tools.campaigns.oracle import Client, ViolationError
from tools.campaigns.scenario import STORE, Scenario

if TYPE_CHECKING:
    from pathlib import Path

STRIDE = 397
"""Shares no factor with the sixteen faults of a call, so that each is met at many."""


def test_no_fault_is_silent_or_loses_anything(capsys: pytest.CaptureFixture[str]) -> None:
    faults.main(["--stride", str(STRIDE)])
    told = re.search(r"(\d+) faults .* (\d+) errors .*, (\d+) that were", capsys.readouterr().out)
    assert told is not None
    assert int(told[1]) > 100
    assert int(told[2]) > 50
    assert int(told[3]) > 10


def swallow(client: Client) -> None:
    """Acknowledge a commit even if it failed."""
    before = client.refs
    try:
        STORE.operations["commit"](client)
    except OSError:
        client.acknowledge(client.with_line("heads/main", [*before["heads/main"], 99]))


def fail_in_its_own_words(client: Client) -> None:
    """Raise an error of another class than ours."""
    try:
        STORE.operations["commit"](client)
    except OSError:
        raise KeyError("what?") from None


@pytest.mark.parametrize("wrong", [swallow, fail_in_its_own_words])
def test_a_wrong_operation_is_noticed(wrong: Operation, tmp_path: Path) -> None:
    scenario = Scenario({**STORE.operations, "wrong": wrong}, STORE.make, STORE.judge)
    with pytest.raises(ViolationError):
        Campaign(tmp_path, scenario).run(Case("wrong", 20, "EIO", persistent=True))
