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
    """Store so many commits, each in a pack of its own with a blob."""
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
    """Write a ledger of all packs that are in none."""
    store = ObjectStore(storage, workers=1)
    store.refresh()
    index_compaction.compact(store._catalogue, storage, min_packs=least)


def ledgers(storage: MemoryStorage) -> list[str]:
    return sorted(name for name in storage.contents if name.startswith(multi_pack_index.FOLDER))


def answers(storage: Storage, oids: list[Oid]) -> dict[str, Any]:
    """Ask a fresh store everything that a ledger could have a say in."""
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
    """Return a list that takes the name of every content that is opened from now on."""
    seen: list[str] = []
    before = storage.open

    def note(name: str) -> Any:
        seen.append(name)
        return before(name)

    monkeypatch.setattr(storage, "open", note)
    return seen


def test_history_is_read_from_ledgers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert seen == ledgers(storage)


def test_packs_that_came_later_are_opened_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_answers_are_the_same_with_and_without(
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
    (name,) = ledgers(storage)
    storage.contents[name] = damaged(storage.contents[name], random.Random(seed))
    assert answers(storage, oids) == expected


def test_what_another_repo_says_is_not_believed_of_this_one() -> None:
    other, storage = MemoryStorage(), MemoryStorage()
    fill(other, 30, first=1000)
    write(other)
    oids = fill(storage, 20)
    expected = answers(storage, oids)
    (name,) = ledgers(other)
    storage.contents[name] = other.contents[name]
    assert answers(storage, oids) == expected


def test_a_forged_index_is_found_out_where_it_matters() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 20)
    expected = answers(storage, oids)
    store = ObjectStore(storage, workers=1)
    store.refresh()
    pages = [
        page
        for pack in store._catalogue.uncovered_packs()
        if (page := index_compaction._entry(store._catalogue, pack))
    ]
    # Every page carries the index of the next pack: well formed, and wrong.
    swapped = [
        multi_pack_index.PackEntry(page.id, page.size, after.index, after.rows, page.commits)
        for page, after in zip(pages, pages[1:] + pages[:1], strict=True)
    ]
    multi_pack_index.write(storage, swapped)
    del expected["prefix"], expected["blob prefix"]
    assert {
        name: found for name, found in answers(storage, oids).items() if name in expected
    } == expected


def test_a_commit_that_was_lost_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_few_ledgers_stay_however_long_the_history() -> None:
    storage = MemoryStorage()
    store = ObjectStore(storage, workers=1)
    parent: Oid | None = None
    written = 0
    for number in range(700):
        with store.begin(mode=Mode.OFF) as transaction:
            parent = transaction.put(Kind.COMMIT, commit(number, parent).to_bytes())
            transaction.seal()
        written = max(written, len(ledgers(storage)))
    assert 1 <= written <= 4
    told = [
        pack_id
        for name in ledgers(storage)
        if (found := multi_pack_index.read(storage, name)) is not None
        for pack_id in found.ids
    ]
    assert len(told) == len(set(told))
    assert 700 - len(told) <= index_compaction.MIN_PACKS


def test_a_place_that_takes_no_ledger_fails_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()

    def refuse(name: str, *buffers: object) -> None:
        raise multi_pack_index.GradientIOError("write", name, OSError(28, "no space left"))

    monkeypatch.setattr(storage, "put_derived", refuse)
    oids = fill(storage, 70)
    assert set(ObjectStore(storage, workers=1).commits()) == set(oids)
    assert ledgers(storage) == []


def test_a_damaged_commit_is_left_to_its_pack() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 20)
    store = ObjectStore(storage, workers=1)
    pack, row = store._find(oids[3], Kind.COMMIT)[0]
    raw = bytearray(storage.contents[pack.name])
    raw[row.offset + row.header_bytes] ^= 1
    storage.contents[pack.name] = bytes(raw)
    write(storage)
    (name,) = ledgers(storage)
    found = multi_pack_index.read(storage, name)
    assert found is not None
    assert len(found.ids) == 19
    assert found.body(oids[3]) is None
    fresh = ObjectStore(storage, workers=1)
    assert set(fresh.commits()) == set(oids)
    assert fresh.indexed_commit(oids[3]) is None


def test_ledgers_that_another_process_replaced() -> None:
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


def test_ledgers_that_tell_of_the_same_packs_and_go() -> None:
    storage = MemoryStorage()
    oids = fill(storage, 3)
    write(storage)
    (first,) = ledgers(storage)
    content = storage.contents[first]
    oids += fill(storage, 3, first=3, parent=oids[-1])
    write(storage)
    storage.contents[first] = content
    store = ObjectStore(storage, workers=1)
    assert set(store.commits()) == set(oids)
    for name in ledgers(storage):
        storage.remove(name)
    blobs = [Oid.of(Kind.BLOB, number.to_bytes(8, "little") * 4) for number in range(6)]
    assert [store.read(oid, Kind.BLOB) for oid in blobs]
    assert [store.read(oid, Kind.COMMIT) for oid in oids]


def test_ledgers_that_another_process_merged_are_done_without() -> None:
    """It was found out when the next ledger was to be written, and failed that commit."""
    storage = MemoryStorage()
    oids = fill(storage, 4)
    write(storage)
    ours = ObjectStore(storage, workers=1)
    assert ours.stats().packs == 4  # the indexes are in memory from now on
    assert set(ours.commits()) == set(oids)
    oids += fill(storage, 4, first=4, parent=oids[-1])
    write(storage)  # in which the first one is merged
    assert len(ledgers(storage)) == 1
    for number in range(8, 20, 3):
        oids += fill(storage, 3, first=number, parent=oids[-1])
        ours.refresh()
        index_compaction.compact(ours.catalogue, storage, min_packs=1)
        assert set(ours.commits()) == set(oids)
    packs = {pack_id for told in ours.catalogue.covered().values() for pack_id in told}
    assert len(packs) == len(oids)
    assert answers(storage, oids)["commits"] == sorted(oids)
    assert all(ours.read(oid, Kind.COMMIT) for oid in oids)


