"""Each step of a collection, one by one: what goes wrong without it."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from gradient.errors import (
    ForeignRepoError,
    GradientIOError,
    MalformedObjectError,
    MissingObjectError,
)
from gradient.maintenance import garbage_collection
from gradient.maintenance.garbage_collection import collect, undo
from gradient.maintenance.retention.forget import forget
from gradient.objects.oid import Kind, Oid
from gradient.repo import paths, ref_edits
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store import index_compaction, repack
from gradient.store.multi_pack_index import PackEntry
from gradient.store.object_store import ObjectStore
from gradient.store.pack import Pack
from tests.maintenance.moments import DAY, hooked
from tests.repo.making import make_repo
from tests.storage.faults import observed
from tools.campaigns.synthetic_repo import (
    commit,
    content,
    delete,
    go_on,
    packs_of,
    read_everything,
    trash_of,
)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """Two commits on main, one on a branch that is deleted; main needs a chunk of that one."""
    made = make_repo(tmp_path / "run")
    commit(go_on(made, "side"), 0, 0, 8)
    commit(go_on(made, "main"), 0, 8, 16)
    commit(go_on(made, "main"), 1, 24)
    delete(made, "side")
    return made


def garbage(repo: Repository) -> None:
    """Add a branch with two packs, and delete it."""
    commit(go_on(repo, "gone"), 0, 80, 88)
    commit(go_on(repo, "gone"), 1, 96)
    delete(repo, "gone")


def to_the_trash(repo: Repository) -> float:
    """Collect with a grace that is over; returns when that was."""
    now = time.time() + 2 * DAY
    collect(repo, grace=DAY, clock=lambda: now)
    assert trash_of(repo)
    return now


def test_a_repo_that_is_not_to_be_written_is_left(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage(repo)
    to_the_trash(repo)
    before = packs_of(repo), trash_of(repo)

    def refused(_: Repository) -> None:
        raise ForeignRepoError(repo.path, "it is somebody's")

    monkeypatch.setattr(Repository, "check_writable", refused)
    for attempt in (
        lambda: collect(repo, grace=0.0),
        lambda: undo(repo),
        lambda: forget(repo, Keep(last=1)),
    ):
        with pytest.raises(ForeignRepoError):
            attempt()
    assert (packs_of(repo), trash_of(repo)) == before


def test_a_rehearsal_counts_what_would_leave_the_trash(repo: Repository) -> None:
    garbage(repo)
    now = to_the_trash(repo)
    for when in (now + DAY - 5, now + DAY + 5):
        planned = collect(repo, grace=DAY, clock=lambda: when, dry_run=True)  # noqa: B023
        there = len(trash_of(repo)), sum(size for _, size in sizes(repo))
        assert (planned.in_trash, planned.in_trash_bytes) == there
        done = collect(repo, grace=DAY, clock=lambda: when)  # noqa: B023
        assert (done.removed, done.freed_bytes) == (planned.removed, planned.freed_bytes)
    assert done.removed == there[0] > 0


def sizes(repo: Repository) -> list[tuple[str, int]]:
    folder = Path(repo.path, ".gradient-repo/objects/trash")
    return [(path.name, path.stat().st_size) for path in folder.rglob("*.pack")]


def test_who_is_about_to_move_a_ref_is_waited_for_first(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its pack would go to the trash, and come back."""
    commit(go_on(repo, "late"), 0, 104)
    tip = repo.refs.read("late")
    assert tip is not None
    assert tip.commit is not None
    repo.refs.delete("late", after=tip, reason="test")
    lease = repo.leases.acquire()
    lease.cover("heads/late")

    def sleep(_: float) -> None:
        if lease._refs:
            repo.refs.append("late", tip.commit, after=None, reason="commit")
            lease.release()
            lease._refs.clear()

    monkeypatch.setattr(time, "sleep", sleep)
    done = collect(repo, grace=0.0, wait=60.0)
    assert (done.restored, done.waiting) == (0, 0)
    assert "late" in read_everything(repo.path)


