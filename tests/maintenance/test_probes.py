"""Each probe tells a good place from one that breaks its promise, and nothing is left behind."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from gradient.maintenance.doctor import link_race, probes
from gradient.maintenance.doctor.probes import Probe, examine
from gradient.maintenance.logical_size import weigh
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.storage import fs
from tests.maintenance import rig
from tests.maintenance.test_fsck import DAMAGE


def verdicts(path: Path) -> dict[str, str]:
    return {probe.name: probe.verdict for probe in examine(path)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fs, "mount_type", lambda path: "ext4")
    monkeypatch.setattr(fs, "free_bytes", lambda path: 1 << 40)
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def test_a_good_place(place: Path) -> None:
    found = verdicts(place)
    assert set(found.values()) == {"ok"}
    assert set(found) >= {"link", "rename", "sync", "lock", "clock", "file-system", "room"}
    assert list(place.iterdir()) == []


def test_a_place_that_may_not_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "make folder", errno.EROFS)
    found = verdicts(place)
    assert found["writable"] == "failed"
    assert "link" not in found


def refuse(monkeypatch: pytest.MonkeyPatch, operation: str, number: int) -> None:
    def observe(call: fs.Call) -> None:
        if call.operation == operation:
            raise OSError(number, "refused")

    monkeypatch.setattr(fs.calls, "observer", observe)


@pytest.mark.parametrize(
    ("operation", "probe", "verdict"),
    [("link", "link", "note"), ("sync folder", "sync", "failed"), ("rename", "rename", "failed")],
)
def test_what_the_system_refuses(
    operation: str, probe: str, verdict: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, operation, errno.EPERM)
    assert verdicts(place)[probe] == verdict
    assert list(place.iterdir()) == []


def test_links_that_are_not_exclusive(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def win(folder: str, party: str, rounds: int) -> int:
        return rounds

    monkeypatch.setattr(probes, "ROUNDS", 0)  # for the other one, which would wait
    monkeypatch.setattr(link_race, "contend", win)
    monkeypatch.setattr(link_race, "result", lambda *_: 7)
    assert verdicts(place)["link"] == "failed"


def test_locks_that_keep_nobody_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs, "try_lock", lambda file: True)
    assert verdicts(place)["lock"] == "note"


@pytest.mark.parametrize(
    ("kind", "verdict"), [("nfs4", "note"), ("tmpfs", "warning"), (None, "note"), ("xfs", "ok")]
)
def test_kinds_of_file_systems(
    kind: str | None, verdict: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fs, "mount_type", lambda path: kind)
    assert verdicts(place)["file-system"] == verdict


@pytest.mark.parametrize(("name", "value"), [("free_bytes", 1 << 20), ("free_files", 10)])
def test_little_room(name: str, value: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs, name, lambda path: value)
    assert verdicts(place)["room"] == "warning"


def test_how_many_commits_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = rig.build(tmp_path)
    repo = Repository.open(root)
    mean = weigh(repo, History(repo)).mean_bytes
    assert mean is not None
    for count, verdict in ((9, "warning"), (1_000_000_000, "ok")):
        monkeypatch.setattr(fs, "free_bytes", lambda path, count=count: count * mean)
        (room,) = [probe for probe in examine(root) if probe.name == "room"]
        assert (
            f": about {count:,} more commits, at {mean / (1 << 20):,.2f} MiB each" in room.message
        )
        assert room.verdict == verdict
    DAMAGE["pack-cut"](root)
    (room,) = [probe for probe in examine(root) if probe.name == "room"]
    assert "commits" not in room.message


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ({stat.S_IFREG}, "no way to sync a file"),
        ({stat.S_IFDIR}, "no way to sync a folder"),
        ({stat.S_IFREG, stat.S_IFDIR}, "no way to sync a file and a folder"),
    ],
)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_can_not_sync(
    kinds: set[int], said: str, number: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(fd: int) -> None:
        if stat.S_IFMT(os.fstat(fd).st_mode) in kinds:
            raise OSError(number, "not here")

    monkeypatch.setattr(os, "fsync", fsync)
    (found,) = [probe for probe in examine(place) if probe.name == "sync"]
    assert found.verdict == "warning"
    assert found.message.endswith(said)
    assert found.remedy


def test_a_clock_that_is_off(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes.time, "time", lambda: 0.0)
    assert verdicts(place)["clock"] == "note"


def test_the_repo_in_it(tmp_path: Path) -> None:
    root = rig.build(tmp_path)
    assert verdicts(root)["repo"] == "ok"
    DAMAGE["pack-cut"](root)
    assert verdicts(root)["repo"] == "failed"


def test_the_mount_table_is_understood(tmp_path: Path) -> None:
    kind = fs.mount_type(str(tmp_path))
    assert kind is None or kind == kind.strip() != ""


def test_each_name_goes_to_one_of_two(tmp_path: Path) -> None:
    other = threading.Thread(target=link_race.contend, args=(str(tmp_path), "other", 50))
    other.start()
    own = link_race.contend(str(tmp_path), "own", 50)
    other.join()
    theirs = link_race.result(str(tmp_path), "other")
    assert own is not None
    assert theirs is not None
    assert own + theirs == 50
    assert own == link_race.result(str(tmp_path), "own")


def test_none_is_given_to_one_that_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_race, "_PATIENCE", 0.05)
    assert link_race.contend(str(tmp_path), "own", 5) is None
    assert not (tmp_path / "name-0").exists()


def test_a_probe_that_fails_says_what_to_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "create", errno.EIO)
    failed = [probe for probe in examine(place) if probe.verdict == "failed"]
    assert failed
    assert all(probe.remedy for probe in failed)
    assert all(isinstance(probe, Probe) for probe in failed)
