"""The writing of new objects into one pack."""

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
from gradient.store.fork_lock import ForkLock
from gradient.store.frame_reader import MAX_DEPTH, read_object
from gradient.store.pack import Pack, PackWriter
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.thread_pool import ThreadPool

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LOG = logging.getLogger("gradient")

_MAX_PER_BATCH = 256
_MAX_OPEN = 16
"""The number of packs with bases that are kept open; others are opened for each base."""


@dataclass(slots=True)
class _NewObject:
    """One object, hashed, and encoded unless the store has it."""

    oid: Oid
    raw: int
    encoded: Encoded | None = None
    base: Oid | None = None
    """The base of `encoded`, if that is a difference."""
    whole_bytes: int = 0
    """An estimate of the payload's length without a base: that of the base's payload."""


class Transaction:
    """Objects that `seal` makes durable together. Leaving it without `seal` discards them.

    For one thread. An object that the store has, in a sealed pack that is as long as its index
    says, is not written again; with `whole`, only if it is stored there without a base. If another
    process wrote such an object, it is read and proved once, and written again if it is damaged. A
    `self_contained` transaction relies on no stored object: it writes everything again.
    """

    def __init__(
        self,
        storage: Storage,
        catalogue: PackCatalogue,
        workers: ThreadPool,
        *,
        mode: Mode,
        whole: bool = False,
        self_contained: bool = False,
    ) -> None:
        self._storage = storage
        self._catalogue = catalogue
        self._workers = workers
        self._mode = mode
        self._whole = whole
        self._self_contained = self_contained
        self._writer: PackWriter | None = None
        self._added: set[Oid] = set()
        self._deltas: set[Oid] = set()
        self.coded_bytes = 0
        """The bytes of the payloads so far."""
        self.whole_bytes = 0
        """An estimate of `coded_bytes` if nothing were stored as a difference."""
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
    def has_deltas(self) -> bool:
        """True if any object put so far is stored only as a difference from another one."""
        return bool(self._deltas)

    def put(self, kind: Kind, body: Buffer, *, width: int = 1) -> Oid:
        """Add one object; `width` is the size of a blob's elements in bytes."""
        self._check_open()
        (encoded,) = self._encode(kind, [PendingBlob(body, width)])
        self._append(kind, encoded)
        return encoded.oid

    def put_chunks(
        self, chunks: Iterable[Buffer], *, width: int, bases: Iterable[Oid | None] | None = None
    ) -> list[Oid]:
        """Add blobs of at most 1 MiB each, of elements of `width` bytes; returns their ids.

        `bases` names for each chunk the blob that may be its base (see `PendingBlob.base`).
        """
        paired = zip(chunks, repeat(None) if bases is None else bases, strict=False)
        return [
            each.oid
            for each in self.put_blobs(PendingBlob(data, width, base) for data, base in paired)
        ]

    def put_blobs(
        self, large: Iterable[PendingBlob], small: Iterable[PendingBlob] = ()
    ) -> list[StoredBlob]:
        """Add blobs: first the `large` ones, in worker threads, then the `small` ones, in this one.

        Most of the work on a small blob is done by Python, and threads that mostly run Python wait
        for each other. The blobs are appended and returned in their order. The buffers must not
        change until this returns. One call with many blobs is faster than many calls.
        """
        self._check_open()
        stored: list[StoredBlob] = []
        by_workers = self._workers.map(self._encode_batch, _batches(large))
        for batch in chain(by_workers, map(self._encode_batch, _batches(small))):
            stored += [self._add(blob, encoded) for blob, encoded in batch]
        return stored

    def _add(self, blob: PendingBlob, new: _NewObject) -> StoredBlob:
        self._append(Kind.BLOB, new)
        return StoredBlob(new.oid, blob.plan if new.encoded is None else new.encoded.plan)

    def read(self, oid: Oid, kind: Kind) -> bytes:
        """Return an object that the store has, proved by its hash."""
        places = [place for place in self._catalogue.find(oid) if place[1].kind is kind]
        if not places:
            raise self._catalogue.absence(oid)
        body = bytearray(places[0][1].raw)
        read_object(self._catalogue, oid, kind, memoryview(body), places)
        return bytes(body)

    def reuse(self, oids: Iterable[Oid], *, width: int = 1) -> None:
        """Rely on blobs of a commit that the store has; they are not read.

        If the transaction is `whole`, a blob that is stored only as a difference is read and
        written again, as elements of `width` bytes. Raises like `read`.
        """
        self._check_open()
        for oid in oids:
            if not self._rely_on(oid):
                body = self.read(oid, Kind.BLOB)
                (encoded,) = self._encode(Kind.BLOB, [PendingBlob(body, width)])
                self._append(Kind.BLOB, encoded)

    def seal(self) -> str | None:
        """Make everything durable and known; returns the pack's id, None if nothing was new.

        Raises StoreChangedError if objects that were not written again have vanished since then:
        repeat the whole transaction. After an error nothing may refer to its objects.
        """
        self._check_open()
        self._closed = True
        self._sources.close()
        pack_id = self._publish() if self._writer is not None else None
        # IMPORTANT: after publishing. A collection that removes packs later sees our pack or ref.
        for pack in self._relied_on.values():
            if not self._catalogue.sealed(pack):
                raise StoreChangedError(pack.id)
        if pack_id is None and self._relied_on and self._catalogue.unsettled:
            self._catalogue.settle()
        return pack_id

    def discard(self) -> None:
        """Discard everything that was not sealed; does nothing after `seal`."""
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

    def _encode_batch(self, batch: Sequence[PendingBlob]) -> list[tuple[PendingBlob, _NewObject]]:
        return list(zip(batch, self._encode(Kind.BLOB, batch), strict=True))

    def _encode(self, kind: Kind, blobs: Sequence[PendingBlob]) -> list[_NewObject]:
        """Hash objects, and encode those that the store does not have, all in one call."""
        views = [memoryview(blob.data) for blob in blobs]
        objects = [_NewObject(self._oid_of(kind, view), view.nbytes) for view in views]
        fresh = [number for number, each in enumerate(objects) if not self._is_stored(each.oid)]
        based = [number for number in fresh if blobs[number].base is not None]
        free = SCRATCH.take("bases", sum(views[number].nbytes for number in based)).data
        chunks: list[Chunk] = []
        for number in fresh:
            (_, width, oid, plan), view = blobs[number], views[number]
            base = free[: view.nbytes]
            base_bytes = None if oid is None else self._read_base(oid, base)
            if base_bytes is not None:
                objects[number].whole_bytes = base_bytes
                free = free[view.nbytes :]
            raw = view if view.nbytes else b""
            chunks.append(Chunk(raw, width, None if base_bytes is None else base, plan))
        done = encode_all(chunks, mode=self._mode)
        for number, encoded in zip(fresh, done, strict=True):
            each = objects[number]
            each.encoded = encoded
            if encoded.codec is Codec.DELTA:
                each.base = blobs[number].base
            else:
                each.whole_bytes = encoded.size
        return objects

    def _oid_of(self, kind: Kind, view: memoryview) -> Oid:
        limit = pack_format.MAX_RAW[kind]
        if view.nbytes > limit:
            raise MalformedObjectError(f"a {kind.value} of {view.nbytes} bytes; at most {limit}")
        return Oid.of(kind, view)

    def _read_base(self, oid: Oid, out: memoryview) -> int | None:
        """Read a base, proved by its hash; returns its stored length, None if it cannot be used."""
        places = [place for place in self._catalogue.find(oid) if place[1].base is None]
        if not places or places[0][1].raw != len(out) or not self._rely_on_pack(places[0][0]):
            return None
        try:
            self._keep_open(places[0][0])
            read_object(self._catalogue, oid, Kind.BLOB, out, places, readers=self._readers)
        except (IntegrityError, GradientIOError):
            return None  # the chunk is stored without a base; fsck reports the damage
        return places[0][1].stored

    def _keep_open(self, pack: Pack) -> None:
        """Open a pack once for all the bases in it."""
        with self._opening:
            if pack.id not in self._readers and len(self._readers) < _MAX_OPEN:
                reader = self._catalogue.open(pack)
                self._readers[pack.id] = self._sources.enter_context(reader)

    def _is_stored(self, oid: Oid) -> bool:
        """Return whether the store has the object undamaged, so that it need not be written."""
        if not self._rely_on(oid):
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
            _LOG.debug("object is written again: %s", error)
            self._deltas.discard(oid)
            return False
        return True

    def _rely_on(self, oid: Oid, depth: int = 0) -> bool:
        """Return whether the object exists according to the indexes, noting the packs relied on."""
        if oid in self._added:
            return True
        if depth > MAX_DEPTH:
            return False
        based: list[tuple[Pack, int]] = []
        for pack, position in self._catalogue.index.holders(oid):
            if pack.is_delta(position):
                based.append((pack, position))
            elif self._rely_on_pack(pack):
                return True
        for pack, position in () if self._whole else based:
            base = pack.row(position).base
            if base is not None and self._rely_on_pack(pack) and self._rely_on(base, depth + 1):
                self._deltas.add(oid)
                return True
        return False

    def _rely_on_pack(self, pack: Pack) -> bool:
        """Return whether a pack has its length, and note to check it again in `seal`."""
        if pack.id not in self._relied_on:
            if self._self_contained or not self._catalogue.sealed(pack):
                return False
            self._relied_on[pack.id] = pack
        return True

    def _append(self, kind: Kind, new: _NewObject) -> None:
        # Two equal chunks may have been encoded at the same time; the first one is written.
        oid, encoded = new.oid, new.encoded
        if encoded is not None and oid not in self._added:
            self._open_writer().append(kind, oid, new.raw, encoded, base=new.base)
            self._added.add(oid)
            self.coded_bytes += encoded.size
            self.whole_bytes += new.whole_bytes
            if new.base is not None:
                self._deltas.add(oid)

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
