"""No power cut loses what was acknowledged, or leaves a ref to what is not whole (R2, C3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradient.codec.mode import Mode
from gradient.errors import GradientError
from gradient.objects.oid import Kind, Oid
from gradient.storage.directory import DirectoryStorage
from gradient.storage.memory import MemoryStorage
from gradient.store.database import ObjectStore
from gradient.store.refs import RefRecord, Refs
from tests.crash.states import Event, Recorder, crash_states
from tests.storage.faults import observed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FROZEN = b"frozen" * 50


def commit(
    storage: DirectoryStorage, branch: str, message: str, after: RefRecord | None
) -> RefRecord:
    store = ObjectStore(storage, workers=1)
    with store.begin(mode=Mode.OFF) as transaction:
        transaction.put_chunks([FROZEN, message.encode()], width=1)
        oid = transaction.put(Kind.COMMIT, message.encode())
        transaction.seal()
    return Refs(storage).append(branch, oid, after=after, reason="")


def record(path: Path) -> list[Event]:
    """Two commits, a branch, its end, and a third commit by a second process."""
    recorder = Recorder(str(path))
    storage = DirectoryStorage(path)
    path.mkdir()
    with observed(recorder):
        first = commit(storage, "main", "one", None)
        recorder.acknowledge("main one")
        second = commit(storage, "main", "two", first)
        recorder.acknowledge("main two")
        side = commit(storage, "side", "three", None)
        recorder.acknowledge("side three")
        Refs(storage).delete("side", after=side, reason="")
        recorder.acknowledge("side -")
        other = DirectoryStorage(path)
        commit(other, "main", "four", second)
        recorder.acknowledge("main four")
    return recorder.events


def check(acknowledged: list[str], state: dict[str, bytes]) -> str | None:
    """Return what is wrong with a state, or None."""
    storage = MemoryStorage()
    storage.contents = state
    store, refs = ObjectStore(storage, workers=1), Refs(storage)
    promised: dict[str, list[str]] = {"main": [], "side": []}
    for promise in acknowledged:
        branch, message = promise.split()
        promised[branch].append(message)
    for branch, messages in promised.items():
        found = []
        for entry in refs.log(branch):
            if entry.commit is None:
                found.append("-")
                continue
            try:
                body = store.read(entry.commit, Kind.COMMIT)
                for chunk in (FROZEN, body):
                    store.read(Oid.of(Kind.BLOB, chunk), Kind.BLOB)
            except GradientError as error:
                return f"{branch} refers to what is not whole: {error}"
            found.append(body.decode())
        if found[: len(messages)] != messages:
            return f"{branch} has {found}, promised were {messages}"
    return None


def violations(events: list[Event]) -> tuple[int, list[str]]:
    """Return how many states there are, and what is wrong with some."""
    count = 0
    wrong: list[str] = []
    for acknowledged, state in crash_states(events):
        count += 1
        reason = check(acknowledged, state)
        if reason is not None:
            wrong.append(reason)
            if len(wrong) == 3:
                break
    return count, wrong


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", "gradient")


def test_every_state_keeps_every_promise(tmp_path: Path) -> None:
    count, wrong = violations(record(tmp_path / "repo"))
    assert wrong == []
    assert count > 10


SYNCS: dict[str, Callable[[Event], bool]] = {
    "sync of files": lambda event: event.operation == "sync",
    "sync of the pack folder": lambda event: (
        (event.operation, event.path) == ("sync folder", "objects/pack")
    ),
    "sync of a ref's folder": lambda event: (
        event.operation == "sync folder" and event.path in ("refs/heads/main", "refs/heads/side")
    ),
    "sync above a new ref": lambda event: (
        (event.operation, event.path) == ("sync folder", "refs/heads")
    ),
    "sync above the packs": lambda event: (
        (event.operation, event.path) == ("sync folder", "objects")
    ),
    "sync of the root": lambda event: (event.operation, event.path) == ("sync folder", ""),
}


@pytest.mark.parametrize("left_out", SYNCS)
def test_no_sync_is_superfluous(tmp_path: Path, left_out: str) -> None:
    events = record(tmp_path / "repo")
    fewer = [event for event in events if not SYNCS[left_out](event)]
    assert len(fewer) < len(events)
    assert violations(fewer)[1] != []


def test_each_files_own_sync_counts(tmp_path: Path) -> None:
    events = record(tmp_path / "repo")
    syncs = [number for number, event in enumerate(events) if event.operation == "sync"]
    assert len(syncs) == 9
    for number in syncs:
        assert violations(events[:number] + events[number + 1 :])[1] != []


def test_nothing_gets_its_name_before_its_content_is_durable(tmp_path: Path) -> None:
    synced: set[str] = set()
    named = 0
    for event in record(tmp_path / "repo"):
        if event.operation == "sync":
            synced.add(event.path)
        elif event.operation == "write":
            assert event.path not in synced
        elif event.operation in ("rename", "link"):
            assert event.path in synced
            named += 1
    assert named == 9


def test_a_ref_that_moves_before_its_pack_is_durable_is_found_out(tmp_path: Path) -> None:
    events = record(tmp_path / "repo")
    moved = [n for n, event in enumerate(events) if event.path == "objects/pack"]
    packs = [n for n in moved if events[n].operation == "sync folder"]
    for number in packs:
        late = next(n for n in range(number, len(events)) if events[n].operation == "acknowledge")
        swapped = [*events[:number], *events[number + 1 : late], events[number], *events[late:]]
        assert violations(swapped)[1] != []
