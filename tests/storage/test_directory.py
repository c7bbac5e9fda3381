from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from gradient.errors import GradientIOError
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from tests.storage.faults import Fault, counted, observed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_failed_sync_is_not_repeated_on_the_same_file(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    synced: list[str] = []

    def fail(call: fs.Call) -> None:
        if call.operation == "sync":
            synced.append(call.path)
            raise OSError(errno.EIO, "the disk is ill")

    with observed(fail):
        for _ in range(2):
            upload = storage.create()
            upload.write(b"x")
            with upload, pytest.raises(GradientIOError, match="ill"):
                upload.publish("a")
            with pytest.raises(GradientIOError, match="ill"):
                storage.put_if_absent("b", b"x")
    assert len(synced) == len(set(synced)) == 4
    assert storage.names("tmp") == []
    assert storage.size("a") is storage.size("b") is None


def test_a_lost_reply_to_a_link_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def repeat(source: str, target: str, *, follow_symlinks: bool) -> None:
        link(source, target, follow_symlinks=follow_symlinks)
        raise FileExistsError(errno.EEXIST, "the answer to a repeated request")

    monkeypatch.setattr(os, "link", repeat)
    assert DirectoryStorage(tmp_path).put_if_absent("a", b"mine")


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_without_hard_links_the_name_is_created_exclusively(tmp_path: Path, number: int) -> None:
    storage = DirectoryStorage(tmp_path)

    def refuse(call: fs.Call) -> None:
        if call.operation == "link":
            raise OSError(number, os.strerror(number))

    with observed(refuse):
        assert storage.put_if_absent("a", b"first")
        assert not storage.put_if_absent("a", b"second")
    assert storage.read("a") == b"first"
    assert storage.names("tmp") == []


def test_links_in_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    storage = DirectoryStorage(tmp_path / "repo")
    storage.prepare("objects/pack")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "repo/objects/pack/a").symlink_to(tmp_path / "secret")
    with pytest.raises(GradientIOError):
        storage.read("objects/pack/a")
    assert not storage.put_if_absent("objects/pack/a", b"x")
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_folders_are_settled_once_per_process(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    storage.prepare("refs/heads")
    with counted() as counts:
        storage.put_if_absent("refs/heads/main/1", b"x")
    assert (counts["sync"], counts["sync folder"]) == (1, 2)
    with counted() as counts:
        storage.put_if_absent("refs/heads/main/2", b"x")
    assert (counts["sync"], counts["sync folder"]) == (1, 1)
    # Another process may have made the folder without living to sync the one above.
    other = DirectoryStorage(tmp_path)
    with counted() as counts:
        other.put_if_absent("refs/heads/main/3", b"x")
    assert (counts["sync"], counts["sync folder"]) == (1, 2)


WRITES: dict[str, Callable[[DirectoryStorage], object]] = {
    "create": DirectoryStorage.create,
    "put_if_absent": lambda storage: storage.put_if_absent("refs/heads/main/1", b"x"),
    "put_derived": lambda storage: storage.put_derived("leases/a", b"x"),
    "prepare": lambda storage: storage.prepare("objects/pack"),
    "move_all": lambda storage: storage.move_all({"a": "trash/a"}),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_vanished_storage_is_not_created_again(
    write: Callable[[DirectoryStorage], object], tmp_path: Path
) -> None:
    storage = DirectoryStorage(tmp_path / "repo")
    with pytest.raises(GradientIOError, match="it is gone: moved, deleted") as caught:
        write(storage)
    assert caught.value.errno == errno.ENOENT
    assert not (tmp_path / "repo").exists()


def test_a_file_that_lost_bytes_is_not_published(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    upload = storage.create()
    upload.write(b"12345")
    (temporary,) = (tmp_path / "tmp").iterdir()
    temporary.chmod(0o600)
    os.truncate(temporary, 3)
    with upload, pytest.raises(GradientIOError, match="3 bytes arrived of 5"):
        upload.publish("a")
    assert storage.size("a") is None
    assert storage.names("tmp") == []


def test_files_are_read_only(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    storage.put_if_absent("a", b"x")
    assert (tmp_path / "a").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("persistent", [False, True])
def test_discarding_never_fails(tmp_path: Path, persistent: bool) -> None:
    storage = DirectoryStorage(tmp_path)
    for after in range(4):
        upload = storage.create()
        upload.write(b"x")
        with observed(Fault(after, errno.EIO, persistent=persistent)):
            upload.discard()
            upload.discard()


def refusing(number: int, operation: str, *, after: int = 0) -> fs.Observer:
    """Refuse these calls after the first few."""
    left = [after]

    def watch(call: fs.Call) -> None:
        if call.operation == operation:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(number, os.strerror(number))

    return watch


def filled(folder: Path) -> tuple[DirectoryStorage, dict[str, str]]:
    storage = DirectoryStorage(folder)
    for name in ("a/1", "a/2"):
        storage.put_if_absent(name, name.encode())
    return storage, {"a/1": "b/1", "a/2": "b/2"}


@pytest.mark.parametrize(
    ("number", "after", "moved"),
    [(errno.ENOSPC, 1, ["a/1"]), (errno.ENOSPC, 0, None), (errno.EIO, 1, None)],
)
def test_a_full_disk_moves_as_much_as_possible(
    number: int, after: int, moved: list[str] | None, tmp_path: Path
) -> None:
    storage, targets = filled(tmp_path)
    with observed(refusing(number, "link", after=after)):
        if moved is None:
            with pytest.raises(GradientIOError):
                storage.move_all(targets)
        else:
            assert storage.move_all(targets) == moved
    for name, target in targets.items():
        there = [storage.read(each) for each in (name, target) if storage.size(each) is not None]
        assert set(there) == {name.encode()}


def test_two_different_contents_both_stay(tmp_path: Path) -> None:
    storage, targets = filled(tmp_path)
    storage.put_if_absent("b/1", b"another, of another length")
    storage.put_if_absent("b/2", b"a/2")
    assert storage.move_all(targets) == ["a/2"]
    assert storage.read("a/1") == b"a/1"
    assert storage.read("b/1") == b"another, of another length"


def test_only_a_missing_folder_is_created(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    with observed(refusing(errno.EACCES, "create")), pytest.raises(GradientIOError):
        storage.create()
    assert not (tmp_path / "tmp").exists()
