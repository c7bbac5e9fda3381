from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from gradient.errors import ForeignRepoError
from gradient.repo.branch_writer import BranchWriter
from gradient.view import rebuild, updates
from gradient.view.updates import ViewUpdater
from tests.view.making import commit, make_repo
from tests.view.test_updates import FOREIGN, STATE, kinds, listed

if TYPE_CHECKING:
    from gradient.repo.repository import Repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = make_repo(tmp_path / "repo")
    view, line = ViewUpdater(made, "full"), BranchWriter.open(made, "main")
    for step in (0, 1, 2, 3):
        commit(view, line, step, STATE)
    return made


def test_deleted_files_come_back(repo: Repository) -> None:
    before = kinds(repo)
    manifest = Path(repo.path, "manifest.json").read_bytes()
    for path in Path(repo.path).glob("*.*"):
        path.unlink() if path.is_file() else None
    told: list[tuple[int, int]] = []

    done = rebuild.rebuild(repo, progress=lambda *counts: told.append(counts))

    assert done.written == tuple(before)
    assert done.kept == 0
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert kinds(repo) == before
    assert Path(repo.path, "manifest.json").read_bytes() == manifest
    assert torch.load(Path(repo.path, "ckpt_main_s2.pt"))["data"]["step"] == 2


def test_what_is_there_is_kept(repo: Repository) -> None:
    Path(repo.path, "ckpt_main_s2.pt").write_bytes(b"")

    done = rebuild.rebuild(repo)

    assert done.written == ("ckpt_main_s2.pt",)
    assert done.kept == 3


def test_the_newest_are_full(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    size = Path(repo.path, "ckpt_main_s0.pt").stat().st_size
    for path in Path(repo.path).glob("*.pt"):
        path.unlink()
    monkeypatch.setattr(updates, "MOST_FULL_BYTES", size * 5 // 2)

    rebuild.rebuild(repo)

    assert list(kinds(repo).values()) == ["thin", "thin", "full", "full"]


def test_copies_under_other_names_stay(repo: Repository) -> None:
    original = Path(repo.path, "ckpt_main_s2.pt")
    for name in ("ckpt_best.pt", "ckpt_mine_s2.pt"):
        Path(repo.path, name).write_bytes(original.read_bytes())
    original.unlink()
    Path(repo.path, "ckpt_latest.pt").symlink_to("ckpt_main_s3.pt")

    done = rebuild.rebuild(repo)

    assert done.written == ("ckpt_main_s2.pt",)
    assert {"ckpt_best.pt", "ckpt_mine_s2.pt", "ckpt_latest.pt"} <= set(kinds(repo))
    assert listed(repo)["main@2"]["file"] == str(original)


def test_files_of_a_branch_that_is_gone_go(repo: Repository) -> None:
    tip = repo.refs.read("main")
    assert tip is not None
    repo.refs.delete("main", after=tip, reason="test")

    rebuild.rebuild(repo)

    assert kinds(repo) == {}


def test_nothing_is_written_beside_another_programs_files(repo: Repository) -> None:
    Path(repo.path, "ckpt_main_s9.pt").write_bytes(FOREIGN)
    Path(repo.path, "ckpt_main_s0.pt").unlink()

    with pytest.raises(ForeignRepoError, match="gradient import"):
        rebuild.rebuild(repo)

    assert not Path(repo.path, "ckpt_main_s0.pt").exists()


def test_without_files_only_the_manifest_is_written(repo: Repository) -> None:
    for path in Path(repo.path).glob("*.*"):
        path.unlink() if path.is_file() else None

    assert rebuild.rebuild(repo, mode="off").written == ()
    assert kinds(repo) == {}
    assert len(listed(repo)) == 4
