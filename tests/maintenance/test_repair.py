"""What is intact is saved, nothing is deleted, and no commit comes back or goes by itself."""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gradient.errors import ConflictError, FormatVersionError, GradientIOError
from gradient.maintenance.fsck import repair as repairing
from gradient.maintenance.fsck.check import check
from gradient.maintenance.fsck.repair import Repaired, _Repair, repair
from gradient.maintenance.garbage_collection import collect
from gradient.maintenance.lock import exclusive
from gradient.objects.oid import Kind, Oid
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.store import process_id
from gradient.store.leases import EXPIRY, Leases
from gradient.store.pack import trashed_name_of
from tests.maintenance import rig
from tests.maintenance.test_fsck import HEADS, INSIDE, config, first, newer, oids, payload
from tests.storage.faults import observed
from tools.campaigns.synthetic_repo import commit, go_on


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return rig.build(tmp_path)


def mend(root: Path) -> Repaired:
    return repair(str(root), workers=1)


def everything(root: Path) -> dict[bytes, int]:
    """Count the contents of all files."""
    found: dict[bytes, int] = {}
    for path in root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found[content] = found.get(content, 0) + 1
    return found


def test_a_sound_repo_is_left_alone(root: Path) -> None:
    before = everything(root)
    done = mend(root)
    assert done.actions == ()
    assert everything(root) == before


@pytest.mark.parametrize("cut", [1, 90, 100, 200])
def test_a_lost_index_costs_nothing(root: Path, cut: int) -> None:
    whole = rig.contents(root)
    path = first(root)
    damaged = path.read_bytes()[:-cut]
    rig.replace(path, damaged)
    done = mend(root)
    assert done.after.is_sound
    assert done.healed == ("main@1",)
    assert rig.contents(root) == whole
    assert (root / INSIDE / "lost+found/objects/pack" / path.name).read_bytes() == damaged


def test_one_bad_frame_costs_its_own_object_alone(root: Path) -> None:
    path, at = payload(root, 1)
    rig.alter(path, b"\xff", at)
    done = mend(root)
    assert done.healed == ()
    assert done.lost == ("main@1",)
    assert rig.words(done.after) == {"object-missing"}
    repo = Repository.open(root, workers=1)
    assert [commit.step for _, commit in repo.line("main")] == [3, 2, 1]


def test_swapped_packs_find_their_names_again(root: Path) -> None:
    whole = rig.contents(root)
    one, two, _ = rig.packs(root)
    contents = one.read_bytes(), two.read_bytes()
    rig.replace(one, contents[1])
    rig.replace(two, contents[0])
    done = mend(root)
    assert done.after.is_sound
    assert rig.contents(root) == whole
    assert (one.read_bytes(), two.read_bytes()) == contents


def held_at_its_record(call: fs.Call, reached: threading.Event, go: threading.Event) -> None:
    """Stand for a place without hard links, where a writer has created its record, empty."""
    if call.operation == "link":
        raise OSError(errno.EPERM, "no hard links")
    if call.operation == "write" and "/refs/heads/" in call.path:
        reached.set()
        assert go.wait(20)


