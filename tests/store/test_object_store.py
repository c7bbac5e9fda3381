from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradient.codec.frame import Codec, Encoded, encode
from gradient.codec.mode import Mode
from gradient.errors import (
    CorruptObjectError,
    CorruptPackError,
    EngineClosedError,
    GradientIOError,
    MalformedObjectError,
    MissingObjectError,
    StoreChangedError,
)
from gradient.objects.oid import Kind, Oid
from gradient.storage.directory import DirectoryStorage
from gradient.storage.memory import MemoryStorage
from gradient.store import pack as packs
from gradient.store.blob_batches import PendingBlob
from gradient.store.object_store import ObjectStore, StoreStats
from gradient.store.pack import PackWriter, name_of
from gradient.store.transaction import Transaction
from tests.storage.faults import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gradient.store.fork_lock import ForkLock

MIB = 1 << 20
NOWHERE = Oid(b"n" * 32)


def save(store: ObjectStore, *bodies: bytes, kind: Kind = Kind.BLOB) -> tuple[str, list[Oid]]:
    with store.begin(mode=Mode.OFF) as transaction:
        oids = [transaction.put(kind, body) for body in bodies]
        pack_id = transaction.seal()
    assert pack_id is not None
    return pack_id, oids


def read(store: ObjectStore, oid: Oid, size: int) -> bytes:
    out = bytearray(size)
    store.read_blobs([(oid, memoryview(out))])
    again = bytearray(size)
    store.read_into(oid, memoryview(again))
    assert out == again == store.read(oid, Kind.BLOB)
    return bytes(out)


