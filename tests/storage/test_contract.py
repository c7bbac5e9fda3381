"""The contract of every storage."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

import pytest

from gradient.errors import GradientIOError, InvalidNameError
from gradient.storage.directory import DirectoryStorage
from gradient.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from pathlib import Path

    from gradient.storage.base import Storage

ESCAPES = [
    "", ".", "..", "../a", "a/../b", "/a", "a/", "a//b", "a\\b", "a\0b", "A", "a/.b", "a b", "ä",
    "a\n", "~", "a:b",
]  # fmt: skip


@pytest.fixture(params=["directory", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return DirectoryStorage(tmp_path)
    return MemoryStorage()


def put(storage: Storage, name: str, content: bytes) -> None:
    with storage.create() as upload:
        upload.write(content)
        upload.publish(name)


def test_uploaded_content_is_read(storage: Storage) -> None:
    with storage.create() as upload:
        upload.write(b"one ", bytearray(b"two "), memoryview(b"three"))
        upload.write()
        upload.write(b"", b" four")
        assert upload.size == 18
        upload.publish("objects/pack/a.pack")
    assert storage.read("objects/pack/a.pack") == b"one two three four"
    assert storage.size("objects/pack/a.pack") == 18
    assert storage.names("objects/pack") == ["a.pack"]
    assert storage.names("objects") == ["pack"]


@pytest.mark.parametrize(
    ("offset", "size", "found"),
    [(0, 3, b"abc"), (2, 2, b"cd"), (4, 9, b"ef"), (6, 1, b""), (9, 1, b""), (3, None, b"def")],
)
def test_a_part_is_read(storage: Storage, offset: int, size: int | None, found: bytes) -> None:
    put(storage, "a", b"abcdef")
    assert storage.read("a", offset=offset, size=size) == found
    out = bytearray(6 if size is None else size)
    assert storage.read_into("a", offset, memoryview(out)) == len(found)
    assert bytes(out[: len(found)]) == found


def test_several_buffers_are_filled_in_turn(storage: Storage) -> None:
    put(storage, "a", bytes(range(100)))
    first, second, none = bytearray(10), bytearray(200), bytearray()
    with storage.open("a") as reader:
        assert reader.size == 100
        assert reader.read_into(5, memoryview(first), memoryview(none), memoryview(second)) == 95
    assert bytes(first) + bytes(second[:85]) == bytes(range(5, 100))


def test_an_upload_without_publish_leaves_nothing(storage: Storage) -> None:
    with storage.create() as upload:
        upload.write(b"lost")
    upload.discard()
    assert storage.names("objects/pack") == []
    assert storage.names("tmp") == []


def test_publishing_replaces(storage: Storage) -> None:
    put(storage, "a", b"damaged")
    put(storage, "a", b"whole again")
    assert storage.read("a") == b"whole again"


def test_only_the_first_put_counts(storage: Storage) -> None:
    assert storage.put_if_absent("refs/heads/main/1", b"first")
    assert not storage.put_if_absent("refs/heads/main/1", b"second")
    assert storage.read("refs/heads/main/1") == b"first"
    assert storage.names("refs/heads/main") == ["1"]
    assert storage.names("tmp") == []


def test_only_one_of_many_threads_puts(storage: Storage) -> None:
    won: list[int] = []

    def put_mine(number: int) -> None:
        if storage.put_if_absent("a/1", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=put_mine, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("a/1") == b"%d" % won[0]


def test_an_absent_name_is_a_value_or_an_error_with_its_number(storage: Storage) -> None:
    assert storage.names("nowhere") == []
    assert storage.size("nowhere/a") is None
    storage.remove("nowhere/a")
    for attempt in (storage.open, storage.read):
        with pytest.raises(GradientIOError) as caught:
            attempt("nowhere/a")
        assert caught.value.errno == errno.ENOENT


def test_a_removed_name_is_gone(storage: Storage) -> None:
    put(storage, "a/b", b"x")
    storage.remove("a/b")
    storage.remove("a/b")
    assert storage.size("a/b") is None
    assert storage.put_if_absent("a/b", b"y")


def test_derived_content_replaces_existing_content(storage: Storage) -> None:
    storage.put_derived("ledgers/a", b"one ", bytearray(b"two"))
    assert storage.read("ledgers/a") == b"one two"
    storage.put_derived("ledgers/a", memoryview(b"three"))
    assert storage.read("ledgers/a") == b"three"
    assert storage.names("ledgers") == ["a"]


def test_prepared_folders_are_empty_folders(storage: Storage) -> None:
    storage.prepare("objects/pack", "refs/heads")
    storage.prepare("objects/pack")
    assert storage.names("objects/pack") == []


@pytest.mark.parametrize("name", ESCAPES)
def test_names_stay_inside(storage: Storage, name: str) -> None:
    for attempt in (storage.open, storage.size, storage.names, storage.remove, storage.sync):
        with pytest.raises(InvalidNameError):
            attempt(name)
    with pytest.raises(InvalidNameError):
        storage.put_if_absent(name, b"")
    with pytest.raises(InvalidNameError):
        storage.put_derived(name, b"")
    with storage.create() as upload, pytest.raises(InvalidNameError):
        upload.publish(name)


def test_contents_are_moved(storage: Storage) -> None:
    storage.prepare("a", "b")
    for name in ("a/1", "a/2"):
        assert storage.put_if_absent(name, name.encode())
    moved = storage.move_all({"a/1": "b/1", "a/2": "b/2", "a/3": "b/3"})
    assert moved == ["a/1", "a/2"]
    assert (storage.names("a"), storage.names("b")) == ([], ["1", "2"])
    assert storage.read("b/1") == b"a/1"
    assert storage.move_all({}) == []
    assert storage.idle("b/1") < 3600
