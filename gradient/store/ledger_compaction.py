"""Ledgers are written as a store grows: so seldom that each commit pays a constant share.

When enough packs are told of by no ledger, they become one, together with the ledgers that are not
much larger: so there are few, and each pack is written again only as often as they double.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from gradient.errors import GradientError, IntegrityError
from gradient.objects.commit import CommitRecord, Link
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Storage
from gradient.store import multi_pack_index as ledgers
from gradient.store.frame_reader import read_object
from gradient.store.multi_pack_index import MultiPackIndex, Page
from gradient.store.pack import Pack
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import KIND_IDS

_LOG = logging.getLogger("gradient")

LOOSE: Final = 64
"""So many packs that no ledger tells of are worth one."""


def tidy(catalogue: PackCatalogue, storage: Storage, *, least: int = LOOSE) -> None:
    """Write a ledger if at least so many packs are in none; a failure costs nothing but time."""
    try:
        if catalogue.loose >= least:
            # A writer may not have looked at the packs for a while, and a collection taken them.
            catalogue.refresh()
        if catalogue.loose >= least:
            _write(catalogue, storage)
    except GradientError as error:
        _LOG.debug("no ledger written: %s", error)


def _write(catalogue: PackCatalogue, storage: Storage) -> None:
    pages = [page for pack in catalogue.loose_packs() if (page := _page(catalogue, pack))]
    weight = sum(map(_weight, pages))
    replaced: list[MultiPackIndex] = []
    told = catalogue.told()
    for ledger in sorted(told, key=lambda each: (len(told[each]), each.name)):
        few = len(told[ledger]) <= 2 * len(pages)
        if not few or weight + ledger.length > ledgers.MOST_BYTES:
            break
        more = ledger.pages(storage)
        replaced.append(ledger)
        kept = [page for page in more or [] if page.id in told[ledger]]
        pages += kept
        weight += sum(map(_weight, kept))
    written = ledgers.write(storage, sorted(pages, key=lambda page: page.id))
    catalogue.adopt(written, replaced)
    for ledger in replaced:
        if ledger.name != written.name:
            storage.remove(ledger.name)


def _page(catalogue: PackCatalogue, pack: Pack) -> Page | None:
    """Return what a ledger says of a pack; None, from now on, where a commit in it is damaged.

    IMPORTANT: none either of one that has just gone. Its commits would be read out of the trash,
    each after a look at all that lies there: with thousands of packs that takes minutes.
    """
    if not catalogue.sealed(pack):
        return None
    try:
        commits = tuple(_commits(catalogue, pack))
    except IntegrityError:
        catalogue.leave(pack.id)
        return None
    return Page(pack.id, pack.size, pack.index_bytes, len(pack.rows), commits)


def _commits(catalogue: PackCatalogue, pack: Pack) -> Iterator[tuple[Oid, Link, bytes]]:
    for position, kind in enumerate(pack.rows["kind"].tolist()):
        if kind == KIND_IDS[Kind.COMMIT]:
            row = pack.row(position)
            body = bytearray(row.raw)
            read_object(catalogue, row.oid, Kind.COMMIT, memoryview(body), [(pack, row)])
            yield row.oid, CommitRecord.from_bytes(bytes(body)).link, bytes(body)


def _weight(page: Page) -> int:
    return len(page.index) + sum(len(body) for _, _, body in page.commits)
