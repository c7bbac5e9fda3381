"""Waiting for writers: as long as one may move a ref, and no longer."""

from __future__ import annotations

import errno
import os
import time

import pytest

from gradient.errors import GradientIOError
from gradient.maintenance.lease_drain import drain
from gradient.objects.oid import Oid
from gradient.storage.memory import MemoryStorage
from gradient.store import leases, process_id
from gradient.store.leases import EXPIRY, Leases
from gradient.store.process_id import ProcessId
from gradient.store.refs import Refs

NOW = 1_000_000
ONE = Oid(bytes(31) + b"\1")


class Place:
    """A storage with a branch and a tag, and leases that somebody has there."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.leases = Leases(self.storage, clock=lambda: float(NOW))
        self.refs = Refs(self.storage)
        self.refs.append("main", ONE, after=None, reason="commit")
        self.refs.append("best", ONE, after=None, reason="tag", space="tags")

    def lease(self, by: ProcessId, since: int, content: bytes) -> str:
        name = f"{by}.{since}.{'0' * 32}"
        self.storage.contents[f"leases/{name}"] = content
        return name

    def drain(self, wait: float = 0.0) -> list[str]:
        return [held.name for held in drain(self.leases, self.refs, wait=wait)]

    def fenced(self) -> list[str]:
        heads = [r.kind for r in self.refs.log("main")]
        tags = [r.kind for r in self.refs.log("best", space="tags")]
        return ["heads/main"] * ("fence" in heads) + ["tags/best"] * ("fence" in tags)


GONE = ProcessId(process_id.current().machine, (1 << 31) - 1, "1")
ELSEWHERE = ProcessId("0" * 16, 1, "0")
MAIN = leases.encode(["heads/main"])


def test_nobody_is_waited_for_where_nobody_writes() -> None:
    place = Place()
    assert place.drain(wait=60.0) == []
    assert place.fenced() == []


def test_a_process_that_is_gone_needs_no_fence() -> None:
    place = Place()
    place.lease(GONE, NOW, MAIN)
    assert place.drain() == []
    assert place.storage.names("leases") == []
    assert place.fenced() == []


@pytest.mark.parametrize("since", [NOW, NOW - int(EXPIRY), NOW + 10 * int(EXPIRY)])
def test_one_elsewhere_is_waited_for(since: int) -> None:
    place = Place()
    name = place.lease(ELSEWHERE, since, MAIN)
    assert place.drain() == [name]
    assert place.storage.names("leases") == [name]
    assert place.fenced() == []


def test_one_that_runs_is_waited_for_however_long_it_takes() -> None:
    place = Place()
    name = place.lease(process_id.current(), 0, MAIN)
    assert place.drain() == [name]
    assert place.fenced() == []


@pytest.mark.parametrize(
    ("content", "fenced"),
    [
        (MAIN, ["heads/main"]),
        (leases.encode(["tags/best"]), ["tags/best"]),
        (leases.encode(["heads/main", "tags/best"]), ["heads/main", "tags/best"]),
        (leases.encode(["elsewhere/main"]), []),
        (b"torn", ["heads/main", "tags/best"]),
        (b"[]", ["heads/main", "tags/best"]),
        (b'{"refs":["heads/main",7]}', ["heads/main", "tags/best"]),
        (b'{"refs":"heads/main"}', ["heads/main", "tags/best"]),
    ],
)
def test_one_elsewhere_is_fenced_after_an_hour(content: bytes, fenced: list[str]) -> None:
    place = Place()
    place.lease(ELSEWHERE, NOW - int(EXPIRY) - 1, content)
    assert place.drain() == []
    assert place.storage.names("leases") == []
    assert place.fenced() == fenced


def test_the_fence_comes_before_the_end_of_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    name = place.lease(ELSEWHERE, 0, MAIN)
    fence = place.refs.fence
    seen: list[list[str]] = []

    def watched(*arguments: object, **options: object) -> object:
        seen.append(place.storage.names("leases"))
        return fence(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(place.refs, "fence", watched)
    assert place.drain() == []
    assert seen == [[name]]


def test_it_ends_as_soon_as_the_writer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    place.lease(process_id.current(), NOW, MAIN)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            place.storage.contents.clear()

    monkeypatch.setattr(time, "sleep", sleep)
    assert place.drain(wait=600.0) == []
    assert len(slept) == 3


def test_who_comes_later_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    first = place.lease(process_id.current(), NOW, MAIN)

    def sleep(_: float) -> None:
        place.storage.contents.pop(f"leases/{first}", None)
        place.lease(process_id.current(), NOW + 1, MAIN)

    monkeypatch.setattr(time, "sleep", sleep)
    assert place.drain(wait=600.0) == []
    assert len(place.storage.names("leases")) == 1


def test_a_lease_that_ends_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    place.lease(ELSEWHERE, 0, MAIN)
    monkeypatch.setattr(Leases, "exists", lambda *_: True)
    held = place.leases.held()
    place.storage.contents.pop(f"leases/{held[0].name}")
    assert place.leases.refs(held[0]) == []


def test_a_child_does_not_end_its_parents_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    lease = place.leases.acquire()
    lease.cover("heads/main")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    lease.release()
    assert len(place.storage.names("leases")) == 1


def test_a_lease_that_can_not_be_read_now_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    name = place.lease(ELSEWHERE, 0, MAIN)

    def refused(_: object, name: str, **__: object) -> bytes:
        raise GradientIOError("read", name, OSError(errno.EIO, "x"))

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStorage, "read", refused)
        with pytest.raises(GradientIOError):
            place.drain()
    assert place.storage.names("leases") == [name]
