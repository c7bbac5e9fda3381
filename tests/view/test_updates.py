from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradient.repo import ref_edits
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.foreign_files import Mark, read_mark
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.view import manifest, updates
from gradient.view.file_names import file_name
from gradient.view.updates import ViewUpdater, follow_refs
from tests.storage.faults import observed
from tests.view.making import captured, commit, make_repo, publish

if TYPE_CHECKING:
    from gradient.repo.config import ViewMode

FOREIGN = b"PK\x03\x04 another program's archive PK\x05\x06" + bytes(18)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


@pytest.fixture
def line(repo: Repository) -> BranchWriter:
    return BranchWriter.open(repo, "main")


STATE = {"model": {"w": torch.arange(4.0)}}


def kinds(repo: Repository) -> dict[str, Any]:
    """Return the kinds of all view files, and prove that each says which commit it is of."""
    found = {}
    for path in sorted(Path(repo.path).glob("ckpt_*")):
        mark = read_mark(str(path))
        found[path.name] = mark.kind if isinstance(mark, Mark) else mark
    return found


def commit_of(repo: Repository, name: str) -> str:
    mark = read_mark(str(Path(repo.path, name)))
    assert isinstance(mark, Mark)
    return str(mark.commit)


def listed(repo: Repository) -> dict[str, Any]:
    document = json.loads(Path(repo.path, "manifest.json").read_text(encoding="utf-8"))
    return {entry["ref"]: entry for entry in document["checkpoints"]}


@pytest.mark.parametrize(
    ("mode", "kind"), [("auto", "full"), ("full", "full"), ("thin", "thin"), ("off", None)]
)
def test_modes(repo: Repository, line: BranchWriter, mode: ViewMode, kind: str | None) -> None:
    path = commit(ViewUpdater(repo, mode), line, 100, STATE)

    expected = str(Path(repo.path, "ckpt_main_s100.pt")) if kind else None
    assert path == expected
    assert kinds(repo) == ({"ckpt_main_s100.pt": kind} if kind else {})
    assert listed(repo)["main@100"]["file"] == expected


def test_a_full_file_loads_plainly(repo: Repository, line: BranchWriter) -> None:
    state = captured(env={"n": 3})
    path = commit(ViewUpdater(repo, "full"), line, 5, state)

    found = torch.load(str(path))

    assert torch.equal(found["data"]["model"]["0.weight"], state["model"]["0.weight"])
    assert found["data"]["env"] == {"version": None, "state": {"n": 3}}
    assert found["anchor_path"] == path
    assert torch.load(str(path), mmap=True)["data"]["step"] == 5