def floats(*seeds: int, length: int = MIB // 4) -> list[np.ndarray]:
    return [
        (np.random.default_rng(seed).standard_normal(length) * 0.02).astype(np.float32)
        for seed in seeds
    ]


@given(
    chunks=st.lists(st.binary(max_size=300), max_size=40),
    repeats=st.lists(st.integers(0, 39), max_size=10),
    mode=st.sampled_from(Mode),
    width=st.sampled_from([1, 2, 4, 8]),
    workers=st.integers(1, 3),
)
def test_objects_that_are_put_are_read(
    chunks: list[bytes], repeats: list[int], mode: Mode, width: int, workers: int
) -> None:
    chunks += [chunks[number] for number in repeats if number < len(chunks)]
    storage = MemoryStorage()
    store = ObjectStore(storage, workers=workers)
    with store.begin(mode=mode) as transaction:
        oids = transaction.put_chunks(chunks, width=width)
        tree = transaction.put(Kind.TREE, b'{"value":1}')
        pack_id = transaction.seal()
    assert oids == [Oid.of(Kind.BLOB, chunk) for chunk in chunks]
    for reader in (store, ObjectStore(storage, workers=workers)):
        outs = [bytearray(len(chunk)) for chunk in chunks]
        reader.read_blobs([(oid, memoryview(out)) for oid, out in zip(oids, outs, strict=True)])
        assert outs == chunks
        assert reader.read(tree, Kind.TREE) == b'{"value":1}'
        size = storage.size(name_of(str(pack_id)))
        unique = {*chunks}
        assert reader.stats() == StoreStats(1, len(unique) + 1, size or 0)


def test_large_chunks_in_parallel() -> None:
    chunks: list[np.ndarray] = [*floats(*range(12)), *floats(3, 4), np.zeros(MIB // 4, np.float32)]
    storage = MemoryStorage()
    store = ObjectStore(storage, workers=3)
    with store.begin(mode=Mode.AUTO) as transaction:
        oids = transaction.put_chunks((chunk.data for chunk in chunks), width=4)
        pack_id = transaction.seal()
    outs = [np.empty_like(chunk) for chunk in chunks]
    store.read_blobs([(oid, out.data) for oid, out in zip(oids, outs, strict=True)])
    assert all(np.array_equal(out, chunk) for out, chunk in zip(outs, chunks, strict=True))
    # The same chunks give the same pack, however the threads were scheduled.
    other = ObjectStore(MemoryStorage(), workers=2)
    with other.begin(mode=Mode.AUTO) as transaction:
        transaction.put_chunks((chunk.data for chunk in chunks), width=4)
        assert transaction.seal() == pack_id


def test_small_blobs_are_written_by_the_caller_after_the_large_ones() -> None:
    store = ObjectStore(MemoryStorage(), workers=2)
    large = [chunk.tobytes() for chunk in floats(*range(12))]
    small = [b"%d" % number * 300 for number in range(700)]
    threads: dict[int, set[str]] = {MIB: set(), 0: set()}

    class Seen(Transaction):
        def _encode(self, kind: Kind, pieces: Sequence[PendingBlob]) -> Any:
            for piece in pieces:
                names = threads[len(piece.data) >> 20 << 20]  # type: ignore[arg-type]
                names.add(threading.current_thread().name)
            return super()._encode(kind, pieces)

    with Seen(store._storage, store.catalogue, store._workers, mode=Mode.AUTO) as transaction:
        stored = transaction.put_blobs(
            (PendingBlob(body, 4) for body in large), (PendingBlob(body, 1) for body in small)
        )
        transaction.seal()
    assert [each.oid for each in stored] == [Oid.of(Kind.BLOB, body) for body in large + small]
    assert all(name.startswith("gradient-") for name in threads[MIB])
    assert threads[0] == {threading.current_thread().name}
    for body, each in zip(large + small, stored, strict=True):
        assert read(store, each.oid, len(body)) == body
    (pack,) = store.catalogue.index.packs
    offsets = [store.frame(each.oid).offset for each in stored]
    assert offsets == sorted(offsets)
    assert pack.index.end > offsets[-1]


def test_a_batch_of_blobs_of_every_kind() -> None:
    """Known and new blobs, with usable and unusable bases, equal blobs, empty blobs."""
    store = ObjectStore(MemoryStorage(), workers=1)
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal(1 << 13).astype(np.float32) * 0.02 for _ in range(6)]
    bodies = [array.tobytes() for array in arrays]
    with store.begin(mode=Mode.AUTO) as transaction:
        bases = transaction.put_chunks(bodies, width=4)
        transaction.seal()
    moved = [(array * np.float32(1.0001)).tobytes() for array in arrays]
    other = rng.standard_normal(1 << 13).astype(np.float32).tobytes()
    pieces = [
        PendingBlob(moved[0], 4, bases[0]),
        PendingBlob(b"", 4),
        PendingBlob(bodies[1], 4, bases[2]),
        PendingBlob(moved[1], 4, Oid(b"?" * 32)),
        PendingBlob(moved[2], 4, bases[2]),
        PendingBlob(other, 4, bases[3]),
        PendingBlob(moved[2], 4, bases[2]),
        PendingBlob(moved[3][:100], 4, bases[3]),
        PendingBlob(moved[4], 4, bases[4]),
        PendingBlob(b"text " * 400, 1),
    ]
    with store.begin(mode=Mode.AUTO) as transaction:
        stored = transaction.put_blobs((), pieces)
        transaction.seal()
    leaning = [n for n, each in enumerate(stored) if store.frame(each.oid).base is not None]
    assert leaning == [0, 4, 6, 8]
    for piece, each in zip(pieces, stored, strict=True):
        body = bytes(piece.data)
        assert each.oid == Oid.of(Kind.BLOB, body)
        assert read(store, each.oid, len(body)) == body
    assert store.frame(stored[8].oid).base == bases[4]
    assert store.frame(stored[2].oid).base is None


def test_buffers_of_any_shape_are_taken() -> None:
    store = ObjectStore(MemoryStorage())
    arrays = [np.ones((3, 4, 5), np.float64), np.zeros((0, 3), np.float32), np.array(7, np.int16)]
    with store.begin(mode=Mode.AUTO) as transaction:
        oids = transaction.put_chunks(arrays, width=1)
        transaction.seal()
    outs = [np.empty_like(array) for array in arrays]
    store.read_blobs([(oid, out.data) for oid, out in zip(oids, outs, strict=True)])
    assert all(np.array_equal(out, array) for out, array in zip(outs, arrays, strict=True))


def test_a_transaction_without_seal_leaves_nothing(tmp_path: Path) -> None:
    store = ObjectStore(DirectoryStorage(tmp_path))
    with store.begin(mode=Mode.OFF) as transaction:
        oid = transaction.put(Kind.BLOB, b"x")
        assert transaction.written > 0
    assert oid not in store
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(EngineClosedError):
        transaction.put(Kind.BLOB, b"y")
    with pytest.raises(EngineClosedError):
        transaction.seal()


def test_a_known_object_is_not_written_again() -> None:
    storage = MemoryStorage()
    save(ObjectStore(storage), b"frozen" * 100, b"a")
    store = ObjectStore(storage)
    with store.begin(mode=Mode.OFF) as transaction:
        transaction.put_chunks([b"frozen" * 100, b"b"], width=1)
        assert transaction.written < 300
        transaction.seal()
    with store.begin(mode=Mode.OFF) as transaction:
        transaction.put_chunks([b"frozen" * 100, b"b"], width=1)
        assert transaction.written == 0
        assert transaction.seal() is None
    assert len(storage.names("objects/pack")) == 2


def test_another_process_writes_and_we_read() -> None:
    storage = MemoryStorage()
    ours, theirs = ObjectStore(storage), ObjectStore(storage)
    assert NOWHERE not in ours
    _, (oid,) = save(theirs, b"x")
    assert oid in ours
    assert read(ours, oid, 1) == b"x"
    with ours.begin(mode=Mode.OFF) as transaction:
        transaction.put(Kind.BLOB, b"x")
        assert transaction.written == 0


def test_missing_objects_are_named() -> None:
    store = ObjectStore(MemoryStorage())
    for attempt in (
        lambda: store.read(NOWHERE, Kind.TREE),
        lambda: store.read_into(NOWHERE, memoryview(bytearray(1))),
        lambda: store.read_blobs([(NOWHERE, memoryview(bytearray(1)))]),
    ):
        with pytest.raises(MissingObjectError, match=str(NOWHERE)):
            attempt()


def test_a_transaction_names_what_is_missing() -> None:
    store = ObjectStore(MemoryStorage())
    _, (oid,) = save(store, b"a" * 100)
    with store.begin(mode=Mode.OFF) as transaction:
        assert transaction.read(oid, Kind.BLOB) == b"a" * 100
        for kind, absent in ((Kind.BLOB, Oid(bytes(32))), (Kind.TREE, oid)):
            with pytest.raises(MissingObjectError):
                transaction.read(absent, kind)


def test_a_wrong_expectation_is_an_error() -> None:
    store = ObjectStore(MemoryStorage())
    _, (oid,) = save(store, b"12345")
    with pytest.raises(CorruptObjectError, match="5 bytes where 4"):
        store.read_into(oid, memoryview(bytearray(4)))
    with pytest.raises(CorruptObjectError, match="5 bytes where 6"):
        store.read_blobs([(oid, memoryview(bytearray(n))) for n in (5, 6)])
    with pytest.raises(CorruptObjectError, match="is a blob where a tree"):
        store.read(oid, Kind.TREE)
    with pytest.raises(CorruptObjectError, match="at most 4"):
        store.read(oid, Kind.BLOB, limit=4)
    with (
        store.begin(mode=Mode.OFF) as transaction,
        pytest.raises(MalformedObjectError, match="at most 1048576"),
    ):
        transaction.put(Kind.BLOB, bytes(MIB + 1))


def test_commits_and_prefixes() -> None:
    store = ObjectStore(MemoryStorage())
    _, commits = save(store, *(b"%d" % n for n in range(40)), kind=Kind.COMMIT)
    _, blobs = save(store, b"blob")
    assert list(store.commits()) == sorted(commits)
    for oid in commits:
        for length in (4, 5, 16, 17, 64):
            assert oid in store.find_prefix(Kind.COMMIT, oid.hex()[:length])
    assert store.find_prefix(Kind.COMMIT, blobs[0].hex()) == []
    assert store.find_prefix(Kind.BLOB, blobs[0].hex()) == blobs


def test_an_error_in_a_worker_arrives_and_ends_the_work() -> None:
    store = ObjectStore(MemoryStorage(), workers=2)

    def chunks() -> list[bytes]:
        return [bytes([n]) * MIB for n in range(10)] + [bytes(MIB + 1)]

    with store.begin(mode=Mode.OFF) as transaction, pytest.raises(MalformedObjectError):
        transaction.put_chunks(chunks(), width=1)
    save(store, b"fine")


# Damage -----------------------------------------------------------------------------------------


def test_a_damaged_pack_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    storage = MemoryStorage()
    bad, (lost,) = save(ObjectStore(storage), b"lost")
    _, (kept,) = save(ObjectStore(storage), b"kept")
    storage.contents[name_of(bad)] = storage.contents[name_of(bad)][:-1]
    storage.contents["objects/pack/notes.txt"] = b"not a pack"
    store = ObjectStore(storage)
    assert read(store, kept, 4) == b"kept"
    with pytest.raises(CorruptPackError, match=f"{bad}.*{lost}"):
        store.read(lost, Kind.BLOB)
    assert store.problems.keys() == {bad}
    assert bad in caplog.text


@pytest.mark.parametrize("end", [-1, 0])
def test_a_pack_of_another_length_than_before_is_not_read(end: int) -> None:
    storage = MemoryStorage()
    store = ObjectStore(storage)
    pack_id, (oid,) = save(store, b"a" * 100)
    whole = storage.contents[name_of(pack_id)]
    storage.contents[name_of(pack_id)] = whole[:end] if end else whole + b"x"
    with pytest.raises(CorruptPackError):
        store.read(oid, Kind.BLOB)
    assert store.problems.keys() == {pack_id}


@pytest.mark.parametrize("trashed", [False, True])
def test_a_pack_that_cannot_be_opened_now_is_not_reported_as_damaged(
    *, trashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = MemoryStorage()
    store = ObjectStore(storage)
    pack_id, (oid,) = save(store, b"a" * 100)
    if trashed:
        name = packs.trashed_name_of("20260210t000000-00000000", pack_id)
        storage.contents[name] = storage.contents.pop(name_of(pack_id))

    def refused(name: str) -> Any:
        number = errno.EIO if name in storage.contents else errno.ENOENT
        raise GradientIOError("open", name, OSError(number, "x"))

    with monkeypatch.context() as patch:
        patch.setattr(storage, "open", refused)
        with pytest.raises(GradientIOError):
            store.read(oid, Kind.BLOB)
    assert read(store, oid, 100) == b"a" * 100
    assert pack_id not in store.problems


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "gone"])
@pytest.mark.parametrize("opened", [False, True])
def test_a_damaged_pack_heals_with_the_next_commit(damage: str, *, opened: bool) -> None:
    """R11: the contents of a damaged pack are not known, so they are written again."""
    storage = MemoryStorage()
    store = ObjectStore(storage)
    pack_id, oids = save(store, b"a" * 1000, b"b" * 1000)
    name = name_of(pack_id)
    whole = storage.contents[name]
    if damage == "gone":
        del storage.contents[name]
    else:
        cut = {"cut": whole[:-5], "empty": b"", "zeros": bytes(len(whole) - 1)}
        storage.contents[name] = cut[damage]
    if not opened:
        store = ObjectStore(storage)
    with store.begin(mode=Mode.OFF) as transaction:
        transaction.put_chunks([b"a" * 1000, b"b" * 1000, b"c"], width=1)
        assert transaction.written > 2000
        transaction.seal()
    for reader in (store, ObjectStore(storage)):
        assert read(reader, oids[0], 1000) == b"a" * 1000
        assert read(reader, oids[1], 1000) == b"b" * 1000


def test_the_same_pack_replaces_its_damaged_self() -> None:
    storage = MemoryStorage()
    store = ObjectStore(storage)
    pack_id, (oid,) = save(store, b"a" * 1000)
    whole = storage.contents[name_of(pack_id)]
    storage.contents[name_of(pack_id)] = whole[:500]
    assert save(store, b"a" * 1000)[0] == pack_id
    assert storage.contents[name_of(pack_id)] == whole
    assert read(store, oid, 1000) == b"a" * 1000
    assert store.problems == {}


def test_another_copy_is_read_if_one_is_damaged() -> None:
    storage, other = MemoryStorage(), MemoryStorage()
    first, (oid,) = save(ObjectStore(storage), b"a" * 1000)
    second, _ = save(ObjectStore(other), b"a" * 1000, b"b")
    storage.contents.update(other.contents)
    for damaged in (first, second):
        whole = storage.contents[name_of(damaged)]
        at = whole.index(b"aaaa") + 7
        storage.contents[name_of(damaged)] = whole[:at] + b"X" + whole[at + 1 :]
        assert read(ObjectStore(storage), oid, 1000) == b"a" * 1000
        storage.contents[name_of(damaged)] = whole
    for damaged in (first, second):
        whole = storage.contents[name_of(damaged)]
        at = whole.index(b"aaaa") + 7
        storage.contents[name_of(damaged)] = whole[:at] + b"X" + whole[at + 1 :]
    with pytest.raises(CorruptObjectError, match=f"{oid}.*another hash"):
        ObjectStore(storage).read(oid, Kind.BLOB)


def test_a_repack_between_looking_up_and_reading_is_survived() -> None:
    storage = MemoryStorage()
    store = ObjectStore(storage)
    first, (oid,) = save(store, b"a" * 100)
    elsewhere = MemoryStorage()
    save(ObjectStore(elsewhere), b"a" * 100, b"more")
    del storage.contents[name_of(first)]
    storage.contents.update(elsewhere.contents)
    assert read(store, oid, 100) == b"a" * 100


def test_sealing_notices_that_known_objects_vanished() -> None:
    storage = MemoryStorage()
    pack_id, _ = save(ObjectStore(storage), b"old")
    store = ObjectStore(storage)
    with store.begin(mode=Mode.OFF) as transaction:
        transaction.put_chunks([b"old", b"new"], width=1)
        del storage.contents[name_of(pack_id)]
        with pytest.raises(StoreChangedError, match=pack_id):
            transaction.seal()
    _, (old, _) = save(store, b"old", b"new")
    assert read(store, old, 3) == b"old"


def test_a_self_contained_transaction_relies_on_nothing() -> None:
    storage = MemoryStorage()
    store = ObjectStore(storage)
    pack_id, (old,) = save(store, b"old")
    with store.self_contained(), store.begin(mode=Mode.OFF) as transaction:
        assert transaction.put_chunks([b"old", b"new"], width=1)[0] == old
        transaction.reuse([old])
        del storage.contents[name_of(pack_id)]
        transaction.seal()
    assert read(store, old, 3) == b"old"
    with store.begin(mode=Mode.OFF) as transaction:
        transaction.reuse([old])
        assert transaction.written == 0


# Differences ------------------------------------------------------------------------------------


def put_frame(
    storage: MemoryStorage, body: bytes, base: bytes | None, *, extra: bytes = b""
) -> Oid:
    """Write one blob into a pack of its own, as a difference if a base is given."""
    writer = PackWriter(storage.create())
    oid = Oid.of(Kind.BLOB, body)
    if base is None:
        writer.append(Kind.BLOB, oid, len(body), Encoded(Codec.RAW, (body,), len(body)))
    else:
        encoded = encode(body, width=4, mode=Mode.AGGRESSIVE, base=base)
        assert encoded.codec is Codec.DELTA
        writer.append(Kind.BLOB, oid, len(body), encoded, base=Oid.of(Kind.BLOB, base))
    if extra:
        writer.append(
            Kind.BLOB,
            Oid.of(Kind.BLOB, extra),
            len(extra),
            Encoded(Codec.RAW, (extra,), len(extra)),
        )
    writer.publish()
    return oid


def drift(count: int) -> list[bytes]:
    """Return versions of one chunk, each close to the one before."""
    words = np.random.default_rng(1).integers(0, 1 << 32, 4096, np.uint32)
    return [(words + np.uint32(n)).tobytes() for n in range(count)]


def test_differences_are_followed() -> None:
    storage = MemoryStorage()
    versions = drift(9)
    put_frame(storage, versions[0], None)
    oids = [put_frame(storage, b, a) for a, b in itertools.pairwise(versions)]
    store = ObjectStore(storage)
    for oid, body in zip(oids, versions[1:], strict=True):
        assert read(store, oid, len(body)) == body
    assert sum(map(len, storage.contents.values())) < 2 * len(versions[0])


def test_a_chain_that_is_too_long_or_closed_is_an_error() -> None:
    storage = MemoryStorage()
    versions = drift(11)
    put_frame(storage, versions[0], None)
    oids = [put_frame(storage, b, a) for a, b in itertools.pairwise(versions)]
    with pytest.raises(CorruptObjectError, match="more than 8 differences"):
        ObjectStore(storage).read(oids[-1], Kind.BLOB)
    storage = MemoryStorage()
    first = put_frame(storage, versions[0], versions[1])
    put_frame(storage, versions[1], versions[0])
    with pytest.raises(CorruptObjectError, match="more than 8 differences"):
        ObjectStore(storage).read(first, Kind.BLOB)


def test_a_base_is_never_a_difference_itself() -> None:
    storage = MemoryStorage()
    versions = drift(3)
    put_frame(storage, versions[0], None)
    leaning = put_frame(storage, versions[1], versions[0])
    store = ObjectStore(storage)
    with store.begin(mode=Mode.AUTO) as transaction:
        (oid,) = transaction.put_chunks([versions[2]], width=4, bases=[leaning])
        transaction.seal()
    assert store.frame(oid).base is None
    assert read(store, oid, len(versions[2])) == versions[2]


def test_self_contained_frames_come_first() -> None:
    storage = MemoryStorage()
    versions = drift(2)
    oid = put_frame(storage, versions[1], versions[0])
    with pytest.raises(MissingObjectError, match=str(Oid.of(Kind.BLOB, versions[0]))):
        ObjectStore(storage).read(oid, Kind.BLOB)
    put_frame(storage, versions[1], None)
    assert read(ObjectStore(storage), oid, len(versions[1])) == versions[1]


def test_a_wrong_base_never_gives_wrong_bytes() -> None:
    storage = MemoryStorage()
    versions = drift(2)
    oid = put_frame(storage, versions[1], versions[0])
    put_frame(storage, versions[0], None)
    for name, whole in list(storage.contents.items()):
        if len(whole) > len(versions[0]):
            damaged = bytearray(whole)
            damaged[100] ^= 1
            storage.contents[name] = bytes(damaged)
    with pytest.raises(CorruptObjectError):
        ObjectStore(storage).read(oid, Kind.BLOB)


# Durability and processes -----------------------------------------------------------------------


def test_ten_thousand_chunks_cost_no_more_syncs_than_one(tmp_path: Path) -> None:
    store = ObjectStore(DirectoryStorage(tmp_path))
    save(store, b"the folders are there now")
    for count in (1, 10_000):
        with counted() as counts, store.begin(mode=Mode.OFF) as transaction:
            transaction.put_chunks((b"%d of %d" % (n, count) for n in range(count)), width=1)
            transaction.seal()
        assert counts["sync"] + counts["sync folder"] == 2


def test_nothing_new_syncs_only_what_another_process_may_not_have(tmp_path: Path) -> None:
    save(ObjectStore(DirectoryStorage(tmp_path)), b"x")
    store = ObjectStore(DirectoryStorage(tmp_path))
    for expected in (1, 0):
        with counted() as counts, store.begin(mode=Mode.OFF) as transaction:
            transaction.put(Kind.BLOB, b"x")
            assert transaction.seal() is None
        assert counts["sync"] + counts["sync folder"] == expected


def test_a_forked_child_has_its_own_threads_and_no_say(tmp_path: Path) -> None:
    store = ObjectStore(DirectoryStorage(tmp_path), workers=2)
    chunks = [bytes([n]) * MIB for n in range(8)]

    def in_child() -> None:
        with pytest.raises(EngineClosedError):
            transaction.seal()
        transaction.discard()
        with store.begin(mode=Mode.OFF) as own:
            own.put_chunks(chunks, width=1)
            own.seal()

    with store.begin(mode=Mode.OFF) as transaction:
        oids = transaction.put_chunks(chunks, width=1)
        with lock_held_elsewhere(store._catalogue._lock):
            status = fork(in_child)
        assert status == 0
        transaction.seal()
    assert read(store, oids[3], MIB) == chunks[3]


@contextmanager
def lock_held_elsewhere(lock: ForkLock) -> Iterator[None]:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def fork(function: Callable[[], None]) -> int:
    """Run a function in a forked child; returns 0 if it returned."""
    child = os.fork()
    if child == 0:
        # Whatever happens, the child must not go on as a second pytest.
        signal.alarm(30)
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def test_an_unreadable_folder_is_an_io_error(tmp_path: Path) -> None:
    (tmp_path / "objects").write_bytes(b"a file")
    with pytest.raises(GradientIOError, match=r"cannot list .*objects"):
        ObjectStore(DirectoryStorage(tmp_path)).begin(mode=Mode.OFF)
