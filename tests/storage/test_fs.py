from __future__ import annotations

import errno
import os
from typing import IO, TYPE_CHECKING

import pytest

from gradient.errors import GradientIOError
from gradient.storage import fs
from tests.storage.faults import Fault, counted, observed

if TYPE_CHECKING:
    from pathlib import Path


def test_an_error_names_operation_path_and_number(tmp_path: Path) -> None:
    path = str(tmp_path / "absent")
    with pytest.raises(GradientIOError, match=r"cannot open .*absent: No such file") as caught:
        fs.open_file(path)
    assert (caught.value.operation, caught.value.path) == ("open", path)
    assert caught.value.errno == errno.ENOENT
    assert fs.is_missing(caught.value)


def test_links_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(GradientIOError):
            fs.open_file(str(tmp_path / name))


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GradientIOError):
        fs.create(str(tmp_path / "link"))
    fs.replace_file(str(tmp_path / "link"), b"new")
    assert not (tmp_path / "link").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("count", [1, 3, 700])
def test_short_writes_are_continued(tmp_path: Path, count: int, persistent: bool) -> None:
    buffers = [bytes([n % 251]) * (n % 7) for n in range(count)]
    path = str(tmp_path / "a")
    fault = Fault(0, None, persistent=persistent)
    with observed(fault), fs.create(path) as file:
        assert file.write(*buffers) == sum(map(len, buffers))
    assert fault.hits or not any(buffers)
    assert fs.read_file(path) == b"".join(buffers)


def test_a_write_that_does_nothing_is_an_error(tmp_path: Path) -> None:
    with (
        observed(lambda call: 0 if call.operation == "write" else None),
        fs.create(str(tmp_path / "a")) as file,
        pytest.raises(GradientIOError, match="wrote nothing"),
    ):
        file.write(b"x")


@pytest.mark.parametrize("content", [b"", b"new", b"x" * (3 << 20)])
def test_a_file_is_replaced_by_bytes_or_by_a_writer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write(sink: IO[bytes]) -> None:
        for start in range(0, len(content), 1000):
            sink.write(content[start : start + 1000])

    fs.replace_file(str(path), write)
    assert path.read_bytes() == content
    fs.replace_file(str(path), content + b"!")
    assert path.read_bytes() == content + b"!"
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a"]


def test_a_view_is_replaced_without_a_sync_and_a_config_with(tmp_path: Path) -> None:
    with counted() as counts:
        fs.replace_file(str(tmp_path / "a"), b"x")
    assert counts["sync"] == counts["sync folder"] == 0
    with counted() as counts:
        fs.replace_file(str(tmp_path / "a"), b"x", durable=True)
    assert counts["sync"] == counts["sync folder"] == 1


@pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EROFS", "EACCES"])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_failed_replacement_leaves_the_old_file(
    tmp_path: Path, name: str, persistent: bool
) -> None:
    path = tmp_path / "a"
    for after in range(100):
        path.write_bytes(b"old")
        fault = Fault(after, getattr(errno, name), persistent=persistent)
        with observed(fault):
            try:
                fs.replace_file(str(path), b"new", durable=True)
            except GradientIOError as error:
                assert error.errno == getattr(errno, name)  # noqa: PT017 - or no error at all
                assert path.read_bytes() in (b"old", b"new")
            else:
                assert path.read_bytes() == b"new"
        if not fault.hits:
            break
    else:
        pytest.fail("it never came to an end")
    fs.replace_file(str(path), b"new", durable=True)
    assert path.read_bytes() == b"new"


def test_a_writers_own_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def write(sink: IO[bytes]) -> None:
        sink.write(b"half")
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fs.replace_file(str(path), write)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a"]
    assert path.read_bytes() == b"old"


def test_folders_are_created_durably(tmp_path: Path) -> None:
    synced: list[str] = []

    def note(call: fs.Call) -> None:
        if call.operation == "sync folder":
            synced.append(call.path)

    with observed(note):
        assert fs.make_folders(str(tmp_path / "a/b/c"), durable=True)
        assert not fs.make_folders(str(tmp_path / "a/b/c"), durable=True)
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a/b")]


def test_reading_is_bounded(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    fs.replace_file(path, b"12345")
    assert fs.read_file(path, limit=5) == b"12345"
    with pytest.raises(GradientIOError, match="at most 4"):
        fs.read_file(path, limit=4)


def test_queries(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    assert fs.size(path) is None
    assert not fs.exists(path)
    fs.replace_file(path, b"12345")
    assert (fs.exists(path), fs.is_file(path), fs.is_folder(path)) == (True, True, False)
    assert (fs.size(path), fs.size(str(tmp_path))) == (5, None)
    assert fs.is_folder(str(tmp_path))
    assert fs.free_bytes(path) > 0
    assert fs.remove(path)
    assert not fs.remove(path)


def test_a_file_system_that_cannot_sync_is_logged_once_per_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    fs.replace_file(str(tmp_path / "a"), b"x", durable=True)
    assert "cannot sync" in caplog.text
    assert fs.read_file(str(tmp_path / "a")) == b"x"


def test_an_unfinished_folder_is_removed_without_following_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    folder = tmp_path / "unfinished"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "link").symlink_to(tmp_path)
    (folder / "file").write_text("gone")
    fs.discard_folder(str(folder))
    assert not folder.exists()
    assert kept.read_text() == "kept"
    fs.discard_folder(str(folder))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_sync_that_fails_is_an_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with fs.create(str(tmp_path / "a")) as file, pytest.raises(GradientIOError) as error:
        file.sync()
    assert error.value.errno == number
    with pytest.raises(GradientIOError):
        fs.sync_folder(str(tmp_path))


@pytest.mark.parametrize(("number", "fails"), [(errno.EPERM, False), (errno.EIO, True)])
def test_move_renames_only_without_hard_links(
    number: int, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: str, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "a").write_bytes(b"x")
    if fails:
        with pytest.raises(GradientIOError):
            fs.move(str(tmp_path / "a"), str(tmp_path / "b"))
    else:
        fs.move(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "a").exists() == fails
    assert (tmp_path / "b").exists() != fails


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(GradientIOError):
        fs.make_folders(str(tmp_path / "a"))
    assert not fs.make_folders(str(tmp_path))
