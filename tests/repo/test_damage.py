"""Which commits need what is missing: shared chunks, differences and lost commits included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gradient.checkpoint import writer
from gradient.checkpoint.delta_bases import DeltaBases
from gradient.codec.mode import Mode
from gradient.errors import CorruptObjectError, CorruptPackError, MissingObjectError
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.damage import damaged_commits, naming_commits
from gradient.repo.repository import Repository
from tests.repo.making import TIME, make_repo


def commit(line: BranchWriter, step: int, state: dict[str, Any], base: Oid | None = None) -> Oid:
    """Commit a state, as differences from another commit where one is given."""
    repo = line.repo
    bases = None if base is None else DeltaBases(repo.store, repo.read_commit(base).tree)

    def build(branch: str, parent: Oid | None) -> Oid:
        with repo.store.begin(mode=Mode.AUTO) as transaction:
            body = CommitRecord(
                tree=writer.write_state(transaction, {"model": state}, delta_bases=bases),
                parents=() if parent is None else (parent,),
                anchor=base,
                step=step,
                branch=branch,
                time=TIME,
            )
            oid = transaction.put(Kind.COMMIT, body.to_bytes())
            transaction.seal()
        return oid

    return line.publish(step, build).commit


def pack_of(folder: Path, oid: Oid) -> Path:
    """Find the pack that has an object."""
    for path in (folder / ".gradient-repo/objects/pack").glob("*.pack"):
        if oid in path.read_bytes():
            return path
    raise AssertionError(oid)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "run")


def test_a_sound_repo_has_none(repo: Repository) -> None:
    line = BranchWriter.open(repo, "main")
    commit(line, 1, {"w": torch.randn(300)})
    commit(line, 2, {"w": torch.randn(300)})
    assert damaged_commits(repo) == []


def test_a_shared_chunk_takes_all_that_share_it(repo: Repository, tmp_path: Path) -> None:
    frozen = torch.randn(300)
    line = BranchWriter.open(repo, "main")
    commit(line, 1, {"w": torch.randn(300)})
    second = commit(line, 2, {"w": torch.randn(300), "base": frozen})
    commit(line, 3, {"w": torch.randn(300), "base": frozen})
    commit(line, 4, {"w": torch.randn(300)})
    pack_of(tmp_path / "run", second).unlink()
    found = damaged_commits(Repository.open(tmp_path / "run"))
    assert found == [f"main ({second.short})", "main@3"]


def test_what_is_a_difference_from_a_lost_chunk_is_lost(repo: Repository, tmp_path: Path) -> None:
    weights = torch.randn(100_000)
    line = BranchWriter.open(repo, "main")
    first = commit(line, 1, {"w": weights})
    commit(line, 2, {"w": weights * (1 + 1e-6)}, base=first)
    commit(line, 3, {"w": torch.randn(300)})
    pack_of(tmp_path / "run", first).unlink()
    found = damaged_commits(Repository.open(tmp_path / "run"))
    assert found == [f"main ({first.short})", "main@2"]


def test_an_object_that_can_not_be_read_counts_as_missing(repo: Repository) -> None:
    line = BranchWriter.open(repo, "main")
    first = commit(line, 1, {"w": torch.randn(300)})
    commit(line, 2, {"w": torch.randn(300)})
    assert damaged_commits(repo, {str(first)}) == [f"main ({first.short})"]
    tree = repo.read_commit(first).tree
    assert damaged_commits(repo, {str(tree)}) == ["main@1"]


def test_an_error_learns_the_commits_once(repo: Repository) -> None:
    tree = repo.read_commit(
        commit(BranchWriter.open(repo, "main"), 1, {"w": torch.randn(300)})
    ).tree
    with pytest.raises(CorruptPackError) as caught, naming_commits(repo):
        raise CorruptObjectError(str(tree), "its content has another hash", pack="ab")
    assert (caught.value.pack, caught.value.commits) == ("ab", ("main@1",))
    assert str(tree) in str(caught.value)
    with pytest.raises(CorruptPackError) as again, naming_commits(repo):
        raise caught.value
    assert again.value is caught.value
    with pytest.raises(MissingObjectError), naming_commits(repo):
        raise MissingObjectError("x")


def test_a_lost_pack_is_told_with_its_commits(repo: Repository, tmp_path: Path) -> None:
    line = BranchWriter.open(repo, "main")
    first = commit(line, 1, {"w": torch.randn(300)})
    second = commit(line, 2, {"w": torch.randn(300)})
    pack_of(tmp_path / "run", first).unlink()
    opened = Repository.open(tmp_path / "run")
    with pytest.raises(MissingObjectError) as caught, naming_commits(opened):
        opened.read_commit(first)
    assert caught.value.commits == (f"main ({first.short})",)
    assert opened.read_commit(second).step == 2
