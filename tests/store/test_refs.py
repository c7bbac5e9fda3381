from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from gradient.errors import InvalidNameError, MalformedObjectError, RefConflictError
from gradient.objects import canonical
from gradient.objects.oid import Oid
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.storage.memory import MemoryStorage
from gradient.store import refs as refs_module
from gradient.store.ref_record import RefRecord
from gradient.store.refs import Refs
from tests.storage.faults import counted, observed

if TYPE_CHECKING:
    from pathlib import Path

TIME = "2026-02-10T12:34:56.000000"
COMMIT = Oid.parse("c174a8d473f354196b26b42bf949cbd572a2a7fb584bcb7818615ab91b1e45fb")
GOLDEN = (
    b'{"check":"fb5d109b2948a4346375a792068186788ba82695af84f206208ef9f0b0722285",'
    b'"commit":"c174a8d473f354196b26b42bf949cbd572a2a7fb584bcb7818615ab91b1e45fb",'
    b'"kind":"move","previous":0,"reason":"commit","ref":"heads/main","seq":1,'
    b'"time":"2026-02-10T12:34:56.000000","writer":"00000000000000000000000000000000"}'
)
RECORD = RefRecord(1, COMMIT, "move", 0, TIME, "0" * 32, "commit")


def commit(number: int) -> Oid:
    return Oid(number.to_bytes(32, "big"))


def make(storage: MemoryStorage | DirectoryStorage | None = None) -> Refs:
    return Refs(storage or MemoryStorage(), clock=lambda: TIME)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refs_module, "_WAITS", (0.0,))


def test_golden() -> None:
    assert RECORD.to_bytes("heads/main") == GOLDEN
    assert RefRecord.from_bytes(GOLDEN, "heads/main", 1) == RECORD
    body = canonical.loads(GOLDEN)
    assert type(body) is dict
    check = body.pop("check")
    assert blake3(canonical.dumps(body)).hexdigest() == check


def test_a_flipped_bit_or_a_cut_is_refused() -> None:
    for position in range(len(GOLDEN)):
        with pytest.raises(MalformedObjectError):
            RefRecord.from_bytes(GOLDEN[:position], "heads/main", 1)
        for bit in range(8):
            damaged = bytearray(GOLDEN)
            damaged[position] ^= 1 << bit
            with pytest.raises(MalformedObjectError):
                RefRecord.from_bytes(bytes(damaged), "heads/main", 1)


@pytest.mark.parametrize(("ref", "seq"), [("heads/main", 2), ("heads/dev", 1), ("tags/main", 1)])
def test_a_misplaced_record_is_refused(ref: str, seq: int) -> None:
    with pytest.raises(MalformedObjectError, match="in the place of another"):
        RefRecord.from_bytes(GOLDEN, ref, seq)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "merge"), ("kind", None), ("commit", None), ("commit", "c174"), ("commit", 1),
        ("previous", 1), ("previous", -1), ("previous", True), ("previous", "0"), ("seq", True),
        ("time", 1), ("writer", None), ("reason", []), ("more", 1), ("kind", "delete"),
    ],
)  # fmt: skip
def test_wrong_fields_with_a_right_check_are_refused(field: str, value: object) -> None:
    body = canonical.loads(GOLDEN)
    assert type(body) is dict
    del body["check"]
    body[field] = value  # type: ignore[assignment]
    body["check"] = blake3(canonical.dumps(body)).hexdigest()
    with pytest.raises(MalformedObjectError):
        RefRecord.from_bytes(canonical.dumps(body), "heads/main", 1)


def test_a_ref_moves_and_keeps_its_log() -> None:
    refs = make()
    assert (refs.read("main"), refs.log("main"), refs.names()) == (None, [], [])
    first = refs.append("main", commit(1), after=None, reason="start")
    second = refs.append("main", commit(2), after=first, reason="on")
    assert (second.seq, second.previous, second.commit) == (2, 1, commit(2))
    assert refs.read("main") == second
    assert refs.log("main") == [first, second]
    assert refs.names() == ["main"]
    assert refs.names("tags") == []
    assert refs.append("main", commit(3), after=None, reason="tag", space="tags").seq == 1


def test_a_ref_that_moved_is_a_conflict() -> None:
    refs = make()
    first = refs.append("main", commit(1), after=None, reason="")
    second = refs.append("main", commit(2), after=first, reason="")
    for stale in (None, first):
        with pytest.raises(RefConflictError, match="heads/main"):
            refs.append("main", commit(3), after=stale, reason="")
    with pytest.raises(RefConflictError):
        refs.delete("main", after=first, reason="")
    assert refs.read("main") == second


def test_a_deleted_ref_is_gone_and_can_start_again() -> None:
    refs = make()
    first = refs.append("main", commit(1), after=None, reason="")
    gone = refs.delete("main", after=first, reason="done")
    assert (gone.kind, gone.commit) == ("delete", None)
    assert refs.read("main") is None
    assert refs.names() == []
    assert refs.log("main") == [first, gone]
    with pytest.raises(RefConflictError):
        refs.append("main", commit(2), after=first, reason="")
    again = refs.append("main", commit(2), after=None, reason="")
    assert (again.seq, again.previous) == (3, 2)
    assert refs.names() == ["main"]


