"""Many processes on one repo, killed, stopped, at other times: nothing is lost, nothing hangs.

Samples of `python -m tools.campaigns.writers`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tools.campaigns import writers
from tools.campaigns.lives import ViolationError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processes import ForkServer

ROUNDS = {
    "one branch": (200, "--writers 8 --commits 25 --kills 12 --stops 4"),
    "a branch each": (64, "--writers 32 --commits 2 --branches 32 --kills 8 --stops 2"),
    "beside collections": (96, "--writers 8 --commits 12 --collect --kills 8 --stops 3"),
}
"""How many commits, and what asks for them."""


@pytest.mark.parametrize("which", ROUNDS)
def test_nothing_is_lost_and_nothing_hangs(which: str, fork_server: ForkServer) -> None:
    count, words = ROUNDS[which]
    said = fork_server.run(writers.main, [*words.split(), "--pause", "0.5"])
    told = re.search(r"([\d,]+) commits by .*, (\d+) kills, .* ([\d,]+) packs collected", said)
    assert told is not None, said
    assert int(told[1].replace(",", "")) == count
    assert (int(told[3].replace(",", "")) > 0) == ("--collect" in words)


def test_what_is_lost_is_noticed(tmp_path: Path) -> None:
    writers.repos.make(tmp_path / "run")
    with pytest.raises(ViolationError, match="1 of 1 acknowledged commits are lost"):
        writers.judge(tmp_path / "run", ["0" * 64])