@pytest.mark.parametrize("ends", [True, False])
def test_a_record_that_is_being_written_is_not_moved_aside(
    ends: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = Repository.open(root, workers=1)
    line = go_on(repo, "main")
    reached, go = threading.Event(), threading.Event()
    writer = threading.Thread(target=commit, args=(line, 4, 0))
    move = _Repair._move_records

    def later(self: _Repair) -> None:
        if ends:
            go.set()
        move(self)

    monkeypatch.setattr(_Repair, "_move_records", later)
    monkeypatch.setattr(repairing, "WAIT", 20.0 if ends else 0.0)
    with observed(lambda call: held_at_its_record(call, reached, go)):
        writer.start()
        assert reached.wait(20)
        done = mend(root)
        go.set()
        writer.join()
    assert "record-torn" in rig.words(done.before)
    assert [action.what for action in done.actions] == ([] if ends else ["failed"])
    assert [commit.step for _, commit in Repository.open(root).line("main")] == [4, 3, 2, 1]


def test_a_commit_begun_before_a_restart_is_waited_for_by_the_clock(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = root / HEADS / f"{4:016d}"
    torn.write_bytes(b"")
    repo = Repository.open(root)
    before = replace(process_id.current(), machine="0" * 16)
    monkeypatch.setattr(process_id, "current", lambda: before)
    repo.leases.acquire().cover("heads/main")
    monkeypatch.undo()
    monkeypatch.setattr(repairing, "WAIT", 0.0)
    done = mend(root)
    assert [action.what for action in done.actions] == ["failed"]
    assert "before it was restarted" in done.actions[0].detail
    assert torn.exists()
    now = time.time()
    monkeypatch.setattr(repairing, "Leases", partial(Leases, clock=lambda: now + EXPIRY + 2))
    done = mend(root)
    assert done.after.is_sound
    assert not torn.exists()


def test_swapped_records_find_their_places_again(root: Path) -> None:
    whole = rig.contents(root)
    one, two = root / HEADS / f"{2:016d}", root / HEADS / f"{3:016d}"
    contents = one.read_bytes(), two.read_bytes()
    rig.replace(one, contents[1])
    rig.replace(two, contents[0])
    done = mend(root)
    assert done.after.findings == ()
    assert (one.read_bytes(), two.read_bytes()) == contents
    assert rig.contents(root) == whole


def test_nothing_is_ever_removed(root: Path) -> None:
    for path in rig.packs(root):
        rig.replace(path, path.read_bytes()[:-30])
    rig.replace(root / HEADS / f"{2:016d}", b"{torn")
    rig.replace(root / INSIDE / "HEAD", b"..\n")
    rig.replace(root / INSIDE / "config.json", b"{torn too")
    before = everything(root)
    done = mend(root)
    after = everything(root)
    assert done.after.is_sound
    assert all(after.get(content, 0) >= count for content, count in before.items())


def test_no_ref_is_moved_and_no_stray_commit_comes_back(root: Path) -> None:
    stray = oids(root)[2]
    (root / HEADS / f"{3:016d}").unlink()
    (root / INSIDE / "refs/tags/best" / f"{1:016d}").unlink()
    path = rig.pack_of(root, stray)
    rig.replace(path, path.read_bytes()[:-1])
    done = mend(root)
    repo = Repository.open(root, workers=1)
    assert repo.tip("main") == oids(root)[1]
    assert "commit-unreachable" in rig.words(done.after)


def test_a_config_is_written_anew(root: Path) -> None:
    config(root, format=None)
    done = mend(root)
    assert done.after.is_sound
    assert Repository.open(root).config.name == "run"
    (root / INSIDE / "config.json").unlink()
    assert mend(root).after.is_sound


@pytest.mark.parametrize("damage", [newer, lambda root: config(root, format=99)])
def test_what_is_newer_is_not_touched(root: Path, damage: Callable[[Path], None]) -> None:
    damage(root)
    before = everything(root)
    with pytest.raises(FormatVersionError):
        mend(root)
    assert everything(root) == before


def test_a_full_disk_leaves_the_packs_where_they_were(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = first(root)
    rig.replace(path, path.read_bytes()[:-1])

    def full(call: fs.Call) -> None:
        if call.operation == "write":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(fs.calls, "observer", full)
    with pytest.raises(GradientIOError):
        mend(root)
    monkeypatch.setattr(fs.calls, "observer", None)
    assert path.exists()
    assert mend(root).after.is_sound


def test_a_repair_that_was_killed_is_repeated(root: Path) -> None:
    whole = rig.contents(root)
    path = first(root)
    rig.replace(path, path.read_bytes()[:-1])
    aside = root / INSIDE / "lost+found/objects/pack"
    aside.mkdir(parents=True)
    path.rename(aside / path.name)
    done = mend(root)
    assert done.after.is_sound
    assert rig.contents(root) == whole


def test_a_difference_is_saved_with_its_base_in_another_damaged_pack(root: Path) -> None:
    base = bytes(range(256)) * 2
    changed = base[:-1] + b"\0"
    repo = Repository.open(root, workers=1)
    rig.write_pack(root, (Kind.BLOB, base))
    line = BranchWriter.open(repo, "main").moved_to(repo.tip("main"))
    commit = line.publish(9, rig.builder(repo, 9, changed, base)).commit
    whole = rig.contents(root)
    for oid in (Oid.of(Kind.BLOB, base), commit):
        path = rig.pack_of(root, oid)
        rig.replace(path, path.read_bytes()[:-1])
    done = mend(root)
    assert done.after.is_sound
    assert rig.contents(root) == whole


def test_the_next_commit_of_a_lost_chunk_heals_the_old_one(root: Path) -> None:
    """What is moved aside does not count as there, so it is written again."""
    path, at = payload(root, 1)
    rig.alter(path, b"\xff", at)
    mend(root)
    rig.write_pack(root, (Kind.BLOB, bytes([1, 7]) * 150))
    assert check(root, workers=1).is_sound


def backup(root: Path, folder: Path) -> Path:
    """Copy the repo alone, out of its workspace."""
    shutil.copytree(root, folder)
    return folder


def lose(root: Path, number: int) -> None:
    """Lose a whole pack."""
    rig.packs(root)[number].unlink()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_is_lost_is_fetched_from_a_backup(root: Path, tmp_path: Path, number: int) -> None:
    whole = rig.contents(root)
    other = backup(root, tmp_path / "elsewhere")
    lose(root, number)
    before = everything(other)
    assert not mend(root).after.is_sound
    done = repair(str(root), sources=[str(other)], workers=1)
    assert done.after.is_sound
    assert [action.what for action in done.actions] == ["fetched"]
    assert rig.contents(root) == whole
    assert everything(other) == before


def test_what_is_lost_is_fetched_from_a_neighbour(root: Path) -> None:
    """As where a run was copied to try something."""
    whole = rig.contents(root)
    backup(root, root.parent / "copy")
    for number in (2, 0):
        lose(root, number)
    done = mend(root)
    assert done.after.is_sound
    assert done.lost == ()
    assert rig.contents(root) == whole


def test_what_is_lost_is_fetched_out_of_the_trash(root: Path) -> None:
    whole = rig.contents(root)
    path = first(root)
    trash = root / INSIDE / trashed_name_of("20260210t123456", path.stem)
    trash.parent.mkdir(exist_ok=True)
    path.rename(trash)
    assert "object-missing" in rig.look(root)
    done = mend(root)
    assert done.after.is_sound
    assert rig.contents(root) == whole


def test_a_damaged_backup_gives_what_is_intact_in_it(root: Path, tmp_path: Path) -> None:
    """Nothing is believed: what does not have the hash that it is named by is not taken."""
    path, at = payload(root, 1)
    other = backup(root, tmp_path / "elsewhere")
    rig.alter(other / path.relative_to(root), b"\xfe", at)
    path.unlink()
    done = repair(str(root), sources=[str(other)], workers=1)
    assert rig.words(done.after) == {"object-missing"}
    assert done.lost == ("main@1",)
    repo = Repository.open(root, workers=1)
    assert [commit.step for _, commit in repo.line("main")] == [3, 2, 1]


def test_a_difference_whose_base_is_lost_is_fetched_whole(root: Path, tmp_path: Path) -> None:
    base = bytes(range(256)) * 2
    changed = base[:-1] + b"\0"
    repo = Repository.open(root, workers=1)
    pack = rig.write_pack(root, (Kind.BLOB, base))
    line = BranchWriter.open(repo, "main").moved_to(repo.tip("main"))
    line.publish(9, rig.builder(repo, 9, changed, base))
    whole = rig.contents(root)
    other = backup(root, tmp_path / "elsewhere")
    (root / INSIDE / f"objects/pack/{pack}.pack").unlink()
    done = repair(str(root), sources=[str(other)], workers=1)
    assert done.after.is_sound
    assert rig.contents(root) == whole


def test_only_one_collection_or_repair_is_at_work(root: Path) -> None:
    path, at = payload(root, 1)
    rig.alter(path, b"\xff", at)
    before = everything(root)
    repo = Repository.open(root, workers=1)
    with exclusive(repo.storage), pytest.raises(ConflictError):
        mend(root)
    assert everything(root) == before
    refused: list[str] = []

    def meanwhile(*_: object) -> None:
        try:
            collect(repo, grace=0)
        except ConflictError as error:
            refused.append(str(error))

    repair(str(root), workers=1, progress=meanwhile)
    assert refused
    assert all("repair" in text for text in refused)
