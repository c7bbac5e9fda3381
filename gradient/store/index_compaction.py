"""The writing and merging of multi-pack indexes while a store grows, at a constant cost per commit.

When enough packs are covered by no multi-pack index, a new one covers them. It also takes over the
packs of the existing indexes that are not much larger. So there are few indexes, and the entry of a
pack is written again only each time their size doubles.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from gradient.errors import GradientError, IntegrityError
from gradient.objects.commit import CommitRecord, Link
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Storage
from gradient.store import multi_pack_index
from gradient.store.frame_reader import read_object
from gradient.store.multi_pack_index import MultiPackIndex, PackEntry
from gradient.store.pack import Pack
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import KIND_IDS

_LOG = logging.getLogger("gradient")

MIN_PACKS: Final = 64
"""The number of uncovered packs that justify a multi-pack index."""


def compact(catalogue: PackCatalogue, storage: Storage, *, min_packs: int = MIN_PACKS) -> None:
    """Write a multi-pack index if at least `min_packs` packs are uncovered.

    A failure is only logged: it costs nothing but time.
    """
    try:
        if catalogue.uncovered >= min_packs:
            # A writer may not have refreshed for a while, and a collection taken the packs away.
            catalogue.refresh()
        if catalogue.uncovered >= min_packs:
            _write(catalogue, storage)
    except GradientError as error:
        _LOG.debug("no multi-pack index written: %s", error)


def _write(catalogue: PackCatalogue, storage: Storage) -> None:
    entries = [entry for pack in catalogue.uncovered_packs() if (entry := _entry(catalogue, pack))]
    weight = sum(map(_weight, entries))
    replaced: list[MultiPackIndex] = []
    covered = catalogue.covered()
    for index in sorted(covered, key=lambda each: (len(covered[each]), each.name)):
        is_small = len(covered[index]) <= 2 * len(entries)
        if not is_small or weight + index.length > multi_pack_index.MAX_MERGED_BYTES:
            break
        more = index.entries(storage)
        replaced.append(index)
        kept = [entry for entry in more or [] if entry.id in covered[index]]
        entries += kept
        weight += sum(map(_weight, kept))
    written = multi_pack_index.write(storage, sorted(entries, key=lambda entry: entry.id))
    catalogue.adopt(written, replaced)
    for index in replaced:
        if index.name != written.name:
            storage.remove(index.name)


def _entry(catalogue: PackCatalogue, pack: Pack) -> PackEntry | None:
    """Return the entry of a pack; None if it has gone, or a commit in it is damaged.

    IMPORTANT: a pack that has just gone gets no entry. Its commits would be read out of the trash,
    which is listed for each of them: with thousands of packs that takes minutes.
    """
    if not catalogue.sealed(pack):
        return None
    try:
        commits = tuple(_commits(catalogue, pack))
    except IntegrityError:
        catalogue.exclude(pack.id)
        return None
    return PackEntry(pack.id, pack.size, pack.index_bytes, len(pack.rows), commits)


def _commits(catalogue: PackCatalogue, pack: Pack) -> Iterator[tuple[Oid, Link, bytes]]:
    for position, kind in enumerate(pack.rows["kind"].tolist()):
        if kind == KIND_IDS[Kind.COMMIT]:
            row = pack.row(position)
            body = bytearray(row.raw)
            read_object(catalogue, row.oid, Kind.COMMIT, memoryview(body), [(pack, row)])
            yield row.oid, CommitRecord.from_bytes(bytes(body)).link, bytes(body)


def _weight(entry: PackEntry) -> int:
    return len(entry.index) + sum(len(body) for _, _, body in entry.commits)
