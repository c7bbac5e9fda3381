from __future__ import annotations

import threading

import pytest
from blake3 import blake3

from gradient.errors import MalformedObjectError
from gradient.objects import canonical
from gradient.objects.oid import Oid
from gradient.storage.directory import DirectoryStorage
from gradient.storage.memory import MemoryStorage
from gradient.store import retention_log
from gradient.store.retention_log import RetentionLog, RetentionRecord, dropped_by

TIME = "2026-02-10T12:34:56.000000"
A, B, C = (Oid(bytes([number]) * 32) for number in (1, 2, 3))


def made(*oids: Oid, drop: tuple[str, ...] | None = None, seq: int = 1) -> RetentionRecord:
    return RetentionRecord(seq, tuple(sorted(oids)), drop, "--keep-last 5", TIME)


@pytest.mark.parametrize("record", [made(A), made(A, B, drop=("ema", "optimizer"), seq=7)])
def test_a_record_survives_the_round_trip(record: RetentionRecord) -> None:
    assert RetentionRecord.from_bytes(record.to_bytes(), record.seq) == record


def changed(**fields: object) -> bytes:
    body = canonical.loads(made(A, B).to_bytes())
    assert type(body) is dict
    body |= fields  # type: ignore[arg-type]
    body.pop("check")
    body["check"] = blake3(canonical.dumps(body)).hexdigest()
    return canonical.dumps(body)


BAD = {
    "no JSON": b"{",
    "a list": b"[]",
    "another field": changed(more=1),
    "no commits": changed(commits=[]),
    "commits that are none": changed(commits=["x"]),
    "unsorted": changed(commits=[str(B), str(A)]),
    "twice": changed(commits=[str(A), str(A)]),
    "an empty drop": changed(drop=[]),
    "an unsorted drop": changed(drop=["b", "a"]),
    "a drop of numbers": changed(drop=[1]),
    "another number": changed(seq=2),
    "true for a number": changed(seq=True),
    "a policy that is no text": changed(policy=5),
    "a flipped letter": made(A).to_bytes().replace(b"keep-last 5", b"keep-last 6"),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_a_malformed_record_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedObjectError):
        RetentionRecord.from_bytes(raw, 1)


def test_a_whole_state_includes_components_and_components_add_up() -> None:
    table = dropped_by(
        [
            made(A, B, drop=("optimizer",)),
            made(B, drop=("ema",), seq=2),
            made(A, seq=3),
            made(A, C, drop=("rng",), seq=4),
        ]
    )
    assert table[A].components is None
    assert table[B].components == ("ema", "optimizer")
    assert table[C].components == ("rng",)
    assert table[A].covers("model")
    assert not table[B].covers("model")


def test_records_are_appended_and_read() -> None:
    storage = MemoryStorage()
    one, other = RetentionLog(storage, clock=lambda: TIME), RetentionLog(storage)
    assert other.table() == {}
    one.append([B, A, B], drop=None, policy="--keep-last 5")
    assert set(other.table()) == {A, B}
    other.append([C], drop=["optimizer"], policy="--keep-last 9")
    assert one.table()[C].components == ("optimizer",)
    assert storage.names("retention") == [f"{1:016d}", f"{2:016d}"]
    assert one.table()[A].time == TIME


def test_many_commits_take_several_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_log, "MAX_COMMITS", 2)
    storage = MemoryStorage()
    assert len(RetentionLog(storage).append([A, B, C], drop=None, policy="")) == 2
    assert set(RetentionLog(storage).table()) == {A, B, C}


def test_the_longest_record_is_below_the_limit() -> None:
    oids = [Oid(number.to_bytes(32, "big")) for number in range(retention_log.MAX_COMMITS)]
    names = tuple(f"{number:0200d}" for number in range(100))
    record = RetentionRecord(1, tuple(oids), names, "x" * 2000, TIME)
    assert len(record.to_bytes()) < retention_log.MAX_BYTES


def test_a_damaged_record_does_not_count_and_stops_a_collection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = MemoryStorage()
    RetentionLog(storage).append([A], drop=None, policy="")
    RetentionLog(storage).append([B], drop=None, policy="")
    storage.contents["retention/0000000000000001"] = b"half"
    found = RetentionLog(storage)
    assert set(found.table()) == set(found.table()) == {B}
    assert caplog.text.count("is damaged and does not count") == 1
    with pytest.raises(MalformedObjectError, match="retention/0000000000000001 is damaged"):
        found.table(strict=True)
    del storage.contents["retention/0000000000000001"]
    assert set(found.table(strict=True)) == {B}
    del storage.contents["retention/0000000000000002"]
    assert found.table() == {}


def test_concurrent_writers_lose_nothing(tmp_path: object) -> None:
    storage = DirectoryStorage(str(tmp_path))
    storage.prepare("retention")
    oids = [[Oid(bytes([me, n]) * 16) for n in range(20)] for me in range(4)]

    def write(mine: list[Oid]) -> None:
        found = RetentionLog(storage)
        for oid in mine:
            found.append([oid], drop=None, policy="")

    threads = [threading.Thread(target=write, args=(mine,)) for mine in oids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(RetentionLog(storage).table(strict=True)) == {oid for mine in oids for oid in mine}
