"""A failed commit raises a typed error; the previous one is intact and the next one works."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gradient import (
    CorruptPackError,
    ForeignRepoError,
    FormatVersionError,
    GradientError,
    GradientIOError,
    IntegrityError,
    load,
)
from gradient.checkpoint.reader import read_state
from gradient.repo import failed_commits
from gradient.repo.repository import Repository
from gradient.storage import fs
from tests.engine.training_rig import Rig, assert_same, config, trained
from tests.storage.faults import Fault, observed


def calls_of_a_commit() -> list[str]:
    """Return the operations that a commit makes on the file system."""
    rig, engine = trained(1)
    rig.step()
    calls: list[str] = []
    with observed(lambda call: calls.append(call.operation)):
        engine.commit(2)
    shutil.rmtree("work")
    return calls


@pytest.mark.parametrize("view", ["off", "full"])
def test_a_commit_syncs_at_most_six_times_and_two_more_for_a_new_ref(view: str) -> None:
    rig = Rig()
    engine = rig.attach(config=config(view=view))
    for step, most in ((1, 8), (2, 6), (3, 6)):
        rig.step()
        calls: list[str] = []
        with observed(lambda call, calls=calls: calls.append(call.operation)):
            engine.commit(step)
        assert 0 < sum(call in ("sync", "sync folder") for call in calls) <= most


def test_a_disk_that_fails_at_any_call_of_a_commit_loses_nothing() -> None:
    calls = calls_of_a_commit()
    assert "sync" in calls
    rig, engine = trained(1)
    step = 1
    for number, operation in enumerate(calls):
        rig.step()
        step += 1
        state = rig.state()
        fault = Fault(number, errno.ENOSPC, persistent=True)
        with observed(fault), suppress(GradientIOError):
            engine.commit(step)
        repo = Repository.open("work/run")
        assert repo.branches() == ["main"], (number, operation)
        tip = repo.resolve("main").commit.step
        assert tip in (step - 1, step), (number, operation)
        engine.commit(step)
        repo = Repository.open("work/run")
        assert repo.resolve("main").commit.step == step
        stored = read_state(repo.store, repo.resolve("main").commit.tree)
        assert_same({name: stored[name] for name in state}, state)


@pytest.mark.parametrize("code", ["EIO", "EDQUOT", "EROFS", "EACCES"])
def test_one_failing_call_is_an_error_that_names_operation_and_path(code: str) -> None:
    rig, engine = trained(1)

    def fail(call: fs.Call) -> None:
        if call.operation == "sync":
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    with observed(fail), pytest.raises(GradientIOError, match="cannot sync") as caught:
        engine.commit(2)
    assert caught.value.errno == getattr(errno, code)
    assert ".gradient-repo" in caught.value.path
    rig.train(engine, 2)


def test_a_read_only_folder_can_be_read_and_not_committed_to() -> None:
    rig, engine = trained(1)
    state = rig.state()
    engine.close()
    changing = {"create", "write", "rename", "link", "remove", "make folder"}

    def read_only(call: fs.Call) -> None:
        if call.operation in changing:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    other = Rig()
    with observed(read_only):
        engine = other.attach(resume="main@1")
        assert_same(other.state(), state)
        with pytest.raises(GradientIOError, match="Read-only"):
            engine.commit(2)
    other.train(engine, 2)


def test_a_folder_without_permission_is_an_io_error() -> None:
    Path("work").mkdir(mode=0o500)
    try:
        if os.access("work", os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(GradientIOError):
            Rig().attach()
    finally:
        Path("work").chmod(0o700)


# -- Repos that are not ours to write -----------------------------------------------------------


def set_format(value: Any) -> None:
    path = Path("work/run/.gradient-repo/config.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    document.pop("format")
    path.write_text(json.dumps(document | ({} if value is None else {"format": value})))


@pytest.mark.parametrize(
    ("value", "error"),
    [(99, FormatVersionError), ("x", FormatVersionError), (None, ForeignRepoError)],
)
def test_a_newer_or_unknown_format_is_refused(value: Any, error: type[GradientError]) -> None:
    _, engine = trained(1)
    engine.close()
    set_format(value)
    with pytest.raises(error):
        Rig().attach(resume="auto")
    with pytest.raises(error):
        load("main", workspace="work", repo="run")


def test_a_repo_of_the_published_package_is_not_written_into() -> None:
    folder = Path("work/run")
    folder.mkdir(parents=True)
    (folder / "ckpt_main_s0.pt").write_bytes(b"PK\x03\x04 theirs PK\x05\x06" + bytes(18))
    before = sorted(map(str, folder.rglob("*")))
    with pytest.raises(ForeignRepoError, match="gradient import"):
        Rig().attach()
    assert sorted(map(str, folder.rglob("*"))) == before


# -- Damage -------------------------------------------------------------------------------------


def packs() -> list[Path]:
    found = Path("work/run/.gradient-repo/objects/pack").glob("*.pack")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink])
def test_a_damaged_pack_is_named_with_the_commits_it_affects(
    damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    rig, engine = trained(1)
    rig.train(engine, 2)
    engine.fork(from_ref="main@2", new_branch="exp")
    rig.train(engine, 3)
    engine.close()
    damaged = packs()[1]
    assert len(packs()) == 4
    damage(damaged)
    rig = Rig()
    engine = rig.attach("reader")
    before = rig.state()
    with pytest.raises(IntegrityError) as caught:
        engine.resume("main@2")
    if damage is not Path.unlink:
        assert isinstance(caught.value, CorruptPackError)
        assert caught.value.pack == damaged.stem
        assert {"exp@2"} <= set(caught.value.commits)
        assert not {"main@1", "exp@3"} & set(caught.value.commits)
        for commit in caught.value.commits:
            assert commit in str(caught.value)
        assert any(commit.startswith("main") for commit in caught.value.commits)
    assert_same(rig.state(), before)
    with pytest.raises(IntegrityError):
        load("exp@2", workspace="work", repo="run")
    caplog.clear()


def test_a_view_that_can_not_be_written_never_fails_a_commit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()
    engine = rig.attach(config=config(view="full"))
    rig.train(engine, 1)

    def full(call: fs.Call) -> None:
        if call.operation in ("create", "write") and ".gradient-repo" not in call.path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rig.step()
    with observed(full):
        revision = engine.commit(2)
    assert (revision, revision.path) == ("main@2", None)
    assert "The commit is safe" in caplog.text
    engine.commit(3)
    assert load("main@2", workspace="work", repo="run")["step"] == 2


@pytest.mark.parametrize("background", [False, True])
def test_a_commit_that_was_not_made_is_noted_until_the_next_one_is(background: bool) -> None:
    rig = Rig()
    engine = rig.attach(config=config(background=background))
    rig.train(engine, 1)
    engine.flush()

    def made(step: int) -> None:
        engine.commit(step)
        engine.flush()

    def full(call: fs.Call) -> None:
        if call.operation == "sync":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in (2, 3):
        with observed(full), pytest.raises(GradientIOError):
            made(step)
    [note] = failed_commits.noted("work/run")
    assert (note.branch, note.step, note.how) == ("main", 3, "failed")
    assert (note.failed, note.skipped) == (2, 0)
    assert "No space left" in note.reason
    made(4)
    assert failed_commits.noted("work/run") == []
