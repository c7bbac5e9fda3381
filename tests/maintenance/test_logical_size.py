from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradient.checkpoint import writer
from gradient.codec.mode import Mode
from gradient.maintenance.logical_size import LogicalSize, state_bytes, weigh
from gradient.repo.history import History
from tests.repo.making import fork, make_repo, run

if TYPE_CHECKING:
    from pathlib import Path


def test_the_bytes_of_a_state(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    tied = torch.zeros(1000)
    state = {
        "model": {"a.w": torch.zeros(500), "b.w": tied, "c.w": tied, "a.b": torch.zeros(3)},
        "env": {"tree": "no id", "nbytes": 7, "data": b"x" * 600, "list": [torch.zeros(2)]},
        "deep": [[{"t": torch.zeros(100)}]],
    }
    with repo.store.begin(mode=Mode.AUTO) as transaction:
        root = writer.write_state(transaction, state)
        transaction.seal()
    expected = 4 * (500 + 1000 + 3 + 2 + 100) + 600
    assert state_bytes(repo.store, root) == expected
    assert state_bytes(repo.store, root, known := {}) == expected
    assert known[root] == expected


def test_counts(tmp_path: Path) -> None:
    repo = make_repo(tmp_path)
    oids = run(repo, "main", 1, 2, 3)
    fork(repo, oids[1], "side")
    found = weigh(repo, History(repo))
    assert (found.commits, found.anchors, found.deltas, found.packs) == (4, 4, 0, 4)
    assert found.stored_bytes > 0
    assert found.represented_bytes == 0


def test_commits_within() -> None:
    assert LogicalSize(5, 4, 1, 4, 4000, 0).commits_within(10_500) == 10
    assert LogicalSize(5, 4, 1, 4, 1, 0).commits_within(10) == 10
    assert LogicalSize(0, 0, 0, 0, 0, 0).commits_within(10) is None
