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
from gradient.store.transaction import Transaction
from gradient.store.workers import Workers

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MOST_OPEN_PACKS: Final = 64
_MAX_PER_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the indexes add up to."""

    packs: int
    objects: int
    """Different objects."""
    stored_bytes: int
    """The length of all packs."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One object to read, and everywhere it goes."""

    oid: Oid
    places: list[Place]
    outs: list[memoryview]


class ObjectStore:
    """Objects by name. Safe to use from several threads, and anew in forked children.

    Every object that is read is proved by its hash. A damaged pack does not keep the others from
    being read: it is noted in `problems`, and named where an object turns out to be missing.
    """

    def __init__(self, storage: Storage, *, workers: int | None = None) -> None:
        self._storage = storage
        self._catalogue = PackCatalogue(storage)
        self._workers = Workers(workers)
        self._alone = False

    def __contains__(self, oid: Oid) -> bool:
        return self._catalogue.has_commit(oid) or bool(self._catalogue.find(oid))

    @property
    def problems(self) -> Mapping[str, GradientError]:
        """What is wrong with the packs that can not be used, by pack id."""
        self.refresh()
        self._catalogue.recheck()
        return dict(self._catalogue.problems)

    def refresh(self) -> None:
        """Take in packs that other processes wrote. A miss does that by itself."""
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

    def read_blobs(self, jobs: Sequence[tuple[Oid, memoryview]]) -> None:
        """Fill every buffer with its blob, in parallel; raises the first error met.

        After an error the content of all buffers is undefined.
        """
        wanted: dict[Oid, _Wanted] = {}
        for oid, out in jobs:
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
                        continue  # each of its objects is looked for elsewhere, or named
                read_batch = partial(self._read_batch, readers=readers)
                for _ in self._workers.map(read_batch, _batches(group)):
                    pass

    def is_whole(self, oid: Oid, *, without: Collection[Oid] = (), depth: int = 0) -> bool:
        """Tell whether an object is there, and what it is a difference from, by the indexes alone.

        Those in `without` count as missing.
        """
        if oid in without or depth > MAX_DEPTH:
            return False
        return any(
            row.base is None or self.is_whole(row.base, without=without, depth=depth + 1)
            for _, row in self._catalogue.find(oid)
        )

    @property
    def catalogue(self) -> PackCatalogue:
        """The packs, for those who look after them."""
        return self._catalogue

    def stands(self, oid: Oid, depth: int = 0) -> bool:
        """Tell whether a writer may rely on an object: it, and its bases, lie outside the trash.

        By the indexes; `refresh` brings them up to date.
        """
        return depth <= MAX_DEPTH and any(
            row.base is None or self.stands(row.base, depth + 1)
            for _, row in self._catalogue.index.find(oid)
        )

    def name_blobs(self, chunks: Iterable[Buffer]) -> Iterator[Oid]:
        """Yield what each chunk is called, hashed in parallel; nothing is read or written."""
        return self._workers.map(partial(Oid.of, Kind.BLOB), chunks)

    def frame(self, oid: Oid) -> FrameRow:
        """Return how a blob is stored: the frame that it is read from first."""
        return self._find(oid, Kind.BLOB)[0][1]

    def stored(self, oid: Oid) -> int:
        """Return the bytes of all frames of an object, by the indexes; 0 where there is none."""
        return sum(row.stored for _, row in self._catalogue.index.find(oid))

    def frame_bytes(self) -> int:
        """Return the bytes of all frames, by the indexes as of the last refresh."""
        return self._catalogue.index.frame_bytes()

    def known_commit(self, oid: Oid) -> bytes | None:
        """Return the body of a commit that a ledger has; None where `read` is to be asked.

        It is proved by its hash, and was accepted by `Commit.from_bytes` when it got there.
        """
        return self._catalogue.commit(oid)

    def known_link(self, oid: Oid) -> Link | None:
        """Return a commit's place in history where a ledger tells of it."""
        return self._catalogue.link(oid)

    def find_prefix(self, kind: Kind, hex_prefix: str) -> list[Oid]:
        """Return the sorted ids of the objects of a kind that begin with hex digits."""
        if kind is Kind.COMMIT:
            return [oid for oid in self.commits() if oid.hex().startswith(hex_prefix)]
        return self._catalogue.index.find_prefix(kind, hex_prefix)

    def commits(self) -> Iterator[Oid]:
        """Yield the id of every commit object, sorted; whether a ref leads to it or not."""
        self.refresh()
        yield from sorted(self._catalogue.commits())

    def begin(self, *, mode: Mode, plain: bool = False) -> Transaction:
        """Begin to write objects; `plain`: all without a base, also those stored as differences."""
        self._catalogue.catch_up()
        compact(self._catalogue, self._storage)
        return Transaction(
            self._storage,
            self._catalogue,
            self._workers,
            mode=mode,
            plain=plain,
            alone=self._alone,
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let what is begun meanwhile rely on nothing that is there, and so not be disturbed.

        It takes as much space as if the store were empty. Whatever another thread begins meanwhile
        does so too.
        """
        self._alone = True
        try:
            yield
        finally:
            self._alone = False

    def compact_indexes(self) -> None:
        """Make the next opening faster, if there is something to gain; never raises.

        For commands that write anyway. `begin` does it as well.
        """
        self.refresh()
        compact(self._catalogue, self._storage)

    def packs(self) -> tuple[int, int]:
        """Return the number of packs, and the length of all together, as of the last refresh."""
        return self._catalogue.packs()

    def stats(self) -> StoreStats:
        """Add up the indexes; no object is read."""
        self.refresh()
        count, stored = self.packs()
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
    """Cut the list, sorted by pack, so that no part needs too many open files."""
    part: list[_Wanted] = []
    packs: set[str] = set()
    for each in wanted:
        pack_id = each.places[0][0].id
        if pack_id not in packs and len(packs) == _MOST_OPEN_PACKS:
            yield part
            part, packs = [], set()
        packs.add(pack_id)
        part.append(each)
    if part:
        yield part


def _batches(wanted: list[_Wanted]) -> Iterator[list[_Wanted]]:
    return batches(wanted, lambda each: each.places[0][1].raw, max_items=_MAX_PER_BATCH)
