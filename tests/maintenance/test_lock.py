"""The lock: one process at a time may collect, and a lock without an owner delays no process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest

from gradient.errors import ConflictError, GradientIOError
from gradient.maintenance.lock import exclusive
from gradient.objects import canonical
from gradient.storage.memory import MemoryStorage
from gradient.store import process_id
from gradient.store.leases import EXPIRY
from gradient.store.process_id import ProcessId

NOW = 1_000_000.0
FIRST = "gc/0000000000000001"
ELSEWHERE = ProcessId("0" * 16, 1, "0")


def another() -> ProcessId:
    """Return a running process: the parent of this one."""
    facts = process_id._stat(os.getppid())
    return ProcessId(process_id.current().machine, os.getppid(), facts[0] if facts else "0")


def gone() -> ProcessId:
    return ProcessId(process_id.current().machine, (1 << 31) - 1, "1")


def lock(by: ProcessId | str, since: object = int(NOW), **fields: Any) -> bytes:
    return canonical.dumps({"owner": str(by), "since": since, "word": "x", **fields})


def held() -> dict[str, bytes]:
    """Return locks that count, as seen from this process."""
    return {
        "a running process": lock(another()),
        "a running process, for ages": lock(another(), 0),
        "a process elsewhere": lock(ELSEWHERE),
        "one elsewhere whose clock is ahead": lock(ELSEWHERE, int(NOW + EXPIRY)),
        "an owner in another form": lock("somebody"),
    }


def left() -> dict[str, bytes]:
    """Return stale locks."""
    return {
        "a process that is gone": lock(gone()),
        "an earlier call of this one": lock(process_id.current()),
        "a process elsewhere, long ago": lock(ELSEWHERE, int(NOW - EXPIRY) - 1),
        "one elsewhere without a time": lock(ELSEWHERE, "now"),
        "no owner": canonical.dumps({"since": int(NOW)}),
        "a number": canonical.dumps({"owner": 7}),
        "no document": b"torn",
        "a list": b"[]",
    }


@pytest.fixture
def storage() -> Iterator[MemoryStorage]:
    made = MemoryStorage()
    yield made
    assert made.names("tmp") == []


def begin(storage: MemoryStorage) -> None:
    with exclusive(storage, clock=lambda: NOW):
        assert len(storage.names("gc")) == 1


@pytest.mark.parametrize("who", held())
def test_a_held_lock_is_respected(who: str, storage: MemoryStorage) -> None:
    storage.contents[FIRST] = held()[who]
    with pytest.raises(ConflictError, match="at work"):
        begin(storage)
    assert storage.contents == {FIRST: held()[who]}


@pytest.mark.parametrize("who", left())
def test_a_stale_lock_is_replaced(who: str, storage: MemoryStorage) -> None:
    storage.contents[FIRST] = left()[who]
    begin(storage)
    assert storage.contents == {}


def test_a_lost_race_is_a_conflict(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStorage, "put_if_absent", lambda *_: False)
    with pytest.raises(ConflictError, match="just begun"):
        begin(storage)


def test_the_lock_has_the_next_number(storage: MemoryStorage) -> None:
    storage.contents["gc/0000000000000007"] = storage.contents[FIRST] = left()["no document"]
    others = ["8", "a" * 16, "readme"]
    storage.contents |= {f"gc/{name}": b"x" for name in others}
    with exclusive(storage, clock=lambda: NOW):
        assert storage.names("gc") == ["0000000000000008", *others]
        with pytest.raises(ConflictError):
            begin(storage)
    assert storage.names("gc") == others


def test_a_lock_that_vanishes_is_not_held(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.contents[FIRST] = held()["a running process"]
    read = MemoryStorage.read

    def late(self: MemoryStorage, *arguments: Any, **options: Any) -> bytes:
        self.contents.clear()
        return read(self, *arguments, **options)

    monkeypatch.setattr(MemoryStorage, "read", late)
    begin(storage)


def test_an_unreadable_lock_is_an_error(
    storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.contents[FIRST] = held()["a running process"]

    def refused(_: object, name: str, **__: object) -> bytes:
        raise GradientIOError("read", name, OSError(errno.EIO, "x"))

    monkeypatch.setattr(MemoryStorage, "read", refused)
    with pytest.raises(GradientIOError):
        begin(storage)
    assert storage.names("gc") == ["0000000000000001"]


@pytest.mark.parametrize(("number", "fails"), [(errno.ENOSPC, False), (errno.EIO, True)])
def test_a_full_disk_needs_no_lock(
    number: int, fails: bool, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bool:
        raise GradientIOError("create", FIRST, OSError(number, "x"))

    monkeypatch.setattr(MemoryStorage, "put_if_absent", refused)
    if fails:
        with pytest.raises(GradientIOError):
            begin(storage)
    else:
        with exclusive(storage, clock=lambda: NOW):
            assert storage.names("gc") == []