@pytest.mark.parametrize("damage", [b"", b"x" * 400])
def test_a_ledger_that_went_bad_is_written_anew(damage: bytes) -> None:
    storage = MemoryStorage()
    oids = fill(storage, 4)
    write(storage)
    ours = ObjectStore(storage, workers=1)
    assert ours.stats().packs == 4  # the indexes are in memory from now on
    assert set(ours.commits()) == set(oids)
    (name,) = ledgers(storage)
    storage.contents[name] = damage
    oids += fill(storage, 4, first=4, parent=oids[-1])
    ours.refresh()
    index_compaction.compact(ours.catalogue, storage, min_packs=1)
    assert ledgers(storage) != [name]
    assert len(ours.catalogue.covered()) == 1
    assert set(ours.commits()) == set(oids)
    assert answers(storage, oids)["commits"] == sorted(oids)


def looks(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that takes the name of every folder that is listed from now on."""
    seen: list[str] = []
    before = storage.names

    def note(folder: str) -> list[str]:
        seen.append(folder)
        return before(folder)

    monkeypatch.setattr(storage, "names", note)
    return seen


def trash(storage: MemoryStorage) -> None:
    """Move all packs to the trash, as a collection does that has copied what is needed."""
    ids = [pack_id for name in storage.names(packs.FOLDER) if (pack_id := packs.id_of(name))]
    storage.move_all({packs.name_of(each): packs.trashed_name_of("1", each) for each in ids})


def behind(count: int) -> tuple[MemoryStorage, ObjectStore, list[Oid]]:
    """Return a store that knows of so many packs, which are in the trash by now."""
    storage = MemoryStorage()
    ours = ObjectStore(storage, workers=1)
    ours.refresh()
    oids = fill(storage, count)
    ours.refresh()
    trash(storage)
    return storage, ours, oids


def test_no_ledger_tells_of_what_was_collected_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pack was read out of the trash, after a look at all of that: for minutes, under a lease,
    so that the collection could not empty it and the next one added to it."""
    storage, ours, _ = behind(60)
    assert ours.catalogue.uncovered == 60
    looked, opened = looks(storage, monkeypatch), opens(storage, monkeypatch)
    index_compaction.compact(ours.catalogue, storage, min_packs=60)
    assert ours.catalogue.uncovered == 0
    assert not opened
    assert packs.TRASH not in looked
    assert not ledgers(storage)


def test_packs_that_go_while_a_ledger_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_trash_is_listed_once_for_all_that_is_read_there(
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


def test_who_believes_footers_alone_writes_no_ledger_twice() -> None:
    """Each commit after a miss wrote one of all packs."""
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
    """Write a ledger of two packs under right hashes, with other numbers, and read it."""
    storage = MemoryStorage()
    fill(storage, 2)
    write(storage)
    (name,) = ledgers(storage)
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


def test_a_ledger_made_by_hand_is_read() -> None:
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
def test_a_ledger_whose_numbers_do_not_fit_is_none(changes: dict[str, Any]) -> None:
    assert forged(**changes) is None


def test_a_body_under_another_id_is_none() -> None:
    storage = MemoryStorage()
    (oid,) = fill(storage, 1)
    store = ObjectStore(storage, workers=1)
    store.refresh()
    page = index_compaction._entry(store._catalogue, store._catalogue.uncovered_packs()[0])
    assert page is not None
    ((_, link, body),) = page.commits
    other = commit(7).to_bytes()
    for told, found in ((body, body), (other, None)):
        lying = multi_pack_index.PackEntry(
            page.id, page.size, page.index, page.rows, ((oid, link, told),)
        )
        assert multi_pack_index.write(storage, [lying]).body(oid) == found


def test_indexes_that_were_altered_are_none() -> None:
    storage = MemoryStorage()
    fill(storage, 2)
    write(storage)
    (name,) = ledgers(storage)
    whole = storage.contents[name]
    read = multi_pack_index.read(storage, name)
    assert read is not None
    for raw, right in ((whole, True), (whole[:-1], False), (whole[:-1] + b"x", False)):
        storage.contents[name] = raw
        assert (read.indexes(storage) is not None) == right


def test_what_is_wrong_with_packs_is_asked_of_them() -> None:
    storage = MemoryStorage()
    fill(storage, 2)
    write(storage)
    name = min(name for name in storage.contents if name.endswith(".pack"))
    storage.contents[name] = storage.contents[name][:-1] + b"x"
    assert [*ObjectStore(storage, workers=1).problems] == [name[len("objects/pack/") :][:-5]]


class Told(dict[str, multi_pack_index.MultiPackIndex]):
    """Lets another thread write a ledger while the first one looks through what is told."""

    def __init__(
        self, told: dict[str, multi_pack_index.MultiPackIndex], meanwhile: threading.Thread
    ) -> None:
        super().__init__(told)
        self._meanwhile = meanwhile

    def __contains__(self, key: object) -> bool:
        if self._meanwhile.ident is None:
            self._meanwhile.start()
            self._meanwhile.join(0.2)  # it has to wait for us, or is through by then
        return super().__contains__(key)


def test_commits_are_listed_while_another_thread_writes_a_ledger() -> None:
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
    catalogue._covered._index_of = Told(catalogue._covered._index_of, meanwhile)
    assert sorted(catalogue.commits()) == sorted(oids)
    meanwhile.join()
    assert catalogue.uncovered == 0
