"""What a collection keeps of commits that retention has let go of, and how it frees their bases."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradient.errors import MalformedObjectError, MissingObjectError
from gradient.maintenance.fsck.check import check
from gradient.maintenance.fsck.repair import repair
from gradient.maintenance.garbage_collection import collect
from gradient.maintenance.retention.forget import forget as forget_and_collect
from gradient.objects.oid import Kind, Oid
from gradient.repo import ref_edits
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from gradient.storage import fs
from tests.repo.making import make_repo
from tests.storage.faults import observed
from tools.campaigns.synthetic_repo import commit, content, go_on, packs_of


def made(folder: Path, *states: list[int], lean: bool = True) -> tuple[Repository, list[Oid]]:
    """Make commits of these chunks; all but the first as differences where `lean`."""
    repo = make_repo(folder / "run")
    line = go_on(repo, "main")
    return repo, [
        commit(line, step, *numbers, lean=lean and step > 0) for step, numbers in enumerate(states)
    ]


def forget(repo: Repository, *oids: Oid) -> None:
    repo.retention.append(oids, drop=None, policy="--keep-last 1")


def sound(repo: Repository) -> bool:
    report = check(repo.path, workers=1)
    return report.is_sound and not report.damaged


def has(repo: Repository, number: int) -> bool:
    return Oid.of(Kind.BLOB, content(number)) in Repository.open(repo.path, workers=1).store


def read(repo: Repository, number: int) -> bool:
    store = Repository.open(repo.path, workers=1).store
    return store.read(Oid.of(Kind.BLOB, content(number)), Kind.BLOB) == content(number)


def test_trees_and_chunks_of_forgotten_commits_go_and_commits_stay(tmp_path: Path) -> None:
    repo, oids = made(tmp_path, [0, 8], [16, 8], [24, 8], lean=False)
    forget(repo, oids[0], oids[1])
    planned = collect(repo, grace=0.0, dry_run=True)
    done = collect(repo, grace=0.0)
    assert done.commits == 3
    assert planned.saved_bytes == done.saved_bytes > 2 * 4096
    assert [has(repo, number) for number in (0, 16, 24, 8)] == [False, False, True, True]
    assert [oid for oid, _ in Repository.open(repo.path).line("main")] == oids[::-1]
    assert sound(repo)


def test_a_base_that_one_difference_needs_goes(tmp_path: Path) -> None:
    repo, oids = made(tmp_path, [0, 80], [1, 80])
    forget(repo, oids[0])
    planned = collect(repo, grace=0.0, dry_run=True)
    before = repo.store.stats().stored_bytes
    done = collect(repo, grace=0.0)
    after = Repository.open(repo.path).store.stats().stored_bytes
    assert not has(repo, 0)
    assert read(repo, 1)
    assert sound(repo)
    assert done.saved_bytes == before - after
    # To be exact it would have to encode: that is done once, not twice.
    assert abs(done.saved_bytes - planned.saved_bytes) < 600


def test_a_base_that_many_differences_need_stays(tmp_path: Path) -> None:
    repo, oids = made(tmp_path, [0], [1], [2], [3])
    forget(repo, oids[0])
    collect(repo, grace=0.0)
    assert has(repo, 0)
    assert all(read(repo, number) for number in (0, 1, 2, 3))
    assert sound(repo)
    forget(repo, oids[1], oids[2])
    collect(repo, grace=0.0)
    assert not has(repo, 0)
    assert read(repo, 3)
    assert sound(repo)


def test_a_difference_that_nobody_needs_does_not_outlive_its_base(tmp_path: Path) -> None:
    # Most of the second pack is of use, so that it would be left as it is.
    repo, oids = made(tmp_path, [0], [1, *range(80, 400, 8)], [*range(80, 400, 8)])
    forget(repo, oids[0], oids[1])
    collect(repo, grace=0.0)
    assert not has(repo, 0)
    assert not has(repo, 1)
    assert sound(repo)


def test_a_tag_keeps_a_forgotten_commit_whole(tmp_path: Path) -> None:
    repo, oids = made(tmp_path, [0, 8], [1, 16], [2, 24])
    ref_edits.create_tag(repo, "good", oids[1], reason="tag", force=False)
    forget(repo, *oids[:2])
    for _ in range(2):
        collect(repo, grace=0.0)
    assert [has(repo, number) for number in (8, 1, 16)] == [False, True, True]
    assert sound(repo)
    ref_edits.delete_tag(repo, "good")
    collect(repo, grace=0.0)
    assert [has(repo, number) for number in (1, 16, 2)] == [False, False, True]
    assert sound(repo)


def test_a_tag_that_is_made_between_the_two_marks_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, oids = made(tmp_path, [0, 8], [16, 24], lean=False)
    forget(repo, oids[0])
    other = Repository.open(repo.path, workers=1)
    tagged = []

    def tag(progress: str, _: int) -> None:
        # The commit is not marked whole, and its pack has not gone yet.
        if progress == "copying" and not tagged:
            tagged.append(True)
            ref_edits.create_tag(other, "good", oids[0], reason="tag", force=False)

    done = collect(repo, grace=0.0, progress=tag)
    assert tagged
    assert done.restored == 1
    assert read(repo, 0)
    assert read(repo, 8)
    assert sound(repo)


def test_a_damaged_record_ends_a_collection(tmp_path: Path) -> None:
    repo, oids = made(tmp_path, [0, 8], [16, 24])
    forget(repo, oids[0])
    (tmp_path / "run/.gradient-repo/retention" / f"{1:016d}").chmod(0o600)
    (tmp_path / "run/.gradient-repo/retention" / f"{1:016d}").write_bytes(b"half")
    packs = packs_of(repo)
    with pytest.raises(MalformedObjectError, match="retention/0000000000000001 is damaged"):
        collect(repo, grace=0.0)
    assert packs_of(repo) == packs


def test_a_record_that_was_moved_away_is_made_again_by_the_same_rules(tmp_path: Path) -> None:
    repo, oids = made(tmp_path, [0, 8], [16, 24], [32, 40], lean=False)
    forget_and_collect(repo, Keep(last=1), grace=0.0)
    record = tmp_path / "run/.gradient-repo/retention" / f"{1:016d}"
    record.chmod(0o600)
    record.write_bytes(b"half")
    repaired = repair(repo.path, workers=1)
    assert "object-missing" in {finding.id for finding in repaired.after.findings}
    with pytest.raises(MissingObjectError):
        collect(Repository.open(repo.path), grace=0.0)
    done = forget_and_collect(Repository.open(repo.path), Keep(last=1), grace=0.0)
    assert {entry.oid for entry in done.plan.leaving} == set(oids[:2])
    assert check(repo.path, workers=1).findings == ()


@contextmanager
def room_for(nbytes: int) -> Iterator[None]:
    """Let no file that is written be longer, as on a disk that has so much room."""
    sizes = Counter[str]()

    def full(call: fs.Call) -> None:
        if call.operation == "write":
            sizes[call.path] += sum(map(len, call.data))
            if sizes[call.path] > nbytes:
                raise OSError(errno.ENOSPC, "full")

    with observed(full):
        yield


def test_on_a_disk_with_little_room_most_of_it_is_freed_at_once(tmp_path: Path) -> None:
    # The last commit without its base does not fit; what is to be kept of the others does.
    states = [[number, *range(80 * number, 80 * number + 40, 8)] for number in range(1, 13)]
    repo, oids = made(tmp_path, *states)
    forget(repo, *oids[:-1])
    before = repo.store.stats().stored_bytes
    with room_for(16 << 10):
        done = collect(repo, grace=0.0)
    assert done.full
    assert done.freed_bytes > 0.8 * before
    assert sound(repo)
    assert all(read(repo, number) for number in states[-1])
    assert len(list(Repository.open(repo.path).line("main"))) == 12
    assert not collect(repo, grace=0.0).full
    assert sound(repo)


def test_what_is_said_to_be_saved_is(tmp_path: Path) -> None:
    repo, oids = made(tmp_path, [0, 80], [8, 80], [16, 88], [24, 96], lean=False)
    forget(repo, *oids[:2])
    planned = collect(repo, grace=0.0, dry_run=True)
    before = repo.store.stats().stored_bytes
    done = collect(repo, grace=0.0)
    after = Repository.open(repo.path).store.stats().stored_bytes
    assert planned.saved_bytes == done.saved_bytes == before - after > 0


def test_without_room_to_rewrite_bases_stay_and_what_is_dead_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo, oids = made(tmp_path, [0, 80], [1, 80], [88], [96])
    forget(repo, oids[0], oids[1], oids[2])
    ref_edits.create_tag(repo, "good", oids[1], reason="tag", force=False)
    with room_for(0):
        done = collect(repo, grace=0.0)
    assert done.full
    assert [each.message.split(":")[0] for each in caplog.records] == ["no room to rewrite packs"]
    assert all(read(repo, number) for number in (0, 1, 80, 96))
    assert sound(repo)
    again = collect(repo, grace=0.0)
    assert not again.full
    assert not has(repo, 0)
    assert read(repo, 1)
    assert sound(repo)
