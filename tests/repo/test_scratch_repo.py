from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gradient.checkpoint.reader import read_state, read_value
from gradient.checkpoint.writer import write_state, write_value
from gradient.codec.mode import Mode
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind
from gradient.repo.scratch_repo import make_scratch
from tests.repo.making import TIME, make_repo, run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_copy_has_the_same_state_and_no_past(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "gpt")
    (parent,) = run(repo, "main", 1)
    # One tensor of more than 64 chunks, which has a list; one that is stored in the tree.
    state = {"model": {"large": torch.randn(17 << 20), "small": torch.ones(3)}}
    with repo.store.begin(mode=Mode.AUTO) as transaction:
        tree = write_state(transaction, state)
        environment = write_value(transaction, {"torch": "x"}, name="environment")
        told = CommitRecord(tree, (parent,), parent, 5, "main", TIME, environment=environment)
        oid = transaction.put(Kind.COMMIT, told.to_bytes())
        transaction.seal()
    copied: list[int] = []
    folder = tmp_path / "scratch"
    scratch, made = make_scratch(repo, oid, "side", str(folder), progress=copied.append)
    assert scratch.path == str(folder / "gpt")
    assert sum(copied) == 68 << 20
    found = scratch.resolve("side@5")
    assert found.oid == made
    assert (found.commit.tree, found.commit.parents, found.commit.anchor) == (tree, (), None)
    again = read_state(scratch.store, tree)["model"]
    assert torch.equal(again["large"], state["model"]["large"])
    assert torch.equal(again["small"], state["model"]["small"])
    assert read_value(scratch.store, environment) == {"torch": "x"}
    assert [commit for commit, _ in scratch.line("side")] == [made]
