from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gradient.codec.mode import Mode
from gradient.errors import (
    ConflictError,
    CorruptObjectError,
    GradientIOError,
    IntegrityError,
    MalformedObjectError,
    MissingObjectError,
    StoreChangedError,
)
from gradient.maintenance import garbage_collection
from gradient.maintenance.garbage_collection import collect, undo
from gradient.objects.oid import Kind, Oid
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.store import repack
from gradient.store.leases import Leases
from gradient.store.transaction import Transaction
from tests.maintenance.moments import DAY, hooked
from tests.repo.making import make_repo
from tests.storage.faults import Fault, counted, observed
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
    """Three commits on main, two on a branch that is deleted; one chunk is in both."""
    repo = make_repo(tmp_path / "run")
    line = go_on(repo, "main")
    for step in range(3):
        commit(line, step, 0, 8 + step)
    side = BranchWriter.create(repo, "side").moved_to(repo.tip("main"))
    commit(side, 3, 0, 80)
    commit(side, 4, 88)
    delete(repo, "side")
    return repo


def test_what_nothing_leads_to_goes_through_the_trash(repo: Repository) -> None:
    before = read_everything(repo.path)
    done = collect(repo, grace=0.0, wait=0.0, clock=lambda: 0.0)

    assert (done.commits, done.packs, done.dead, done.rewritten) == (3, 5, 2, 0)
    assert (done.removed, done.in_trash, done.waiting) == (2, 0, 0)
    assert done.freed_bytes == done.trashed_bytes > 0
    assert len(packs_of(repo)) == 3
    assert read_everything(repo.path) == before
    assert Oid.of(Kind.BLOB, content(88)) not in Repository.open(repo.path).store
    again = collect(repo, grace=0.0)
    assert (again.dead, again.removed, again.packs) == (0, 0, 3)


def test_the_grace_keeps_what_refs_led_to_and_then_the_trash(repo: Repository) -> None:
    made = time.time()
    assert collect(repo).dead == 0, "the deleted branch is a moment old"
    later = collect(repo, clock=lambda: made + 8 * DAY)
    assert (later.dead, later.in_trash, later.removed) == (2, 2, 0)
    assert Oid.of(Kind.BLOB, content(88)) in Repository.open(repo.path).store
    assert collect(repo, clock=lambda: made + 14 * DAY).removed == 0
    assert collect(repo, clock=lambda: made + 16 * DAY).removed == 2
    assert trash_of(repo) == []


def test_undo(repo: Repository) -> None:
    packs = packs_of(repo)
    now = time.time()
    collect(repo, grace=DAY, clock=lambda: now + 2 * DAY)
    assert packs_of(repo) != packs
    assert undo(repo)[0] == 2
    assert packs_of(repo) == packs
    assert trash_of(repo) == []
    assert undo(repo) == (0, 0)


def test_a_rehearsal_changes_nothing_and_says_what_would_be(repo: Repository) -> None:
    changes: list[str] = []

    def watch(call: fs.Call) -> None:
        if call.operation not in ("open", "read", "list", "inspect", "close"):
            changes.append(call.operation)

    with observed(watch):
        planned = collect(repo, grace=0.0, dry_run=True)
    assert changes == []
    done = collect(repo, grace=0.0)
    for name in ("commits", "packs", "stored_bytes", "dead", "trashed_bytes", "saved_bytes"):
        assert getattr(planned, name) == getattr(done, name)


def test_readers_find_in_the_trash_what_came_there_while_they_read(repo: Repository) -> None:
    reader = Repository.open(repo.path, workers=1)
    blob = Oid.of(Kind.BLOB, content(88))
    assert blob in reader.store
    now = time.time()
    collect(repo, grace=DAY, clock=lambda: now + 2 * DAY)
    assert reader.store.read(blob, Kind.BLOB) == content(88)
    assert Repository.open(repo.path).store.read(blob, Kind.BLOB) == content(88)
    undo(repo)
    assert reader.store.read(blob, Kind.BLOB) == content(88)


def test_writers_do_not_rely_on_the_trash(repo: Repository) -> None:
    now = time.time()
    collect(repo, grace=DAY, clock=lambda: now + 2 * DAY)
    commit(go_on(repo, "main"), 5, 80, 88)
    for name in trash_of(repo):
        repo.storage.remove(f"objects/trash/{name}")
    assert read_everything(repo.path) == {"main": [0, 1, 2, 5]}


