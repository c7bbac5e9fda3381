"""New objects on their way into one pack."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Self

from gradient.codec.chunks import CHUNK_BYTES
from gradient.codec.frame import Encoded, encode
from gradient.codec.mode import Mode
from gradient.errors import (
    EngineClosedError,
    GradientError,
    MalformedObjectError,
    StoreChangedError,
)
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Storage
from gradient.store import layout
from gradient.store.catalogue import Catalogue
from gradient.store.pack import Pack, PackWriter
from gradient.store.workers import Workers

if TYPE_CHECKING:
    from typing_extensions import Buffer

_MOST_PER_JOB = 256

Coded = tuple[Oid, int, Encoded | None]
"""A blob's name and length, and its payload unless the store has it."""


class Transaction:
    """Objects that become durable together, by `seal`. Leaving it without that discards them.

    Used by one thread. What the store knows already, in a sealed pack that is as long as its
    index says, is not written again.
    """

    def __init__(
        self, storage: Storage, catalogue: Catalogue, workers: Workers, *, mode: Mode
    ) -> None:
        self._storage = storage
        self._catalogue = catalogue
        self._workers = workers
        self._mode = mode
        self._writer: PackWriter | None = None
        self._added: set[Oid] = set()
        self._relied_on: dict[str, Pack] = {}
        self._process = os.getpid()
        self._closed = False

    @property
    def written(self) -> int:
        """The bytes of the pack so far."""
        return self._writer.size if self._writer is not None else 0

    def put(self, kind: Kind, body: Buffer, *, width: int = 1) -> Oid:
        """Add one object; `width` is the size of a blob's elements in bytes."""
        self._check_open()
        oid, raw, encoded = self._encode(kind, body, width)
        self._append(kind, oid, raw, encoded)
        return oid

    def put_chunks(self, chunks: Iterable[Buffer], *, width: int) -> list[Oid]:
        """Add blobs of at most 1 MiB each, of elements of `width` bytes; returns their ids.

        They are hashed and encoded in parallel and appended in order. Every buffer must stay as
        it is until this returns. One call with many chunks is faster than many calls.
        """
        self._check_open()
        oids: list[Oid] = []
        job = partial(self._encode_job, width=width)
        for coded in self._workers.map(job, _jobs(chunks)):
            for oid, raw, encoded in coded:
                self._append(Kind.BLOB, oid, raw, encoded)
                oids.append(oid)
        return oids

    def seal(self) -> str | None:
        """Make everything durable and known; returns the pack's id, None if nothing was new.

        Raises StoreChangedError if objects that were not written again have vanished since: the
        whole transaction must be repeated. After any error nothing of it may be referred to.
        """
        self._check_open()
        self._closed = True
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

    def _encode_job(self, chunks: list[Buffer], *, width: int) -> list[Coded]:
        return [self._encode(Kind.BLOB, chunk, width) for chunk in chunks]

    def _encode(self, kind: Kind, body: Buffer, width: int) -> Coded:
        view = memoryview(body)
        if view.nbytes > layout.MAX_RAW[kind]:
            limit = layout.MAX_RAW[kind]
            raise MalformedObjectError(f"a {kind.value} of {view.nbytes} bytes; at most {limit}")
        oid = Oid.of(kind, view)
        if self._known(oid):
            return oid, view.nbytes, None
        return oid, view.nbytes, encode(view if view.nbytes else b"", width=width, mode=self._mode)

    def _known(self, oid: Oid) -> bool:
        if oid in self._added:
            return True
        for pack, _ in self._catalogue.index.holders(oid):
            if pack.id in self._relied_on:
                return True
            if self._catalogue.sealed(pack):
                self._relied_on[pack.id] = pack
                return True
        return False

    def _append(self, kind: Kind, oid: Oid, raw: int, encoded: Encoded | None) -> None:
        # Two equal chunks may have been encoded side by side; the first is kept.
        if encoded is not None and oid not in self._added:
            self._open_writer().append(kind, oid, raw, encoded)
            self._added.add(oid)

    def _open_writer(self) -> PackWriter:
        if self._writer is None:
            self._writer = PackWriter(self._storage.create())
        return self._writer

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError("this transaction has ended")
        if self._process != os.getpid():
            raise EngineClosedError("this transaction belongs to the process that began it")


def _jobs(chunks: Iterable[Buffer]) -> Iterator[list[Buffer]]:
    """Group chunks, so that small ones do not cost a hand-over each."""
    job: list[Buffer] = []
    size = 0
    for chunk in chunks:
        nbytes = memoryview(chunk).nbytes
        if job and (size + nbytes > CHUNK_BYTES or len(job) == _MOST_PER_JOB):
            yield job
            job, size = [], 0
        job.append(chunk)
        size += nbytes
    if job:
        yield job
