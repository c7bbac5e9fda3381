"""New objects on their way into one pack."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Self

from gradient.codec.frame import Chunk, Codec, Encoded, encode_all
from gradient.codec.mode import Mode
from gradient.codec.scratch_buffers import SCRATCH
from gradient.errors import (
    EngineClosedError,
    GradientError,
    GradientIOError,
    IntegrityError,
    MalformedObjectError,
    StoreChangedError,
)
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Reader, Storage
from gradient.store import pack_format
from gradient.store.blob_batches import PendingBlob, StoredBlob, batches
from gradient.store.frame_reader import MAX_DEPTH, read_object
from gradient.store.pack import Pack, PackWriter
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.workers import ForkLock, Workers

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LOG = logging.getLogger("gradient")

_MAX_PER_BATCH = 256
_MOST_OPEN = 16
"""Packs with bases that are kept open; others are opened for each base."""


@dataclass(slots=True)
class _Coded:
    """One object, hashed, and encoded unless the store has it."""

    oid: Oid
    raw: int
    encoded: Encoded | None = None
    base: Oid | None = None
    """What `encoded` is a difference from."""
    plain: int = 0
    """About what the payload would weigh without that: as much as the base's."""


class Transaction:
    """Objects that become durable together, by `seal`. Leaving it without that discards them.

    Used by one thread. What the store knows already, in a sealed pack that is as long as its
    index says, is not written again; where `plain`, only what stands there without a base counts.
    Of what another process wrote, each object that is not written again is read and proved once:
    where it is damaged, it is written anew. One that is `alone` relies on nothing: it writes
    everything again.
    """

    def __init__(
        self,
        storage: Storage,
        catalogue: PackCatalogue,
        workers: Workers,
        *,
        mode: Mode,
        plain: bool = False,
        alone: bool = False,
    ) -> None:
        self._storage = storage
        self._catalogue = catalogue
        self._workers = workers
        self._mode = mode
        self._plain = plain
        self._alone = alone
        self._writer: PackWriter | None = None
        self._added: set[Oid] = set()
        self._leaning: set[Oid] = set()
        self.coded = 0
        """Bytes of the payloads so far."""
        self.plain = 0
        """About what they would be if nothing were stored as a difference."""
        self._relied_on: dict[str, Pack] = {}
        self._opening = ForkLock()
        self._sources = ExitStack()
        self._readers: dict[str, Reader] = {}
        self._process = os.getpid()
        self._closed = False

    @property
    def written(self) -> int:
        """The bytes of the pack so far."""
        return self._writer.size if self._writer is not None else 0

    @property
    def leans(self) -> bool:
        """Whether of anything put so far only a difference from another object is stored."""
        return bool(self._leaning)

    def put(self, kind: Kind, body: Buffer, *, width: int = 1) -> Oid:
        """Add one object; `width` is the size of a blob's elements in bytes."""
        self._check_open()
        (coded,) = self._encode(kind, [PendingBlob(body, width)])
        self._append(kind, coded)
        return coded.oid

    def put_chunks(
        self, chunks: Iterable[Buffer], *, width: int, bases: Iterable[Oid | None] | None = None
    ) -> list[Oid]:
        """Add blobs of at most 1 MiB each, of elements of `width` bytes; returns their ids.

        `bases` names for each chunk what it may be the difference from, as `Piece` does.
        """
        paired = zip(chunks, repeat(None) if bases is None else bases, strict=False)
        return [
            each.oid for each in self.store(PendingBlob(data, width, base) for data, base in paired)
        ]

    def store(
        self, large: Iterable[PendingBlob], small: Iterable[PendingBlob] = ()
    ) -> list[StoredBlob]:
        """Add blobs: first `large` ones, by the workers, then `small` ones, by the caller.

        Of a small one, most of the work is Python's, and threads that mostly run Python wait for
        each other. They are appended in order, and so returned. Every buffer must stay as it is
        until this returns. One call with many is faster than many calls.
        """
        self._check_open()
        stored: list[StoredBlob] = []
        by_workers = self._workers.map(self._encode_batch, _batches(large))
        for batch in chain(by_workers, map(self._encode_batch, _batches(small))):
            stored += [self._take(piece, coded) for piece, coded in batch]
        return stored

    def _take(self, piece: PendingBlob, coded: _Coded) -> StoredBlob:
        self._append(Kind.BLOB, coded)
        return StoredBlob(coded.oid, piece.plan if coded.encoded is None else coded.encoded.plan)

    def read(self, oid: Oid, kind: Kind) -> bytes:
        """Return an object that the store has, verified."""
        places = [place for place in self._catalogue.find(oid) if place[1].kind is kind]
        if not places:
            raise self._catalogue.absence(oid)
        body = bytearray(places[0][1].raw)
        read_object(self._catalogue, oid, kind, memoryview(body), places)
        return bytes(body)

    def keep(self, oids: Iterable[Oid], *, width: int = 1) -> None:
        """Take over blobs of a commit that the store has; they are not read.

        Where all must be `plain`, one that is stored as a difference alone is read and written
        again, as elements of `width` bytes. Raises MissingObjectError and what reading raises.
        """
        self._check_open()
        for oid in oids:
            if not self._stands(oid):
                body = self.read(oid, Kind.BLOB)
                (coded,) = self._encode(Kind.BLOB, [PendingBlob(body, width)])
                self._append(Kind.BLOB, coded)

    def seal(self) -> str | None:
        """Make everything durable and known; returns the pack's id, None if nothing was new.

        Raises StoreChangedError if objects that were not written again have vanished since: the
        whole transaction must be repeated. After any error nothing of it may be referred to.
        """
        self._check_open()
        self._closed = True
        self._sources.close()
        pack_id = self._publish() if self._writer is not None else None
        # IMPORTANT: after publishing, so that what vanishes later saw our pack or our ref.
        for pack in self._relied_on.values():
            if not self._catalogue.sealed(pack):
                raise StoreChangedError(pack.id)
        if pack_id is None and self._relied_on and self._catalogue.unsettled:
            self._catalogue.settle()
        return pack_id

    def discard(self) -> None:
        """Forget everything that was not sealed; harmless after `seal`."""
        self._closed = True
        self._sources.close()
        if self._writer is not None and self._process == os.getpid():
            self._writer.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _publish(self) -> str:
        writer = self._open_writer()
        seen = self._catalogue.mark()
        try:
            pack = writer.publish()
        except GradientError:
            if writer.pack_id is not None:
                self._catalogue.distrust(writer.pack_id)
            raise
        self._catalogue.add(pack, seen=seen)
        return pack.id

    def _encode_batch(self, batch: Sequence[PendingBlob]) -> list[tuple[PendingBlob, _Coded]]:
        return list(zip(batch, self._encode(Kind.BLOB, batch), strict=True))

    def _encode(self, kind: Kind, pieces: Sequence[PendingBlob]) -> list[_Coded]:
        """Hash objects, and encode those that the store has not got, all in one go."""
        views = [memoryview(piece.data) for piece in pieces]
        coded = [_Coded(self._name(kind, view), view.nbytes) for view in views]
        fresh = [number for number, each in enumerate(coded) if not self._known(each.oid)]
        based = [number for number in fresh if pieces[number].base is not None]
        room = SCRATCH.take("bases", sum(views[number].nbytes for number in based)).data
        chunks: list[Chunk] = []
        for number in fresh:
            (_, width, oid, plan), view = pieces[number], views[number]
            base = room[: view.nbytes]
            weight = None if oid is None else self._read_base(oid, base)
            if weight is not None:
                coded[number].plain = weight
                room = room[view.nbytes :]
            raw = view if view.nbytes else b""
            chunks.append(Chunk(raw, width, None if weight is None else base, plan))
        done = encode_all(chunks, mode=self._mode)
        for number, encoded in zip(fresh, done, strict=True):
            each = coded[number]
            each.encoded = encoded
            if encoded.codec is Codec.DELTA:
                each.base = pieces[number].base
            else:
                each.plain = encoded.size
        return coded

    def _name(self, kind: Kind, view: memoryview) -> Oid:
        limit = pack_format.MAX_RAW[kind]
        if view.nbytes > limit:
            raise MalformedObjectError(f"a {kind.value} of {view.nbytes} bytes; at most {limit}")
        return Oid.of(kind, view)

    def _read_base(self, oid: Oid, out: memoryview) -> int | None:
        """Read a base, proved by its hash; returns its stored length, None where it can't serve."""
        places = [place for place in self._catalogue.find(oid) if place[1].base is None]
        if not places or places[0][1].raw != len(out) or not self._rely(places[0][0]):
            return None
        try:
            self._keep_open(places[0][0])
            read_object(self._catalogue, oid, Kind.BLOB, out, places, readers=self._readers)
        except (IntegrityError, GradientIOError):
            return None  # the chunk is stored on its own; fsck finds what is wrong here
        return places[0][1].stored

    def _keep_open(self, pack: Pack) -> None:
        """Open a pack once for all the bases in it."""
        with self._opening:
            if pack.id not in self._readers and len(self._readers) < _MOST_OPEN:
                reader = self._catalogue.open(pack)
                self._readers[pack.id] = self._sources.enter_context(reader)

    def _known(self, oid: Oid) -> bool:
        """Whether the object need not be written: it is there, and sound."""
        if not self._stands(oid):
            return False
        if oid in self._added or self._catalogue.is_proved(oid):
            return True
        places = self._catalogue.find(oid)
        try:
            self._keep_open(places[0][0])
            body = SCRATCH.take("object to rely on", places[0][1].raw).data
            kind = places[0][1].kind
            read_object(self._catalogue, oid, kind, body, places, readers=self._readers)
        except (IntegrityError, GradientIOError) as error:
            _LOG.debug("written once more: %s", error)
            self._leaning.discard(oid)
            return False
        return True

    def _stands(self, oid: Oid, depth: int = 0) -> bool:
        """Whether the object is there by the indexes, noting what that relies on."""
        if oid in self._added:
            return True
        if depth > MAX_DEPTH:
            return False
        based: list[tuple[Pack, int]] = []
        for pack, position in self._catalogue.index.holders(oid):
            if pack.leans(position):
                based.append((pack, position))
            elif self._rely(pack):
                return True
        for pack, position in () if self._plain else based:
            base = pack.row(position).base
            if base is not None and self._rely(pack) and self._stands(base, depth + 1):
                self._leaning.add(oid)
                return True
        return False

    def _rely(self, pack: Pack) -> bool:
        """Whether a pack is as its index says, now and when this is sealed."""
        if pack.id not in self._relied_on:
            if self._alone or not self._catalogue.sealed(pack):
                return False
            self._relied_on[pack.id] = pack
        return True

    def _append(self, kind: Kind, coded: _Coded) -> None:
        # Two equal chunks may have been encoded side by side; the first is kept.
        oid, encoded = coded.oid, coded.encoded
        if encoded is not None and oid not in self._added:
            self._open_writer().append(kind, oid, coded.raw, encoded, base=coded.base)
            self._added.add(oid)
            self.coded += encoded.size
            self.plain += coded.plain
            if coded.base is not None:
                self._leaning.add(oid)

    def _open_writer(self) -> PackWriter:
        if self._writer is None:
            self._writer = PackWriter(self._storage.create())
        return self._writer

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError("this transaction has ended")
        if self._process != os.getpid():
            raise EngineClosedError("this transaction belongs to the process that began it")


def _batches(blobs: Iterable[PendingBlob]) -> Iterator[list[PendingBlob]]:
    return batches(blobs, lambda blob: memoryview(blob.data).nbytes, max_items=_MAX_PER_BATCH)
