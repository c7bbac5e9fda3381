from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from gradient.codec.mode import Mode
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Storage
from gradient.storage.memory import MemoryStorage
from gradient.store import index_compaction, multi_pack_index
from gradient.store import pack as packs
from gradient.store.object_store import ObjectStore

TREE = Oid(bytes(range(32)))


def commit(number: int, parent: Oid | None = None, branch: str = "main") -> CommitRecord:
    return CommitRecord(
        tree=TREE,
        parents=() if parent is None else (parent,),
        anchor=None if number % 3 == 0 else parent,
        step=number,
        branch=branch,
        time="2026-02-10T12:34:56.000000",
        message=f"number {number}",
    )


def fill(storage: Storage, count: int, *, first: int = 0, parent: Oid | None = None) -> list[Oid]:
    """Store `count` commits, each in a pack of its own with a blob."""
    store = ObjectStore(storage, workers=1)
    oids = []
    for number in range(first, first + count):
        with store.begin(mode=Mode.OFF) as transaction:
            transaction.put(Kind.BLOB, number.to_bytes(8, "little") * 4)
            parent = transaction.put(
                Kind.COMMIT, commit(number, parent, f"b{number % 4}").to_bytes()
            )
            transaction.seal()
        oids.append(parent)
    return oids


def write(storage: Storage, *, least: int = 1) -> None:
    """Write a multi-pack index for all uncovered packs."""
    store = ObjectStore(storage, workers=1)
    store.refresh()
    index_compaction.compact(store._catalogue, storage, min_packs=least)


def index_files(storage: MemoryStorage) -> list[str]:
    return sorted(name for name in storage.contents if name.startswith(multi_pack_index.FOLDER))


def answers(storage: Storage, oids: list[Oid]) -> dict[str, Any]:
    """Return a fresh store's answers to everything that a multi-pack index can answer."""
    store = ObjectStore(storage, workers=1)
    links = [
        store.indexed_link(oid) or CommitRecord.from_bytes(store.read(oid, Kind.COMMIT)).link
        for oid in oids
    ]
    bodies = [store.indexed_commit(oid) or store.read(oid, Kind.COMMIT) for oid in oids]
    blobs = [Oid.of(Kind.BLOB, number.to_bytes(8, "little") * 4) for number in range(len(oids))]
    return {
        "commits": list(store.commits()),
        "links": links,
        "bodies": bodies,
        "blobs": [store.read(oid, Kind.BLOB) for oid in blobs],
        "prefix": [store.find_prefix(Kind.COMMIT, str(oid)[:6]) for oid in oids],
        "blob prefix": [store.find_prefix(Kind.BLOB, str(oid)[:6]) for oid in blobs],
        "there": [oid in store for oid in (*oids, *blobs, TREE)],
        "packs": store.pack_totals(),
        "stats": store.stats(),
        "problems": dict(store.problems),
    }