def test_a_full_disk_leaves_a_thin_file(repo: Repository, line: BranchWriter) -> None:
    """The lack of room is met in the middle of the archive, where torch has its own error."""
    wide = captured(wide=torch.zeros(1 << 20))
    full: list[str] = []

    def fail_once(call: fs.Call) -> None:
        if call.operation == "write" and "ckpt_" in call.path and not full:
            full.append(call.path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with observed(fail_once):
        path = commit(ViewUpdater(repo, "auto"), line, 5, wide)

    assert full
    assert kinds(repo) == {"ckpt_main_s5.pt": "thin"}
    assert listed(repo)["main@5"]["file"] == path


def test_large_states_are_thin(
    repo: Repository, line: BranchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "MOST_STATE_BYTES", 15)

    commit(ViewUpdater(repo, "auto"), line, 0, STATE)

    assert kinds(repo) == {"ckpt_main_s0.pt": "thin"}


def test_the_oldest_full_files_turn_thin(
    repo: Repository, line: BranchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ViewUpdater(repo, "auto")
    commit(view, line, 0, STATE)
    size = Path(repo.path, "ckpt_main_s0.pt").stat().st_size
    monkeypatch.setattr(updates, "MOST_FULL_BYTES", size * 5 // 2)

    for step in (1, 2, 3):
        commit(view, line, step, STATE)

    assert list(kinds(repo).values()) == ["thin", "thin", "full", "full"]
    commit(ViewUpdater(repo, "auto"), line, 4, STATE)
    assert list(kinds(repo).values()) == ["thin", "thin", "thin", "full", "full"]
    assert torch.load(Path(repo.path, "ckpt_main_s0.pt"))["data"]["step"] == 0


def test_a_state_that_is_not_given_is_read(repo: Repository, line: BranchWriter) -> None:
    view = ViewUpdater(repo, "auto")

    path = view.add(publish(line, 3, captured(env=1)).commit)

    assert torch.load(str(path))["data"]["env"]["state"] == 1


def test_the_same_step_again(repo: Repository, line: BranchWriter) -> None:
    view = ViewUpdater(repo, "thin")
    commit(view, line, 5, STATE)
    commit(view, line, 5, STATE)

    assert commit_of(repo, "ckpt_main_s5.pt") == str(repo.tip("main"))
    assert listed(repo)["main@5"]["id"] == str(repo.tip("main"))


def test_the_same_step_again_without_files_leaves_no_stale_one(
    repo: Repository, line: BranchWriter
) -> None:
    commit(ViewUpdater(repo, "thin"), line, 5, STATE)
    commit(ViewUpdater(repo, "off"), line, 5, STATE)

    assert kinds(repo) == {}


def test_a_line_set_aside_takes_its_files_along(repo: Repository, line: BranchWriter) -> None:
    view = ViewUpdater(repo, "thin")
    ids = {step: publish(line, step, STATE).commit for step in (0, 10)}
    for oid in ids.values():
        view.add(oid, STATE)
    rewound = BranchWriter.open(repo, "main").moved_to(ids[0])

    commit(view, rewound, 10, STATE)

    assert list(kinds(repo)) == ["ckpt_main.old1_s10.pt", "ckpt_main_s0.pt", "ckpt_main_s10.pt"]
    assert commit_of(repo, "ckpt_main.old1_s10.pt") == str(ids[10])
    assert commit_of(repo, "ckpt_main_s10.pt") == str(repo.tip("main"))
    assert set(listed(repo)) == {"main@0", "main@10", "main.old1@10"}
    assert listed(repo)["main.old1@10"]["file"].endswith("ckpt_main.old1_s10.pt")


def test_a_line_set_aside_takes_its_files_along_when_it_is_deleted(
    repo: Repository, line: BranchWriter
) -> None:
    view = ViewUpdater(repo, "full")
    ids = [publish(line, step, STATE).commit for step in (0, 10)]
    for oid in ids:
        view.add(oid, STATE)
    commit(view, BranchWriter.open(repo, "main").moved_to(ids[0]), 20, STATE)
    old = Path(repo.path, "ckpt_main.old1_s10.pt")
    copy = old.with_name("ckpt_best_s10.pt")
    copy.write_bytes(old.read_bytes())

    ref_edits.delete_branch(repo, "main.old1")
    follow_refs(repo)

    names = [copy.name, "ckpt_main_s0.pt", "ckpt_main_s20.pt"]
    assert list(kinds(repo)) == names, "what somebody copied stays"


@pytest.mark.parametrize("mode", ["full", "thin", "off"])
def test_a_foreign_file_is_never_touched(
    repo: Repository, line: BranchWriter, mode: ViewMode, caplog: pytest.LogCaptureFixture
) -> None:
    view = ViewUpdater(repo, mode)
    theirs = Path(repo.path, "ckpt_main_s5.pt")
    theirs.write_bytes(FOREIGN)

    path = commit(view, line, 5, STATE)

    assert path is None
    assert theirs.read_bytes() == FOREIGN
    assert "was not written by this store" in caplog.text
    assert repo.tip("main") is not None


def test_a_damaged_file_of_ours_is_replaced(repo: Repository, line: BranchWriter) -> None:
    Path(repo.path, "ckpt_main_s5.pt").write_bytes(b"PK\x03\x04 cut")

    commit(ViewUpdater(repo, "thin"), line, 5, STATE)

    assert kinds(repo) == {"ckpt_main_s5.pt": "thin"}


def test_a_failing_view_fails_no_commit(
    repo: Repository,
    line: BranchWriter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    view = ViewUpdater(repo, "full")

    def fail(*_: Any) -> None:
        raise RuntimeError("torch is out of order")

    monkeypatch.setattr(torch, "save", fail)
    with caplog.at_level(logging.WARNING, "gradient"):
        path = commit(view, line, 5, STATE)

    assert path is None
    assert "torch is out of order" in caplog.text
    assert "gradient view rebuild" in caplog.text
    assert [each.name for each in Path(repo.path).iterdir() if "tmp" in each.name] == []
    assert listed(repo)["main@5"]["file"] is None


def test_an_essential_value_that_no_file_can_hold_gives_a_thin_one(
    repo: Repository, line: BranchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {**STATE, "scheduler": {"when": frozenset({frozenset({1})})}}

    commit(ViewUpdater(repo, "full"), line, 5, state)

    assert kinds(repo) == {"ckpt_main_s5.pt": "thin"}
    found = torch.load(Path(repo.path, "ckpt_main_s5.pt"))
    assert found["data"]["scheduler"] == state["scheduler"]


def test_what_killed_writers_left_is_removed_after_an_hour(repo: Repository) -> None:
    old, new = (Path(repo.path, f".ckpt_main_s5.pt.tmp-{letter * 32}") for letter in "ab")
    other = Path(repo.path, ".notes.tmp")
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, 0))

    ViewUpdater(repo, "auto")

    assert not old.exists()
    assert new.exists()
    assert other.exists()


# The manifest ---------------------------------------------------------------------------------


def test_the_manifest_is_there_from_the_start(repo: Repository) -> None:
    document = json.loads(Path(repo.path, "manifest.json").read_text(encoding="utf-8"))

    assert document == {
        "repo_name": "repo",
        "description": "",
        "created_at": repo.config.created_at,
        "checkpoints": [],
    }


def test_entries(repo: Repository, line: BranchWriter) -> None:
    path = commit(ViewUpdater(repo, "auto"), line, 5, STATE)

    (entry,) = listed(repo).values()

    assert entry == {
        "id": str(repo.tip("main")),
        "ref": "main@5",
        "step": 5,
        "branch": "main",
        "file": path,
        "type": "anchor",
        "anchor_ref": "main@5",
        "created_at": entry["created_at"],
        "message": "step 5",
        "metrics": {"loss": 0.5, "worst": None},
    }


def test_another_writers_commits_are_listed(repo: Repository, line: BranchWriter) -> None:
    first, second = ViewUpdater(repo, "off"), ViewUpdater(Repository.open(repo.path), "off")
    late = BranchWriter.open(second.repo, "main")
    commit(first, line, 5, STATE)
    commit(second, late, 6, STATE)
    commit(first, line, 7, STATE)

    assert set(listed(repo)) == {"main@5", "main.run2@6", "main@7"}


def test_entries_of_another_program_are_never_overwritten(
    repo: Repository, line: BranchWriter, caplog: pytest.LogCaptureFixture
) -> None:
    view = ViewUpdater(repo, "thin")
    path = Path(repo.path, "manifest.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["checkpoints"].append({"id": "0" * 32, "ref": "main@1", "step": 1})
    path.write_text(json.dumps(document), encoding="utf-8")

    commit(view, line, 5, STATE)

    assert json.loads(path.read_text(encoding="utf-8")) == document
    assert "did not write" in caplog.text


def test_a_large_manifest_is_written_now_and_then(
    repo: Repository, line: BranchWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "LARGE", 2)
    now = 0.0
    view = ViewUpdater(repo, "off")
    monkeypatch.setattr(manifest.time, "monotonic", lambda: now)
    commit(view, line, 0, STATE)
    commit(view, line, 1, STATE)
    assert len(listed(repo)) == 2

    now = manifest.INTERVAL - 1
    commit(view, line, 2, STATE)
    assert len(listed(repo)) == 2
    view.close()
    assert len(listed(repo)) == 3

    # One that takes long is written as seldom as to take a small share of the time.
    view._manifest._took, now = 1.0, now + manifest.INTERVAL + 1
    commit(view, line, 3, STATE)
    assert len(listed(repo)) == 3
    now += manifest.SHARE
    commit(view, line, 4, STATE)
    assert len(listed(repo)) == 5


# Moving ---------------------------------------------------------------------------------------


def test_opening_a_moved_repo_repairs_its_paths(repo: Repository, line: BranchWriter) -> None:
    commit(ViewUpdater(repo, "thin"), line, 5, STATE)
    moved = Path(repo.path).rename(Path(repo.path).with_name("moved"))

    ViewUpdater(Repository.open(moved), "thin")

    again = Repository.open(moved)
    assert listed(again)["main@5"]["file"] == str(moved / "ckpt_main_s5.pt")
    assert torch.load(moved / "ckpt_main_s5.pt")["data"]["step"] == 5


def test_opening_a_repo_in_place_writes_nothing(repo: Repository, line: BranchWriter) -> None:
    commit(ViewUpdater(repo, "thin"), line, 5, STATE)
    before = {path: path.stat().st_mtime_ns for path in Path(repo.path).rglob("*")}

    ViewUpdater(Repository.open(repo.path), "thin").close()

    assert {path: path.stat().st_mtime_ns for path in Path(repo.path).rglob("*")} == before


@pytest.mark.parametrize(
    ("branch", "name"),
    [
        ("main", "ckpt_main_s5.pt"),
        ("exp/a", "ckpt_exp%2Fa_s5.pt"),
        ("a%2Fb", "ckpt_a%252Fb_s5.pt"),
        ("Größe", "ckpt_Gr%C3%B6%C3%9Fe_s5.pt"),
        ("a_s1", "ckpt_a_s1_s5.pt"),
    ],
)
def test_names(branch: str, name: str) -> None:
    assert file_name(branch, 5) == name


def test_long_names_stay_apart() -> None:
    names = {file_name("ö" * 66 + end, (1 << 53) - 1) for end in "abc"}

    assert len(names) == 3
    assert all(len(name) < 255 for name in names)