def test_one_that_another_overlaps_sweeps_nothing_of_its(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim of the first is not there: no room for it, or its machine's hour is over."""
    commit(go_on(repo, "late"), 0, 160)
    writer = Repository.open(repo.path, workers=1)
    waiting: list[int] = []
    sweep = garbage_collection._Collection._sweep

    def swept_late(first: garbage_collection._Collection, *arguments: Any) -> None:
        monkeypatch.setattr(garbage_collection._Collection, "_sweep", sweep)
        delete(repo, "late")

        def overlapped() -> None:
            for name in repo.storage.names("gc"):
                repo.storage.remove(f"gc/{name}")
            waiting.append(collect(Repository.open(repo.path), grace=0.0, wait=0.0).waiting)
            sweep(first, *arguments)

        with hooked(writer, overlapped):
            commit(go_on(writer, "main"), 5, 160)

    monkeypatch.setattr(garbage_collection._Collection, "_sweep", swept_late)
    assert collect(repo, grace=0.0, wait=0.0).removed == 2
    assert waiting == [1], "the second one trashed what the writer relied on"
    assert read_everything(repo.path) == {"main": [0, 1, 2, 5]}
    collect(repo, grace=0.0)
    assert read_everything(repo.path) == {"main": [0, 1, 2, 5]}


@pytest.mark.parametrize("recompress", [False, True])
def test_a_disk_that_reads_wrong_once_costs_nothing(
    recompress: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is copied is what was proved: the packs that it came from go."""
    read = fs.File.read_into
    left = 0

    def once_wrong(file: fs.File, offset: int, *outs: memoryview) -> int:
        nonlocal left
        done = read(file, offset, *outs)
        if "/objects/" in file.path:
            left -= 1
            if left == -1:
                outs[-1][outs[-1].nbytes // 2] ^= 1
        return done

    for number in itertools.count():
        repo = make_repo(tmp_path / str(number))
        commit(go_on(repo, "old"), 0, *range(0, 80, 8))
        commit(go_on(repo, "main"), 0, 0, 8)
        commit(go_on(repo, "main"), 1, 0, 3, lean=True)
        delete(repo, "old")
        left = number
        with monkeypatch.context() as patch, suppress(IntegrityError):
            patch.setattr(fs.File, "read_into", once_wrong)
            collect(Repository.open(repo.path, workers=1), grace=0.0, recompress=recompress)
        assert read_everything(repo.path) == {"main": [0, 1]}, f"at read {number}"
        if left >= 0:
            assert number > 20
            return


def test_packs_that_are_mostly_waste_are_rewritten(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "run")
    commit(go_on(repo, "old"), 0, *range(0, 160, 8))
    commit(go_on(repo, "main"), 0, 0, 8)
    delete(repo, "old")
    done = collect(repo, grace=0.0)
    assert (done.rewritten, done.written, done.removed) == (1, 1, 1)
    assert done.saved_bytes > 17 * 4096
    assert read_everything(repo.path) == {"main": [0]}
    assert Oid.of(Kind.BLOB, content(152)) not in Repository.open(repo.path).store


def test_many_small_packs_become_one(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "run")
    line = go_on(repo, "main")
    for step in range(repack.MANY):
        commit(line, step, 0, step + 1, lean=step > 0)
    reader = Repository.open(repo.path, workers=1)
    assert reader.tip("main") is not None
    done = collect(repo, grace=0.0)
    assert (done.rewritten, done.written) == (repack.MANY, 1)
    assert len(packs_of(repo)) == 1
    assert read_everything(repo.path) == {"main": [*range(repack.MANY)]}
    # Who had the old packs open by name goes on, reading and writing.
    assert [each.step for _, each in reader.line("main")] == [*range(repack.MANY)][::-1]
    commit(go_on(reader, "main"), 99, 0, 1)
    assert collect(repo, grace=0.0).rewritten == 0


def test_a_difference_keeps_what_it_is_a_difference_from(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "run")
    commit(go_on(repo, "anchor"), 0, *range(0, 80, 8))
    commit(go_on(repo, "main"), 1, *range(1, 81, 8), lean=True)
    flags = [pack.rows["flags"].sum() for pack in repo.store.catalogue.index.packs]
    assert sum(flags) > 0, "nothing was stored as a difference"
    delete(repo, "anchor")
    collect(repo, grace=0.0)
    assert read_everything(repo.path) == {"main": [1]}


def test_a_sound_copy_does_not_go_for_a_damaged_one(tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "run")
    commit(go_on(repo, "main"), 0, *range(0, 80, 8))
    other = make_repo(tmp_path / "other")
    commit(go_on(other, "main"), 0, 0)
    (small,) = packs_of(other)
    inside = tmp_path / "run" / ".gradient-repo" / "objects" / "pack"
    (large,) = inside.iterdir()
    shutil.copy(f"{other.path}/.gradient-repo/objects/pack/{small}", inside / small)
    raw = bytearray(large.read_bytes())
    place = raw.index(content(0)[100:200])
    raw[place] ^= 1
    large.chmod(0o644)
    large.write_bytes(raw)
    assert read_everything(repo.path) == {"main": [0]}
    with pytest.raises(CorruptObjectError):
        collect(repo, grace=0.0)
    assert read_everything(repo.path) == {"main": [0]}


@pytest.mark.parametrize("damage", [b"", b"torn", None])
def test_a_ref_that_cannot_be_read_ends_it(repo: Repository, damage: bytes | None) -> None:
    record = next(repo_file(repo, "refs/heads/main").iterdir())
    record.chmod(0o644)
    if damage is None:
        record.rename(record.with_name("0000000000000009"))
    else:
        record.write_bytes(damage)
    before = packs_of(repo)
    with pytest.raises(MalformedObjectError):
        collect(repo, grace=0.0)
    assert packs_of(repo) == before


def test_a_missing_object_ends_it(repo: Repository) -> None:
    for name in packs_of(repo):
        path = repo_file(repo, "objects/pack") / name
        if content(8) in path.read_bytes():
            path.unlink()
    before = packs_of(repo)
    with pytest.raises(MissingObjectError):
        collect(repo, grace=0.0)
    assert packs_of(repo) == before


def repo_file(repo: Repository, name: str) -> Path:
    return Path(repo.path, ".gradient-repo", name)


def test_one_at_a_time(repo: Repository) -> None:
    caught: list[str] = []

    def inside(what: str, _: int) -> None:
        if what == "marking" and not caught:
            with pytest.raises(ConflictError) as error:
                collect(repo, grace=0.0)
            caught.append(str(error.value))

    collect(repo, grace=0.0, progress=inside)
    assert len(caught) == 1
    assert repo.storage.names("gc") == []


def test_a_writer_in_the_middle_of_a_commit_keeps_the_trash(repo: Repository) -> None:
    """The counter-example of the model, with the real thing: found, then collected, then named."""
    line = go_on(repo, "main")
    sizes: list[int] = []

    def while_it_writes() -> None:
        done = collect(Repository.open(repo.path, workers=1), grace=0.0, wait=0.0)
        sizes.append(done.waiting)

    with hooked(repo, while_it_writes):
        commit(line, 5, 80, 88)
    assert sizes == [1]
    assert read_everything(repo.path) == {"main": [0, 1, 2, 5]}
    assert collect(repo, grace=0.0).waiting == 0
    assert read_everything(repo.path) == {"main": [0, 1, 2, 5]}


def test_without_a_lease_it_would_be_lost(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Leases, "held", lambda _: [])
    with hooked(repo, lambda: collect(Repository.open(repo.path), grace=0.0)):
        commit(go_on(repo, "main"), 5, 80, 88)
    with pytest.raises(MissingObjectError):
        read_everything(repo.path)


def test_a_forgotten_lease_is_fenced_and_its_writer_begins_again(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradient.store.process_id.ProcessId.runs", lambda _: None)
    runs: list[int] = []

    def much_later() -> None:
        if not runs:
            other = Repository.open(repo.path, workers=1)
            now = time.time() + DAY
            other.leases._clock = lambda: now
            done = collect(other, grace=0.0, clock=lambda: now)
            runs.append(done.waiting)

    with hooked(repo, much_later):
        commit(go_on(repo, "main"), 5, 80, 88)
    assert runs == [0]
    assert [record.kind for record in repo.refs.log("main")][-2:] == ["fence", "move"]
    assert read_everything(repo.path) == {"main": [0, 1, 2, 5]}
    assert repo.storage.names("leases") == []


def test_a_new_branch_is_fenced_too(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradient.store.process_id.ProcessId.runs", lambda _: None)
    runs: list[int] = []

    def much_later() -> None:
        if not runs:
            other = Repository.open(repo.path, workers=1)
            now = time.time() + DAY
            other.leases._clock = lambda: now
            runs.append(collect(other, grace=0.0, clock=lambda: now).waiting)

    with hooked(repo, much_later):
        commit(BranchWriter.create(repo, "new"), 5, 80, 88)
    assert runs == [0]
    assert [record.kind for record in repo.refs.log("new")] == ["delete", "move"]
    assert read_everything(repo.path) == {"main": [0, 1, 2], "new": [5]}


def test_a_run_whose_branch_was_deleted_and_collected_begins_anew(repo: Repository) -> None:
    line = go_on(repo, "lost")
    commit(line, 7, 160)
    delete(repo, "lost")
    collect(Repository.open(repo.path), grace=0.0)
    commit(line, 8, 160, 168)
    assert read_everything(repo.path) == {"main": [0, 1, 2], "lost": [8]}


def test_unfinished_files_go_when_they_are_old(repo: Repository) -> None:
    folder = repo_file(repo, "tmp")
    fresh, old, foreign = "0" * 32, "1" * 32, ".nfs000000000000002a00000001"
    for name in (fresh, old, foreign):
        (folder / name).write_bytes(b"x")
    for name in (old, foreign):
        os.utime(folder / name, (0, 0))
    collect(repo, grace=0.0)
    assert sorted(path.name for path in folder.iterdir()) == [foreign, fresh]


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EACCES"])
def test_any_call_may_fail(tmp_path: Path, name: str, persistent: bool) -> None:
    origin = make_repo(tmp_path / "origin")
    commit(go_on(origin, "old"), 0, *range(0, 48, 8))
    commit(go_on(origin, "main"), 0, 0, 8)
    commit(go_on(origin, "main"), 1, 1, lean=True)
    commit(go_on(origin, "gone"), 1, 80)
    delete(origin, "old")
    delete(origin, "gone")
    expected = read_everything(origin.path)
    number = int(getattr(errno, name))
    # A sample; every single call was tried as well: with a stride of 1, in a few minutes.
    start, stride = len(name) - 3, 23 if persistent else 7
    for after in itertools.count(start, stride):
        path = tmp_path / "copy"
        shutil.copytree(origin.path, path)
        fault = Fault(after, number, persistent=persistent)
        with observed(fault), suppress(GradientIOError):
            collect(Repository.open(path, workers=1), grace=0.0, wait=0.0)
        assert read_everything(path) == expected, after
        done = collect(Repository.open(path, workers=1), grace=0.0)
        assert done.waiting == 0
        assert read_everything(path) == expected, after
        assert len(packs_of(Repository.open(path))) == 3
        assert trash_of(Repository.open(path)) == []
        shutil.rmtree(path)
        if not fault.hits:
            break


def test_on_a_full_disk_it_frees_without_writing(repo: Repository) -> None:
    def full(call: fs.Call) -> int | None:
        if call.operation in ("create", "write", "make folder"):
            raise OSError(errno.ENOSPC, "full")
        return None

    with observed(full):
        done = collect(repo, grace=0.0)
    assert (done.dead, done.removed) == (2, 2)
    assert read_everything(repo.path) == {"main": [0, 1, 2]}


def test_a_commit_that_collections_disturb_again_and_again_relies_on_nothing(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_another() -> None:
        """Write, for no ref, what the commit needs."""
        store = Repository.open(repo.path, workers=1).store
        with store.begin(mode=Mode.OFF) as transaction:
            transaction.put(Kind.BLOB, content(160), width=4)
            seal(transaction)

    def seal_disturbed(transaction: Transaction) -> str | None:
        collect(Repository.open(repo.path, workers=1), grace=0.0, wait=0.0)
        try:
            return seal(transaction)
        except StoreChangedError:
            disturbed.append(transaction)
            by_another()
            raise

    seal, disturbed = Transaction.seal, list[Transaction]()
    monkeypatch.setattr(Transaction, "seal", seal_disturbed)
    by_another()
    commit(go_on(repo, "main"), 5, 0, 160)
    assert len(disturbed) == 4
    monkeypatch.undo()
    collect(repo, grace=0.0)
    assert read_everything(repo.path) == {"main": [0, 1, 2, 5]}
    assert Oid.of(Kind.BLOB, content(160)) in Repository.open(repo.path).store


def test_a_commit_pays_no_sync_for_its_lease(repo: Repository) -> None:
    line = go_on(repo, "main")
    commit(line, 5, 200)
    with counted() as counts:
        commit(line, 6, 208)
    assert counts["sync"] + counts["sync folder"] <= 4
    assert repo.storage.names("leases") == []
