"""The object database: objects by name, over the packs of one storage."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from gradient.codec.mode import Mode
from gradient.errors import CorruptObjectError, GradientError, IntegrityError
from gradient.objects import canonical
from gradient.objects.commit import Link
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Reader, Storage
from gradient.store.blob_batches import batches
from gradient.store.frame_reader import MAX_DEPTH, Place, read_object
from gradient.store.index_compaction import compact
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import FrameRow
from gradient.store.thread_pool import ThreadPool
from gradient.store.transaction import Transaction

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MAX_OPEN_PACKS: Final = 64
_MAX_PER_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class StoreStats:
    """The totals of the packs' indexes."""

    packs: int
    objects: int
    """The number of distinct objects."""
    stored_bytes: int
    """The total length of all packs."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One object to read, and the buffers that it fills."""

    oid: Oid
    places: list[Place]
    outs: list[memoryview]


class ObjectStore:
    """Objects by id. Safe to use from several threads, and in forked children.

    Every object that is read is proved by its hash. A damaged pack does not prevent reading the
    others: it is recorded in `problems`, and the error for a missing object names it.
    """

    def __init__(self, storage: Storage, *, workers: int | None = None) -> None:
        self._storage = storage
        self._catalogue = PackCatalogue(storage)
        self._workers = ThreadPool(workers)
        self._is_self_contained = False

    def __contains__(self, oid: Oid) -> bool:
        return self._catalogue.has_commit(oid) or bool(self._catalogue.find(oid))

    @property
    def problems(self) -> Mapping[str, GradientError]:
        """The errors of the packs that cannot be used, by pack id."""
        self.refresh()
        self._catalogue.recheck()
        return dict(self._catalogue.problems)

    def refresh(self) -> None:
        """Take in packs that other processes wrote. Looking up an unknown object does so too."""
        self._catalogue.refresh()

    def read(self, oid: Oid, kind: Kind, *, limit: int = canonical.MAX_BYTES) -> bytes:
        """Return an object's body, of at most `limit` bytes.

        Raises MissingObjectError, CorruptObjectError or CorruptPackError.
        """
        places = self._find(oid, kind)
        raw = places[0][1].raw
        if raw > limit:
            raise CorruptObjectError(str(oid), f"it has {raw} bytes; at most {limit} are expected")
        body = bytearray(raw)
        read_object(self._catalogue, oid, kind, memoryview(body), places)
        return bytes(body)

    def read_into(self, oid: Oid, out: memoryview) -> None:
        """Fill `out` with a blob of exactly its length; after an error its content is undefined."""
        places = self._find(oid, Kind.BLOB)
        read_object(self._catalogue, oid, Kind.BLOB, _bytes_of(out), places)

    def read_blobs(self, requests: Sequence[tuple[Oid, memoryview]]) -> None:
        """Fill every buffer with its blob, in parallel; raises the first error.

        After an error the content of all buffers is undefined.
        """
        wanted: dict[Oid, _Wanted] = {}
        for oid, out in requests:
            entry = wanted.get(oid)
            if entry is None:
                entry = wanted[oid] = _Wanted(oid, self._find(oid, Kind.BLOB), [])
            entry.outs.append(_bytes_of(out))
        ordered = sorted(wanted.values(), key=_position)
        for group in _by_packs(ordered):
            with ExitStack() as stack:
                readers: dict[str, Reader] = {}
                for pack in {each.places[0][0].id: each.places[0][0] for each in group}.values():
                    try:
                        readers[pack.id] = stack.enter_context(self._catalogue.open(pack))
                    except IntegrityError:
                        continue  # its objects are searched elsewhere, or reported
                read_batch = partial(self._read_batch, readers=readers)
                for _ in self._workers.map(read_batch, _batches(group)):
                    pass

    def is_complete(self, oid: Oid, *, without: Collection[Oid] = (), depth: int = 0) -> bool:
        """Return whether an object and its bases exist, according to the indexes.

        Objects in `without` count as missing.
        """
        if oid in without or depth > MAX_DEPTH:
            return False
        return any(
            row.base is None or self.is_complete(row.base, without=without, depth=depth + 1)
            for _, row in self._catalogue.find(oid)
        )

    @property
    def catalogue(self) -> PackCatalogue:
        """The packs, for maintenance."""
        return self._catalogue

    def can_rely_on(self, oid: Oid, depth: int = 0) -> bool:
        """Return whether a writer may rely on an object: it and its bases are outside the trash.

        According to the indexes; `refresh` brings them up to date.
        """
        return depth <= MAX_DEPTH and any(
            row.base is None or self.can_rely_on(row.base, depth + 1)
            for _, row in self._catalogue.index.find(oid)
        )

    def name_blobs(self, chunks: Iterable[Buffer]) -> Iterator[Oid]:
        """Yield the id of each chunk, hashed in parallel; nothing is read or written."""
        return self._workers.map(partial(Oid.of, Kind.BLOB), chunks)

    def frame(self, oid: Oid) -> FrameRow:
        """Return the frame from which a blob is read first."""
        return self._find(oid, Kind.BLOB)[0][1]

    def stored_bytes(self, oid: Oid) -> int:
        """Return the total bytes of an object's frames, according to the indexes; 0 if none."""
        return sum(row.stored for _, row in self._catalogue.index.find(oid))

    def frame_bytes(self) -> int:
        """Return the total bytes of all frames, according to the indexes at the last refresh."""
        return self._catalogue.index.frame_bytes()

    def indexed_commit(self, oid: Oid) -> bytes | None:
        """Return a commit's body from a multi-pack index; None if none has it (use `read` then).

        It is proved by its hash, and `CommitRecord.from_bytes` accepted it when it was written.
        """
        return self._catalogue.commit(oid)

    def indexed_link(self, oid: Oid) -> Link | None:
        """Return a commit's place in history from a multi-pack index; None if none has it."""
        return self._catalogue.link(oid)

    def find_prefix(self, kind: Kind, hex_prefix: str) -> list[Oid]:
        """Return the sorted ids of the objects of a kind that begin with hex digits."""
        if kind is Kind.COMMIT:
            return [oid for oid in self.commits() if oid.hex().startswith(hex_prefix)]
        return self._catalogue.index.find_prefix(kind, hex_prefix)

    def commits(self) -> Iterator[Oid]:
        """Yield the id of every commit object, sorted, reachable or not."""
        self.refresh()
        yield from sorted(self._catalogue.commits())

    def begin(self, *, mode: Mode, whole: bool = False) -> Transaction:
        """Begin to write objects.

        With `whole` all are stored without a base, also those that the store has as differences.
        """
        self._catalogue.catch_up()
        compact(self._catalogue, self._storage)
        return Transaction(
            self._storage,
            self._catalogue,
            self._workers,
            mode=mode,
            whole=whole,
            self_contained=self._is_self_contained,
        )

    @contextmanager
    def self_contained(self) -> Iterator[None]:
        """Make transactions begun inside write every object, so that no collection disturbs them.

        They take as much space as in an empty store. Those of other threads do so too.
        """
        self._is_self_contained = True
        try:
            yield
        finally:
            self._is_self_contained = False

    def compact_indexes(self) -> None:
        """Make the next opening faster, if there is something to gain; never raises.

        For commands that write anyway. `begin` does it as well.
        """
        self.refresh()
        compact(self._catalogue, self._storage)

    def pack_totals(self) -> tuple[int, int]:
        """Return the number of packs and their total length in bytes, as of the last refresh."""
        return self._catalogue.pack_totals()

    def stats(self) -> StoreStats:
        """Return the totals of the indexes; no object is read."""
        self.refresh()
        count, stored = self.pack_totals()
        return StoreStats(count, self._catalogue.index.object_count(), stored)

    def _find(self, oid: Oid, kind: Kind) -> list[Place]:
        places = self._catalogue.find(oid)
        if not places:
            raise self._catalogue.absence(oid)
        fitting = [place for place in places if place[1].kind is kind]
        if not fitting:
            pack, row = places[0]
            reason = f"it is a {row.kind.value} where a {kind.value} is expected"
            raise CorruptObjectError(str(oid), reason, pack=pack.id)
        return fitting

    def _read_batch(self, batch: list[_Wanted], *, readers: dict[str, Reader]) -> None:
        for each in batch:
            first, *others = each.outs
            read_object(self._catalogue, each.oid, Kind.BLOB, first, each.places, readers=readers)
            for out in others:
                if out.nbytes != first.nbytes:
                    reason = f"it has {first.nbytes} bytes where {out.nbytes} are expected"
                    raise CorruptObjectError(str(each.oid), reason)
                out[:] = first


def _bytes_of(out: memoryview) -> memoryview:
    return out.cast("B") if out.nbytes else memoryview(bytearray())


def _position(wanted: _Wanted) -> tuple[str, int]:
    pack, row = wanted.places[0]
    return pack.id, row.offset


def _by_packs(wanted: list[_Wanted]) -> Iterator[list[_Wanted]]:
    """Split the list, sorted by pack, so that no part needs too many open files."""
    part: list[_Wanted] = []
    packs: set[str] = set()
    for each in wanted:
        pack_id = each.places[0][0].id
        if pack_id not in packs and len(packs) == _MAX_OPEN_PACKS:
            yield part
            part, packs = [], set()
        packs.add(pack_id)
        part.append(each)
    if part:
        yield part


def _batches(wanted: list[_Wanted]) -> Iterator[list[_Wanted]]:
    return batches(wanted, lambda each: each.places[0][1].raw, max_items=_MAX_PER_BATCH)