def test_a_fence_moves_a_ref_without_moving_it() -> None:
    storage = MemoryStorage()
    refs = make(storage)
    first = refs.append("main", commit(1), after=None, reason="")
    fence = RefRecord(2, commit(1), "fence", 1, TIME, "gc", "lease expired")
    storage.put_if_absent("refs/heads/main/0000000000000002", fence.to_bytes("heads/main"))
    with pytest.raises(RefConflictError):
        refs.append("main", commit(2), after=first, reason="")
    assert refs.read("main") == fence
    assert refs.append("main", commit(2), after=fence, reason="").seq == 3


@pytest.mark.parametrize("damage", [b"", b"\0" * 300, GOLDEN[:50], GOLDEN, b"[]", b"x" * 100_000])
def test_a_torn_record_does_not_count_and_does_not_block(
    damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    storage = MemoryStorage()
    refs = make(storage)
    first = refs.append("main", commit(1), after=None, reason="")
    storage.contents["refs/heads/main/0000000000000002"] = damage
    assert refs.read("main") == first
    third = refs.append("main", commit(3), after=first, reason="")
    assert (third.seq, third.previous) == (3, 1)
    assert refs.read("main") == third
    assert refs.log("main") == [first, third]
    assert caplog.text.count("0000000000000002 is damaged") == 1


def test_other_files_in_the_folders_do_no_harm() -> None:
    storage = MemoryStorage()
    refs = make(storage)
    first = refs.append("main", commit(1), after=None, reason="")
    for name in ("main/1", "main/0000000000000009.tmp", "main/tip.hint", "%zz/1", "%4d/x", "a%2fb"):
        storage.contents[f"refs/heads/{name}"] = b"x"
    assert refs.names() == ["main"]
    assert refs.read("main") == first


def test_a_writer_whose_record_seemed_torn_withdraws() -> None:
    """Without hard links a record may become complete after another writer has skipped it."""
    storage = MemoryStorage()
    ours, theirs = make(storage), make(storage)
    first = ours.append("main", commit(1), after=None, reason="")
    slow = "refs/heads/main/0000000000000002"
    put = storage.put_if_absent

    def put_after_skipping(name: str, data: bytes) -> bool:
        assert name.endswith("3")
        done = put(name, data)
        storage.contents[slow] = RefRecord(2, commit(2), "move", 1, TIME, "slow", "").to_bytes(
            "heads/main"
        )
        return done

    storage.contents[slow] = b'{"check'
    storage.put_if_absent = put_after_skipping  # type: ignore[method-assign,assignment]
    with pytest.raises(RefConflictError):
        theirs.append("main", commit(3), after=first, reason="")
    tip = ours.read("main")
    assert tip is not None
    assert tip.commit == commit(2)


def test_a_writer_that_was_skipped_withdraws() -> None:
    storage = MemoryStorage()
    ours = make(storage)
    first = ours.append("main", commit(1), after=None, reason="")
    skipping = RefRecord(3, commit(3), "move", 1, TIME, "fast", "")
    storage.contents["refs/heads/main/0000000000000003"] = skipping.to_bytes("heads/main")
    names, calls = storage.names, iter([["0000000000000001"]])
    storage.names = lambda folder: next(calls, None) or names(folder)  # type: ignore[method-assign]
    with pytest.raises(RefConflictError):
        ours.append("main", commit(2), after=first, reason="")
    assert ours.read("main") == skipping
    assert [record.seq for record in ours.log("main")] == [1, 3]


@pytest.mark.parametrize("name", ["", "../x", "HEAD", "a@1", "-x", "a b"])
def test_refused_names_leave_nothing(name: str) -> None:
    storage = MemoryStorage()
    with pytest.raises(InvalidNameError):
        make(storage).append(name, commit(1), after=None, reason="")
    assert storage.contents == {}


def test_names_that_differ_in_case_are_refused() -> None:
    refs = make()
    refs.append("Main", commit(1), after=None, reason="")
    with pytest.raises(InvalidNameError, match="'Main'"):
        refs.append("main", commit(1), after=None, reason="")
    refs.append("main", commit(1), after=None, reason="", space="tags")


NAMES = st.sampled_from(["main", "a/b", "a%2fb", "Größe", "x.old1", "模型", "%", "a_b-c"])
STEPS = st.lists(st.tuples(NAMES, st.sampled_from(["move", "delete", "stale"])), max_size=30)


@given(STEPS)
def test_refs_are_a_dict_with_a_memory(steps: list[tuple[str, str]]) -> None:
    refs = make()
    tips: dict[str, RefRecord] = {}
    logs: dict[str, list[RefRecord]] = {}
    for number, (name, action) in enumerate(steps, 1):
        tip = tips.get(name)
        if action == "move":
            tips[name] = refs.append(name, commit(number), after=tip, reason="")
        elif action == "delete" and tip is not None:
            logs.setdefault(name, []).append(refs.delete(name, after=tip, reason=""))
            del tips[name]
            continue
        else:
            stale = RefRecord(99, commit(0), "move", 0, TIME, "x", "")
            with pytest.raises(RefConflictError):
                refs.append(name, commit(number), after=stale, reason="")
            continue
        logs.setdefault(name, []).append(tips[name])
    assert refs.names() == sorted(tips)
    for name, log in logs.items():
        assert refs.log(name) == log
        assert refs.read(name) == tips.get(name)
        assert [record.seq for record in log] == list(range(1, len(log) + 1))


def test_a_move_costs_two_syncs_and_the_first_one_three(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    storage.prepare("refs/heads")
    refs = make(storage)
    tip = None
    for expected in (3, 2, 2):
        with counted() as counts:
            tip = refs.append("main", commit(1), after=tip, reason="")
        assert counts["sync"] + counts["sync folder"] == expected


def append_many(path: Path, writer: int, count: int) -> None:
    """Append `count` records to one ref, each after its tip; print the acknowledged ones."""
    refs = Refs(DirectoryStorage(path))
    done = 0
    with (path / f"acknowledged{writer}").open("w") as acknowledged:
        while done < count:
            oid = commit(writer * 1000 + done)
            try:
                record = refs.append("main", oid, after=refs.read("main"), reason="")
            except RefConflictError:
                continue
            acknowledged.write(f"{record.seq} {oid}\n")
            acknowledged.flush()
            done += 1


def no_links(call: fs.Call) -> None:
    if call.operation == "link":
        raise OSError(errno.EPERM, "no hard links")


@pytest.mark.parametrize("links", [True, False])
def test_four_processes_on_one_ref_lose_nothing(tmp_path: Path, *, links: bool) -> None:
    DirectoryStorage(tmp_path).prepare("refs/heads")
    children = []
    for writer in range(4):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                if not links:
                    with observed(no_links):
                        append_many(tmp_path, writer, 15)
                else:
                    append_many(tmp_path, writer, 15)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    log = Refs(DirectoryStorage(tmp_path)).log("main")
    before = [0, *(record.seq for record in log[:-1])]
    if links:
        assert [record.previous for record in log] == before
    # Without links a record may be made after one that its writer withdraws in the end: a writer
    # that stood still in the middle of its record was taken for a dead one.
    assert all(seq <= record.previous < record.seq for seq, record in zip(before, log, strict=True))
    acknowledged = {
        line for writer in range(4) for line in lines(tmp_path / f"acknowledged{writer}")
    }
    assert len(acknowledged) == 60
    assert acknowledged == {f"{record.seq} {record.commit}" for record in log}


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_long_log_is_listed_once(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path)
    make(storage).append("main", commit(1), after=None, reason="")
    refs, other = make(storage), make(storage)
    tip = refs.read("main")
    with counted() as counts:
        for number in range(2, 12):
            tip = refs.append("main", commit(number), after=tip, reason="")
            assert refs.read("main") == tip
    assert counts["list"] == 0
    # What another writer does is seen all the same.
    seen = other.read("main")
    assert seen == tip
    moved = other.append("main", commit(12), after=seen, reason="")
    assert refs.read("main") == moved
    other.delete("main", after=moved, reason="")
    assert refs.read("main") is None
    assert refs.known() == ["main"]
    assert refs.names() == []


def test_a_gap_in_the_numbers_is_skipped() -> None:
    storage = MemoryStorage()
    refs, other = make(storage), make(storage)
    first = refs.append("main", commit(1), after=None, reason="")
    later = RefRecord(4, commit(4), "move", 1, TIME, "0" * 32, "")
    storage.contents["refs/heads/main/0000000000000004"] = later.to_bytes("heads/main")
    assert refs.read("main") == later == other.read("main")
    with pytest.raises(RefConflictError):
        refs.append("main", commit(2), after=first, reason="")


def test_a_withdrawn_record_is_not_the_tip() -> None:
    storage = MemoryStorage()
    refs = make(storage)
    first = refs.append("main", commit(1), after=None, reason="")
    refs.append("main", commit(2), after=first, reason="")
    del storage.contents["refs/heads/main/0000000000000002"]
    assert refs.read("main") == first
    assert list(refs.backwards("main")) == [first]


def test_records_in_a_foreign_folder_stop_a_collection() -> None:
    storage = MemoryStorage()
    refs = Refs(storage)
    refs.append("main", commit(1), after=None, reason="commit")
    storage.contents["refs/heads/%zz/notes"] = b"x"
    assert refs.strict_logs("heads").keys() == {"main"}
    storage.contents["refs/heads/%zz/0000000000000001"] = b"x"
    with pytest.raises(MalformedObjectError, match="not the name of a ref"):
        refs.strict_logs("heads")


def test_a_taken_number_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    refs = make(storage)
    first = refs.append("main", commit(1), after=None, reason="")
    monkeypatch.setattr(MemoryStorage, "put_if_absent", lambda *_: False)
    with pytest.raises(RefConflictError):
        refs.append("main", commit(2), after=first, reason="")
    assert refs.read("main") == first
