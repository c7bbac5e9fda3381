from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from gradient.objects.oid import Kind, Oid
from gradient.store.object_index import ObjectIndex
from gradient.store.pack import Pack
from gradient.store.pack_format import FrameRow, index_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = [Kind.BLOB, Kind.TREE, Kind.COMMIT]
# Few values, so that prefixes and whole names collide.
OIDS = st.tuples(st.integers(0, 3), st.integers(0, 2)).map(
    lambda pair: Oid(bytes([pair[0]]) * 8 + bytes([pair[1]]) * 24)
)


def make_pack(number: int, oids: Iterable[Oid]) -> Pack:
    rows = []
    offset = 16
    for oid in sorted(set(oids)):
        base = Oid(bytes(32)) if (number + oid[31]) % 2 else None
        rows.append(FrameRow(oid, offset, 5, 5, KINDS[0 if base else oid[8] % 3], 0, base))
        offset += 53
    index, _ = index_bytes(rows)
    return Pack(f"{number:064x}", index, len(rows), offset)


@given(
    st.lists(st.lists(st.lists(OIDS, min_size=1, max_size=6), max_size=4), max_size=8),
    st.sets(st.integers(0, 10)),
)
def test_it_finds_the_same_as_a_linear_search(
    batches: list[list[list[Oid]]], gone: set[int]
) -> None:
    index = ObjectIndex()
    packs: list[Pack] = []
    for batch in batches:
        fresh = [make_pack(len(packs) + n, oids) for n, oids in enumerate(batch)]
        index.add(fresh)
        packs += fresh
    for number in gone:
        index.drop(f"{number:064x}")
    packs = [pack for n, pack in enumerate(packs) if n not in gone]
    rows = [(p.id, p.row(at)) for p in packs for at in range(len(p.rows))]
    assert index.ids == {pack.id for pack in packs}
    # What was dropped does not pile up.
    assert sum(len(run.prefixes) for run in index._runs) <= 2 * len(rows)
    for oid in {Oid(bytes([a]) * 8 + bytes([b]) * 24) for a in range(4) for b in range(3)}:
        found = index.find(oid)
        expected = {(pack_id, row.offset) for pack_id, row in rows if row.oid == oid}
        assert {(pack.id, row.offset) for pack, row in found} == expected
        based = [row.base is not None for _, row in found]
        assert based == sorted(based)
    for kind in KINDS:
        of_kind = sorted({row.oid for _, row in rows if row.kind is kind})
        assert index.of_kind(kind) == of_kind
        for prefix in ("", "0", "01", "0101010101010101", "0101010101010101" + "00" * 24, "1"):
            hits = [oid for oid in of_kind if oid.hex().startswith(prefix)]
            assert index.find_prefix(kind, prefix) == hits
    assert index.object_count() == len({row.oid[:8] for _, row in rows})


def test_a_pack_can_come_back() -> None:
    index = ObjectIndex()
    pack = make_pack(1, [Oid(b"a" * 32)])
    index.add([pack])
    index.drop(pack.id)
    index.drop(pack.id)
    assert index.find(Oid(b"a" * 32)) == []
    index.add([pack])
    assert len(index.find(Oid(b"a" * 32))) == 1
