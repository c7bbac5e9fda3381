"""What each component takes: exact where all commits are looked at, near it where some are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from gradient.checkpoint import writer
from gradient.codec.mode import Mode
from gradient.maintenance import component_sizes
from gradient.maintenance.component_sizes import ComponentSize
from gradient.maintenance.logical_size import COMPONENTS, weigh
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs
from tests.repo.making import TIME, make_repo
from tests.storage.faults import observed
from tools.make_large_repository import make

if TYPE_CHECKING:
    from collections.abc import Mapping

FROZEN = 50_000
MOVING = 2_000


def commit(line: BranchWriter, step: int, state: Mapping[str, object]) -> Oid:
    def build(branch: str, parent: Oid | None) -> Oid:
        with line.repo.store.begin(mode=Mode.OFF) as transaction:
            tree = writer.write_state(transaction, state)
            parents = () if parent is None else (parent,)
            made = CommitRecord(
                tree=tree, parents=parents, anchor=None, step=step, branch=branch, time=TIME
            )
            oid = transaction.put(Kind.COMMIT, made.to_bytes())
            transaction.seal()
        return oid

    return line.publish(step, build).commit


@pytest.fixture
def adapted(tmp_path: Path) -> Repository:
    """Forty commits of a frozen base with a small part that moves, as fine-tuning has it."""
    repo = make_repo(tmp_path)
    line = BranchWriter.open(repo, "main")
    torch.manual_seed(1)
    frozen = torch.randn(FROZEN)
    for step in range(40):
        moving = torch.randn(MOVING)
        model = {"base.weight": frozen, "lora.weight": moving}
        moments = {"exp_avg": torch.randn(2 * MOVING)}
        commit(line, step, {"model": model, "optimizer": moments, "sampler": torch.randn(MOVING)})
    return repo


def measured(repo: Repository) -> tuple[dict[str, ComponentSize], int]:
    history = History(repo)
    weight = weigh(repo, history)
    found, looked = component_sizes.shares(repo, history, weight)
    assert [each.component for each in found] == list(COMPONENTS)
    assert sum(each.stored_bytes for each in found) == weight.stored_bytes
    assert sum(each.represented_bytes for each in found) == weight.represented_bytes
    assert all(
        each.saved_bytes == each.represented_bytes - each.stored_bytes >= -weight.stored_bytes
        for each in found
    )
    return {each.component: each for each in found}, looked


@pytest.mark.parametrize("most", [1000, 6, 1])
def test_a_frozen_base_counts_once(
    adapted: Repository, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(component_sizes, "MOST_COMMITS", most)
    found, looked = measured(adapted)
    assert looked == min(most, 40)
    assert found["model"].represented_bytes == 40 * 4 * (FROZEN + MOVING)
    if most > 1:  # a single commit cannot tell what the others share with it
        assert found["model"].stored_bytes == pytest.approx(4 * (FROZEN + 40 * MOVING), rel=0.05)
        assert found["optimizer"].stored_bytes == pytest.approx(40 * 4 * 2 * MOVING, rel=0.05)
        assert found["other"].stored_bytes == pytest.approx(40 * 4 * MOVING, rel=0.3)


def test_large_states_are_looked_at_less_often(
    adapted: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(component_sizes, "MOST_OBJECTS", 5)
    assert measured(adapted)[1] == 2


def test_of_a_very_large_state_some_chunks_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo(tmp_path)
    line = BranchWriter.open(repo, "main")
    torch.manual_seed(3)
    frozen = [torch.randn(64) for _ in range(400)]
    for step in range(6):
        model = {f"w.{number}": tensor for number, tensor in enumerate(frozen)}
        moments = {f"m.{number}": torch.randn(64) for number in range(400)}
        # Above what a tree takes in, so that each is a chunk.
        grown = {name: tensor.repeat(16) for name, tensor in model.items()}
        commit(
            line, step, {"model": grown, "optimizer": {n: t.repeat(16) for n, t in moments.items()}}
        )
    exact, _ = measured(repo)
    monkeypatch.setattr(component_sizes, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(component_sizes, "MOST_CHUNKS", 300)
    found, _ = measured(repo)
    counted = component_sizes._Count(repo.store, 300 / 800)
    counted.add(repo, repo.resolve("main").oid)
    assert 200 < len(counted.component) < 400
    for name in ("model", "optimizer"):
        assert found[name].stored_bytes == pytest.approx(exact[name].stored_bytes, rel=0.15)


def test_some_commits_tell_what_all_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "ws", commits=300, branches=3)
    repo = Repository.open(tmp_path / "ws" / "large")
    some, looked = measured(repo)
    assert looked == component_sizes.MOST_COMMITS
    monkeypatch.setattr(component_sizes, "MOST_COMMITS", 1000)
    all_, looked = measured(repo)
    assert looked == 300
    for name in COMPONENTS:
        assert some[name].stored_bytes == pytest.approx(all_[name].stored_bytes, rel=0.05)


def test_no_chunk_is_read(adapted: Repository) -> None:
    read = 0

    def count(call: fs.Call) -> None:
        nonlocal read
        read += call.operation == "open" and "/objects/pack/" in call.path

    repo = Repository.open(adapted.path)
    History(repo)
    with observed(count):
        measured(repo)
    assert read <= 40 * 4  # trees: the root, and one of each component


def test_what_is_not_there_counts_nothing(adapted: Repository) -> None:
    packs = Path(adapted.path, ".gradient-repo", "objects", "pack")
    adapted.store.compact_indexes()
    oldest = adapted.resolve("main@3").oid
    holder = adapted.store.catalogue.index.find(oldest)[0][0]
    (packs / f"{holder.id}.pack").chmod(0o644)
    raw = bytearray((packs / f"{holder.id}.pack").read_bytes())
    raw[24:60] = bytes(36)
    (packs / f"{holder.id}.pack").write_bytes(raw)
    found, looked = measured(Repository.open(adapted.path))
    assert looked > 1
    assert found["model"].stored_bytes > 4 * FROZEN