def test_what_is_missing_ends_it_before_anything_is_moved(repo: Repository) -> None:
    garbage(repo)
    for pack in repo.store.catalogue.index.packs:
        if any(pack.row(n).oid == Oid.of(Kind.BLOB, content(8)) for n in range(len(pack.rows))):
            repo.storage.remove(pack.name)
    changed: list[str] = []

    def watch(call: fs.Call) -> None:
        if call.operation in ("link", "rename") and "objects" in call.target:
            changed.append(call.target)

    before = packs_of(repo)
    with observed(watch), pytest.raises(MissingObjectError):
        collect(repo, grace=0.0)
    assert packs_of(repo) == before
    assert changed == []


def test_a_ledger_that_lies_is_not_believed(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that main's own pack has the chunk for which another is kept."""
    page = index_compaction._entry
    wanted, other = (bytes(Oid.of(Kind.BLOB, content(n))) for n in (8, 24))

    def lying(catalogue: Any, pack: Pack) -> PackEntry | None:
        told = page(catalogue, pack)
        assert told is not None
        index = bytes(told.index).replace(other, wanted)
        return PackEntry(told.id, told.size, index, told.rows, told.commits)

    monkeypatch.setattr(index_compaction, "_entry", lying)
    store = ObjectStore(repo.storage, workers=1)
    store.refresh()
    index_compaction.compact(store.catalogue, repo.storage, min_packs=1)
    assert len(repo.storage.names("ledgers")) == 1
    collect(repo, grace=0.0)
    assert read_everything(repo.path) == {"main": [0, 1]}


@pytest.mark.parametrize(("long", "ledgers"), [(1, 1), (3, 0)])
def test_a_long_history_gets_a_ledger_of_its_new_packs(
    long: int, ledgers: int, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage_collection, "_LONG", long)
    assert collect(repo, grace=0.0).written == 1
    assert len(repo.storage.names("ledgers")) == ledgers
    for name in repo.storage.names("ledgers"):
        repo.storage.remove(f"ledgers/{name}")
    assert collect(repo, grace=0.0).written == 0
    assert repo.storage.names("ledgers") == [], "no pack is new"
    assert read_everything(repo.path) == {"main": [0, 1]}


def test_what_file_servers_and_desktops_leave_behind_is_passed_over(repo: Repository) -> None:
    left = (".DS_Store", ".nfs000000000000002a00000001", "Desktop~ini", "@eaDir")
    stores = ("", "objects", "objects/pack", "objects/trash", "tmp", "leases", "gc", "ledgers")
    for folder in (*stores, "refs", "refs/heads", "refs/heads/main", "refs/tags", "retention"):
        for name in left:
            Path(paths.inside(repo.path, folder), name).mkdir(parents=True)
    found = Repository.open(repo.path, workers=1)
    assert found.branches() == ["main"]
    done = forget(found, Keep(last=1), grace=0.0)
    assert (done.collected.commits, done.collected.in_trash) == (2, 0)
    assert Repository.open(repo.path).store.read(Oid.of(Kind.BLOB, content(24)), Kind.BLOB)
    (upper := Path(paths.inside(repo.path, "refs/heads/MAIN"))).mkdir()
    with pytest.raises(MalformedObjectError, match="MAIN is not the name of a ref"):
        collect(found, grace=0.0)
    upper.rmdir()
    assert not collect(found, grace=0.0).full


def test_where_nothing_goes_nothing_is_moved(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "run")
    commit(go_on(repo, "main"), 0, 8)
    done = collect(repo, grace=0.0)
    assert (done.full, done.trashed_bytes, trash_of(repo)) == (False, 0, [])


def test_what_could_not_be_moved_for_lack_of_room_is_said(repo: Repository) -> None:
    garbage(repo)
    links = 0

    def full(call: fs.Call) -> int | None:
        nonlocal links
        if call.operation == "link" and "trash" in call.target:
            links += 1
            if links > 1:
                raise OSError(errno.ENOSPC, "full")
        return None

    with observed(full):
        done = collect(repo, grace=0.0)
    assert done.full
    assert done.removed == 1
    assert not collect(repo, grace=0.0).full


def test_without_a_grace_all_of_the_trash_goes(repo: Repository) -> None:
    garbage(repo)
    now = to_the_trash(repo)
    trash = Path(repo.path, ".gradient-repo/objects/trash")
    there = len(trash_of(repo))
    for path in [*trash.iterdir()]:
        path.rename(trash / path.name.replace(path.name[:6], "nodate"))
    assert collect(repo, grace=DAY, clock=lambda: now + 9 * DAY).removed == 0
    assert collect(repo, grace=0.0, clock=lambda: 0.0).removed >= there
    assert trash_of(repo) == []


def test_a_trash_of_tomorrow_goes_without_a_grace(repo: Repository) -> None:
    garbage(repo)
    now = to_the_trash(repo)
    there = len(trash_of(repo))
    assert collect(repo, grace=DAY, clock=lambda: now - 9 * DAY).removed == 0
    assert collect(repo, grace=0.0, clock=lambda: now - 9 * DAY).removed >= there > 0


def test_a_pack_that_appears_meanwhile_is_left(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing leads to it yet, and who wrote it may be about to."""
    drain, new = garbage_collection.drain, []

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        if not new:
            before = set(packs_of(repo))
            commit(go_on(repo, "late"), 0, 112)
            delete(repo, "late")
            new.extend(set(packs_of(repo)) - before)
        return drain(*arguments, **options)

    monkeypatch.setattr(garbage_collection, "drain", meanwhile)
    collect(repo, grace=0.0)
    assert len(new) == 1
    assert new[0] in packs_of(repo)
    collect(repo, grace=0.0)
    assert new[0] not in packs_of(repo)


def test_the_folder_of_a_ref_that_was_to_begin_is_no_obstacle(repo: Repository) -> None:
    Path(repo.path, ".gradient-repo/refs/heads/begun").mkdir()
    assert collect(repo, grace=0.0).commits == 2


@pytest.mark.parametrize("recompress", [False, True])
@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_only_a_lack_of_room_is_gone_on_after(
    number: int,
    full: bool,
    recompress: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repo = make_repo(tmp_path / "run")
    commit(go_on(repo, "main"), 0, 8, 16)
    monkeypatch.setattr(repack, "MAX_SHARE", 2.0)
    monkeypatch.setattr(repack, "MANY", 99 if recompress else 1)

    def failing(call: fs.Call) -> int | None:
        if call.operation == "write" and len(b"".join(call.data)) > 4096:
            raise OSError(number, os.strerror(number))
        return None

    with observed(failing):
        if full:
            assert collect(repo, grace=0.0, recompress=recompress).full
        else:
            with pytest.raises(GradientIOError):
                collect(repo, grace=0.0, recompress=recompress)
    assert read_everything(repo.path) == {"main": [0]}


def test_nothing_is_recompressed_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = make_repo(tmp_path / "run")
    commit(go_on(repo, "main"), 0, 8, 16)
    monkeypatch.setattr(repack, "MAX_SHARE", 2.0)
    before = packs_of(repo)
    assert collect(repo, grace=0.0).recompressed == 0
    assert packs_of(repo) == before
    done = collect(repo, grace=0.0, recompress=True)  # the outcome is the same pack
    assert (done.recompressed, done.saved_bytes) == (1, 0)


def test_what_goes_is_not_recompressed(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    garbage(repo)
    monkeypatch.setattr(repack, "MAX_SHARE", 2.0)
    done = collect(repo, grace=0.0, recompress=True)
    assert (done.dead, done.rewritten) == (2, 1 + done.recompressed)
    assert done.recompressed == 2


def test_a_pack_may_leave_the_trash_while_it_is_weighed(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage(repo)
    now = to_the_trash(repo)
    size = DirectoryStorage.size

    def gone(self: DirectoryStorage, name: str) -> int | None:
        return None if "trash" in name else size(self, name)

    monkeypatch.setattr(DirectoryStorage, "size", gone)
    done = collect(repo, grace=DAY, clock=lambda: now)
    assert (done.in_trash, done.in_trash_bytes) == (0, 0)


def test_who_makes_a_branch_is_waited_for(repo: Repository) -> None:
    """Between the look at the commit and the move of the ref."""
    commit(go_on(repo, "gone"), 0, 80)
    tip = repo.tip("gone")
    assert tip is not None
    delete(repo, "gone")
    waiting: list[int] = []

    def meanwhile() -> None:
        done = collect(Repository.open(repo.path, workers=1), grace=0.0, wait=0.0)
        waiting.append(done.waiting)

    with hooked(repo, meanwhile):
        ref_edits.create_branch(repo, "back", tip)
    assert waiting == [1]
    collect(repo, grace=0.0)
    assert read_everything(repo.path) == {"main": [0, 1], "back": [0]}
