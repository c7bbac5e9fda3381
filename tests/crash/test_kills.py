"""SIGKILL, a thousand times: acknowledged commits are intact, and the next process continues.

`python -m tools.campaigns.kills` kills as often as one likes (docs/reliability.md has results).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tools.campaigns import kills, oracle, scenario
from tools.campaigns.operations import MAIN, Operation, commit
from tools.campaigns.oracle import Client, ViolationError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fork_server import ForkServer

ROUNDS = {
    "before every fourth call": (130, ["--kills", "0", "--stride", "4"]),
    "at any moment": (80, ["--kills", "80", "--stride", "0"]),
    "engines, before every eighth call": (20, ["--kills", "0", "--stride", "8", "--training"]),
    "engines, at any moment": (50, ["--kills", "50", "--stride", "0", "--training"]),
}
"""The least number of kills and the arguments of each sample of the campaign: 280 kills in all."""


@pytest.mark.parametrize("which", ROUNDS)
def test_nothing_is_lost(which: str, fork_server: ForkServer) -> None:
    least, arguments = ROUNDS[which]
    said = fork_server.run(kills.main, arguments)
    told = re.search(r"([\d,]+) kills \(.* nothing lost", said)
    assert told is not None, said
    assert int(told[1].replace(",", "")) >= least


def lose(client: Client) -> None:
    """Acknowledge a commit that was never made."""
    with client.attempt(client.with_line(MAIN, [*client.refs[MAIN], 99])):
        pass


def spoil(client: Client) -> None:
    """Damage a pack during the run."""
    with client.attempt(client.refs):
        pack = next(client.path.glob(".gradient-repo/objects/pack/*.pack"))
        content = bytearray(pack.read_bytes())
        content[100] ^= 1
        pack.unlink()
        pack.write_bytes(content)


@pytest.mark.parametrize("wrong", [lose, spoil])
def test_what_is_lost_is_noticed(wrong: Operation, tmp_path: Path) -> None:
    path, refs = scenario.STORE.make(tmp_path / "world")
    said: list[str] = []
    client = Client(path, refs, said.append)
    inspector = oracle.Inspector(path, scenario.STORE.judge)
    commit(client)
    inspector.inspect(oracle.allowed(refs, said))
    wrong(client)
    with pytest.raises(ViolationError):
        inspector.inspect(oracle.allowed(refs, said))
