"""Many processes on one repo, killed, stopped, with wrong clocks: nothing is lost, nothing hangs.

Samples of `python -m tools.campaigns.writers`.
"""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools.campaigns import writers
from tools.campaigns.oracle import ViolationError

if TYPE_CHECKING:
    from tests.fork_server import ForkServer

ROUNDS = {
    "one branch": (200, "--writers 8 --commits 25 --kills 12 --stops 4"),
    "a branch each": (64, "--writers 32 --commits 2 --branches 32 --kills 8 --stops 2"),
    "beside collections": (96, "--writers 8 --commits 12 --collect --kills 8 --stops 3"),
}
"""The number of commits, and the command for each."""


@pytest.mark.parametrize("which", ROUNDS)
def test_nothing_is_lost_and_nothing_hangs(which: str, fork_server: ForkServer) -> None:
    count, words = ROUNDS[which]
    said = fork_server.run(writers.main, [*words.split(), "--pause", "0.5"])
    told = re.search(r"([\d,]+) commits by .*, (\d+) kills, .* ([\d,]+) packs collected", said)
    assert told is not None, said
    assert int(told[1].replace(",", "")) == count
    assert (int(told[3].replace(",", "")) > 0) == ("--collect" in words)


def test_what_is_lost_is_noticed(tmp_path: Path) -> None:
    writers.synthetic_repo.make(tmp_path / "run")
    with pytest.raises(ViolationError, match="1 of 1 acknowledged commits are lost"):
        writers.judge(tmp_path / "run", ["0" * 64])


def test_a_writer_that_is_stuck_says_where(fork_server: ForkServer, tmp_path: Path) -> None:
    said = fork_server.run(run_with_one_that_hangs, tmp_path)
    assert "writer 0 is stuck after " in said
    assert "in hang" in said


def run_with_one_that_hangs(folder: Path) -> None:
    """Make a writer wait forever at its third commit."""
    commit = writers.synthetic_repo.commit

    def hang(line: writers.BranchWriter, step: int, *numbers: int, lean: bool) -> object:
        while step == 3:
            signal.pause()
        return commit(line, step, *numbers, lean=lean)

    writers.synthetic_repo.commit = hang
    writers._HUNG = 8.0
    with pytest.raises(ViolationError) as caught:
        writers.run(folder, writers.Plan(1, 4, kills=0, stops=0))
    sys.stdout.write(str(caught.value))