def opens(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every opened name is added from now on."""
    seen: list[str] = []
    before = storage.open

    def note(name: str) -> Any:
        seen.append(name)
        return before(name)

    monkeypatch.setattr(storage, "open", note)
    return seen


def test_history_is_read_from_multi_pack_indexes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    oids = fill(storage, 40)
    write(storage)
    seen = opens(storage, monkeypatch)
    store = ObjectStore(storage, workers=1)
    assert [CommitRecord.from_known(store.indexed_commit(oid) or b"").step for oid in oids] == [
        *range(40)
    ]
    assert [store.indexed_link(oid) for oid in oids] == [
        CommitRecord.from_known(store.indexed_commit(oid) or b"").link for oid in oids
    ]
    assert store.pack_totals()[0] == 40
    assert oids[0] in store
    assert set(store.commits()) == set(oids)
    assert seen == index_files(storage)


def test_newer_packs_are_opened_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    oids = fill(storage, 40)
    write(storage)
    oids += fill(storage, 3, first=40, parent=oids[-1])
    seen = opens(storage, monkeypatch)
    store = ObjectStore(storage, workers=1)
    assert set(store.commits()) == set(oids)
    assert sorted(name.partition("/")[0] for name in seen) == ["ledgers", *["objects"] * 3]


@given(
    first=st.integers(0, 40),
    more=st.integers(0, 30),
    removed=st.sets(st.integers(0, 60)),
    data=st.data(),
)
def test_answers_are_the_same_with_and_without_them(
    first: int, more: int, removed: set[int], data: st.DataObject
) -> None:
    storage = MemoryStorage()
    oids = fill(storage, first)
    write(storage, least=data.draw(st.integers(1, 5)))
    oids += fill(storage, more, first=first, parent=oids[-1] if oids else None)
    if data.draw(st.booleans()):
        write(storage)
    plain = MemoryStorage()
    plain.contents = {
        name: raw
        for name, raw in storage.contents.items()
        if not name.startswith(multi_pack_index.FOLDER)
    }
    assert answers(storage, oids) == answers(plain, oids)
    # And where packs have gone since.
    packs = sorted(plain.contents)
    gone = {packs[number] for number in removed if number < len(packs)}
    for name in gone:
        del storage.contents[name], plain.contents[name]
    with_it, without = ObjectStore(storage, workers=1), ObjectStore(plain, workers=1)
    assert list(with_it.commits()) == list(without.commits())
    assert [oid in with_it for oid in oids] == [oid in without for oid in oids]
    assert with_it.stats() == without.stats()


def damaged(raw: bytes, chance: random.Random) -> bytes:
    way = chance.randrange(4)
    at = chance.randrange(len(raw))
    if way == 0:
        return raw[:at]
    if way == 1:
        return raw + b"\0"
    if way == 2:
        return bytes(len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :]


@pytest.mark.parametrize("seed", range(60))
def test_damage_costs_time_and_nothing_else(seed: int) -> None:
    storage = MemoryStorage()
    oids = fill(storage, 24)
    expected = answers(storage, oids)
    write(storage)
    (name,) = index_files(storage)
    storage.contents[name] = damaged(storage.contents[name], random.Random(seed))
    assert answers(storage, oids) == expected


def test_the_index_of_another_repo_is_not_believed() -> None:
    other, storage = MemoryStorage(), MemoryStorage()
    fill(other, 30, first=1000)
    write(other)
    oids = fill(storage, 20)
    expected = answers(storage, oids)
    (name,) = index_files(other)
    storage.contents[name] = other.contents[name]
    assert answers(storage, oids) == expected


def test_a_forged_index_gives_no_wrong_objects() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 20)
    expected = answers(storage, oids)
    store = ObjectStore(storage, workers=1)
    store.refresh()
    entries = [
        entry
        for pack in store._catalogue.uncovered_packs()
        if (entry := index_compaction._entry(store._catalogue, pack))
    ]
    # Every entry has the index of the next pack: well formed, but wrong.
    swapped = [
        multi_pack_index.PackEntry(entry.id, entry.size, after.index, after.rows, entry.commits)
        for entry, after in zip(entries, entries[1:] + entries[:1], strict=True)
    ]
    multi_pack_index.write(storage, swapped)
    del expected["prefix"], expected["blob prefix"]
    assert {
        name: found for name, found in answers(storage, oids).items() if name in expected
    } == expected


def test_a_commit_in_a_damaged_pack_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    oids = fill(storage, 20)
    write(storage)
    store = ObjectStore(storage, workers=1)
    pack_id = store._catalogue._covered._commits[oids[4]] if oids[4] in store else ""
    name = f"objects/pack/{pack_id}.pack"
    storage.contents[name] = storage.contents[name][:-1]
    fresh = ObjectStore(storage, workers=1)
    assert oids[4] not in fresh
    assert oids[5] in fresh
    assert fresh.problems.keys() == {pack_id}


def test_a_long_history_has_few_multi_pack_indexes() -> None:
    storage = MemoryStorage()
    store = ObjectStore(storage, workers=1)
    parent: Oid | None = None
    written = 0
    for number in range(700):
        with store.begin(mode=Mode.OFF) as transaction:
            parent = transaction.put(Kind.COMMIT, commit(number, parent).to_bytes())
            transaction.seal()
        written = max(written, len(index_files(storage)))
    assert 1 <= written <= 4
    covered = [
        pack_id
        for name in index_files(storage)
        if (found := multi_pack_index.read(storage, name)) is not None
        for pack_id in found.ids
    ]
    assert len(covered) == len(set(covered))
    assert 700 - len(covered) <= index_compaction.MIN_PACKS


def test_a_failed_write_does_not_fail_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()

    def refuse(name: str, *buffers: object) -> None:
        raise multi_pack_index.GradientIOError("write", name, OSError(28, "no space left"))

    monkeypatch.setattr(storage, "put_derived", refuse)
    oids = fill(storage, 70)
    assert set(ObjectStore(storage, workers=1).commits()) == set(oids)
    assert index_files(storage) == []


def test_a_damaged_commit_is_left_to_its_pack() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 20)
    store = ObjectStore(storage, workers=1)
    pack, row = store._find(oids[3], Kind.COMMIT)[0]
    raw = bytearray(storage.contents[pack.name])
    raw[row.offset + row.header_bytes] ^= 1
    storage.contents[pack.name] = bytes(raw)
    write(storage)
    (name,) = index_files(storage)
    found = multi_pack_index.read(storage, name)
    assert found is not None
    assert len(found.ids) == 19
    assert found.body(oids[3]) is None
    fresh = ObjectStore(storage, workers=1)
    assert set(fresh.commits()) == set(oids)
    assert fresh.indexed_commit(oids[3]) is None


def test_another_process_has_replaced_them() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 3)
    write(storage)
    mine = ObjectStore(storage, workers=1)
    mine.refresh()
    for first in (3, 6):
        oids += fill(storage, 3, first=first, parent=oids[-1])
        mine.refresh()
        write(storage)  # the other one was faster: what this one knows of is gone
        index_compaction.compact(mine.catalogue, storage, min_packs=1)
        assert set(mine.commits()) == set(oids)
        assert [mine.indexed_commit(oid) or mine.read(oid, Kind.COMMIT) for oid in oids]
    assert answers(storage, oids)["packs"] == mine.pack_totals()


def test_two_cover_the_same_packs_and_vanish() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 3)
    write(storage)
    (first,) = index_files(storage)
    content = storage.contents[first]
    oids += fill(storage, 3, first=3, parent=oids[-1])
    write(storage)
    storage.contents[first] = content
    store = ObjectStore(storage, workers=1)
    assert set(store.commits()) == set(oids)
    for name in index_files(storage):
        storage.remove(name)
    blobs = [Oid.of(Kind.BLOB, number.to_bytes(8, "little") * 4) for number in range(6)]
    assert [store.read(oid, Kind.BLOB) for oid in blobs]
    assert [store.read(oid, Kind.COMMIT) for oid in oids]


def test_another_process_has_merged_them() -> None:
    """The store noticed only when it wrote the next one, and that commit failed."""
    storage = MemoryStorage()
    oids = fill(storage, 4)
    write(storage)
    ours = ObjectStore(storage, workers=1)
    assert ours.stats().packs == 4  # the indexes are in memory from now on
    assert set(ours.commits()) == set(oids)
    oids += fill(storage, 4, first=4, parent=oids[-1])
    write(storage)  # in which the first one is merged
    assert len(index_files(storage)) == 1
    for number in range(8, 20, 3):
        oids += fill(storage, 3, first=number, parent=oids[-1])
        ours.refresh()
        index_compaction.compact(ours.catalogue, storage, min_packs=1)
        assert set(ours.commits()) == set(oids)
    packs = {pack_id for ids in ours.catalogue.covered().values() for pack_id in ids}
    assert len(packs) == len(oids)
    assert answers(storage, oids)["commits"] == sorted(oids)
    assert all(ours.read(oid, Kind.COMMIT) for oid in oids)


@pytest.mark.parametrize("damage", [b"", b"x" * 400])
def test_a_damaged_one_is_replaced(damage: bytes) -> None:
    storage = MemoryStorage()
    oids = fill(storage, 4)
    write(storage)
    ours = ObjectStore(storage, workers=1)
    assert ours.stats().packs == 4  # the indexes are in memory from now on
    assert set(ours.commits()) == set(oids)
    (name,) = index_files(storage)
    storage.contents[name] = damage
    oids += fill(storage, 4, first=4, parent=oids[-1])
    ours.refresh()
    index_compaction.compact(ours.catalogue, storage, min_packs=1)
    assert index_files(storage) != [name]
    assert len(ours.catalogue.covered()) == 1
    assert set(ours.commits()) == set(oids)
    assert answers(storage, oids)["commits"] == sorted(oids)


def looks(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which every listed folder is added from now on."""
    seen: list[str] = []
    before = storage.names

    def note(folder: str) -> list[str]:
        seen.append(folder)
        return before(folder)

    monkeypatch.setattr(storage, "names", note)
    return seen


def trash(storage: MemoryStorage) -> None:
    """Move all packs to the trash, as a collection does after copying the needed objects."""
    ids = [pack_id for name in storage.names(packs.FOLDER) if (pack_id := packs.id_of(name))]
    storage.move_all({packs.name_of(each): packs.trashed_name_of("1", each) for each in ids})


def behind(count: int) -> tuple[MemoryStorage, ObjectStore, list[Oid]]:
    """Return a store that knows `count` packs, which have been moved to the trash since."""
    storage = MemoryStorage()
    ours = ObjectStore(storage, workers=1)
    ours.refresh()
    oids = fill(storage, count)
    ours.refresh()
    trash(storage)
    return storage, ours, oids


def test_packs_collected_in_between_are_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pack was read from the trash, which was listed each time. That took minutes, under a
    lease, so that collections filled the trash and could not empty it."""
    storage, ours, _ = behind(60)
    assert ours.catalogue.uncovered == 60
    looked, opened = looks(storage, monkeypatch), opens(storage, monkeypatch)
    index_compaction.compact(ours.catalogue, storage, min_packs=60)
    assert ours.catalogue.uncovered == 0
    assert not opened
    assert packs.TRASH not in looked
    assert not index_files(storage)


def test_packs_collected_during_the_write_are_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    fill(storage, 60)
    ours = ObjectStore(storage, workers=1)
    ours.refresh()
    refresh = ours.catalogue.refresh
    monkeypatch.setattr(ours.catalogue, "refresh", lambda: (refresh(), trash(storage)))
    looked, opened = looks(storage, monkeypatch), opens(storage, monkeypatch)
    index_compaction.compact(ours.catalogue, storage, min_packs=60)
    assert not opened
    assert packs.TRASH not in looked


def test_many_reads_from_the_trash_list_it_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage, ours, oids = behind(30)
    looked = looks(storage, monkeypatch)
    assert all(ours.read(oid, Kind.COMMIT) for oid in oids)
    assert looked.count(packs.TRASH) == 1
    # It came back, and another collection took it: the name that is known leads nowhere.
    first = next(name for name in storage.contents if name.startswith(packs.TRASH))
    storage.move_all({first: first.replace("/1.", "/2.")})
    assert all(ours.read(oid, Kind.COMMIT) for oid in oids)
    assert looked.count(packs.TRASH) == 2


def test_a_store_that_trusts_footers_only_writes_each_pack_once() -> None:
    """Each commit after a failed look-up wrote an index of all packs."""
    storage = MemoryStorage()
    oids = fill(storage, 100)
    ours = ObjectStore(storage, workers=1)
    ours.refresh()
    assert ours.catalogue.recheck()
    assert ours.catalogue.uncovered == 100
    index_compaction.compact(ours.catalogue, storage)
    assert ours.catalogue.uncovered == 0
    assert set(ours.commits()) == set(oids)
    assert not ours.catalogue.covered()


def forged(**changes: Any) -> multi_pack_index.MultiPackIndex | None:
    """Write a multi-pack index of two packs with changed numbers and right hashes, and read it."""
    storage = MemoryStorage()
    fill(storage, 2)
    write(storage)
    (name,) = index_files(storage)
    raw = storage.contents.pop(name)
    keys = ["magic", "version", "packs", "commits", "names", "length", "rest", "hash", "other"]
    head = dict(zip(keys, multi_pack_index.HEAD.unpack_from(raw), strict=True))
    facts = bytearray(raw[multi_pack_index.HEAD.size :][: head["length"]])
    table = multi_pack_index.PACK.itemsize * head["packs"]
    for field, value in changes.items():
        if field == "body":
            np.frombuffer(facts, multi_pack_index.COMMIT, head["commits"], table)["length"][0] = (
                value
            )
        elif field in (multi_pack_index.COMMIT.names or ()):
            np.frombuffer(facts, multi_pack_index.COMMIT, head["commits"], table)[field][0] = value
        elif field in (multi_pack_index.PACK.names or ()):
            np.frombuffer(facts, multi_pack_index.PACK, head["packs"])[field][0] = value
    head |= {"hash": blake3(facts).digest()}
    head |= {field: value for field, value in changes.items() if field in head}
    first = multi_pack_index.HEAD.pack(*head.values())
    made = first + facts + raw[multi_pack_index.HEAD.size + len(facts) :] + changes.get("more", b"")
    storage.contents[multi_pack_index.name_of(first)] = made
    return multi_pack_index.read(storage, multi_pack_index.name_of(first))


def test_one_made_by_hand_is_read() -> None:
    assert forged() is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": b"GRADLEDH"},
        {"version": 2},
        {"packs": 0},
        {"packs": 1 << 30},
        {"names": 3},
        {"hash": bytes(32)},
        {"rest": 0},
        {"more": b"x"},
        {"body": 7},
        {"rows": 9},
        {"bases": 1},
        {"size": 10},
        {"pack": 2},
        {"branch": 9},
    ],
)
def test_inconsistent_numbers_are_refused(changes: dict[str, Any]) -> None:
    assert forged(**changes) is None


def test_a_body_under_another_id_is_refused() -> None:
    storage = MemoryStorage()
    (oid,) = fill(storage, 1)
    store = ObjectStore(storage, workers=1)
    store.refresh()
    entry = index_compaction._entry(store._catalogue, store._catalogue.uncovered_packs()[0])
    assert entry is not None
    ((_, link, body),) = entry.commits
    other = commit(7).to_bytes()
    for written, found in ((body, body), (other, None)):
        lying = multi_pack_index.PackEntry(
            entry.id, entry.size, entry.index, entry.rows, ((oid, link, written),)
        )
        assert multi_pack_index.write(storage, [lying]).body(oid) == found


def test_altered_indexes_are_refused() -> None:
    storage = MemoryStorage()
    fill(storage, 2)
    write(storage)
    (name,) = index_files(storage)
    whole = storage.contents[name]
    read = multi_pack_index.read(storage, name)
    assert read is not None
    for raw, right in ((whole, True), (whole[:-1], False), (whole[:-1] + b"x", False)):
        storage.contents[name] = raw
        assert (read.indexes(storage) is not None) == right


def test_problems_come_from_the_packs_themselves() -> None:
    storage = MemoryStorage()
    fill(storage, 2)
    write(storage)
    name = min(name for name in storage.contents if name.endswith(".pack"))
    storage.contents[name] = storage.contents[name][:-1] + b"x"
    assert [*ObjectStore(storage, workers=1).problems] == [name[len("objects/pack/") :][:-5]]


class SlowMembership(dict[str, multi_pack_index.MultiPackIndex]):
    """Lets another thread write a multi-pack index while the first one tests membership."""

    def __init__(
        self, covered: dict[str, multi_pack_index.MultiPackIndex], meanwhile: threading.Thread
    ) -> None:
        super().__init__(covered)
        self._meanwhile = meanwhile

    def __contains__(self, key: object) -> bool:
        if self._meanwhile.ident is None:
            self._meanwhile.start()
            self._meanwhile.join(0.2)  # it has to wait for us, or is through by then
        return super().__contains__(key)


def test_commits_are_listed_while_another_thread_writes_one() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 5)
    write(storage)
    store = ObjectStore(storage, workers=1)
    catalogue = store.catalogue
    assert sorted(store.commits()) == sorted(oids)
    oids += fill(storage, 5, first=5, parent=oids[-1])
    catalogue.refresh()
    assert catalogue.uncovered == 5
    meanwhile = threading.Thread(
        target=index_compaction.compact, args=(catalogue, storage), kwargs={"min_packs": 1}
    )
    catalogue._covered._index_of = SlowMembership(catalogue._covered._index_of, meanwhile)
    assert sorted(catalogue.commits()) == sorted(oids)
    meanwhile.join()
    assert catalogue.uncovered == 0
