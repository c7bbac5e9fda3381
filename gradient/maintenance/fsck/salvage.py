"""Salvage: the intact frames of damaged packs, written into new packs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gradient.codec.frame import Codec, Encoded, decode_into
from gradient.errors import MalformedObjectError
from gradient.maintenance.fsck.check import Check
from gradient.maintenance.fsck.frames import judge
from gradient.objects.oid import Oid
from gradient.repo import paths
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store import pack as packs
from gradient.store.frame_reader import MAX_DEPTH
from gradient.store.pack import PackWriter
from gradient.store.pack_format import FrameRow


@dataclass(slots=True)
class _File:
    """One damaged pack, at its current path."""

    path: str
    rows: list[FrameRow]
    """The intact frames."""
    pending: list[FrameRow] = field(default_factory=list)
    """Deltas whose bases may be in one of the other files."""


class Salvage:
    """Collects files, and writes a new pack for each."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._files: list[_File] = []
        self._pool: dict[Oid, tuple[str, FrameRow]] = {}

    def rows(self, name: str) -> list[FrameRow] | None:
        """Return the frames of a pack that are proved already; None if the pack must be searched.

        From here on the pack does not count as one of the repo's.
        """
        check, pack_id = self._check, name.removesuffix(packs.SUFFIX)
        known = check.index.get(pack_id)
        if known is None:
            return None
        wrong = {fault.row.offset for fault in check.frames.faults if fault.pack == pack_id}
        rows = [known.row(position) for position in known.rows["offset"].argsort().tolist()]
        check.index.drop(pack_id)
        return [row for row in rows if row.offset not in wrong]

    def take(self, path: str, rows: list[FrameRow] | None) -> None:
        """Add a file, with its proved frames."""
        if any(file.path == path for file in self._files):
            return
        if rows is None:
            scanned = self._check.scan(path)
            file = _File(path, scanned.intact, scanned.pending)
        else:
            file = _File(path, rows)
        self._files.append(file)
        self._pool.update((row.oid, (path, row)) for row in file.rows)

    def write(self) -> Iterator[tuple[str, str, int]]:
        """Write the objects that no pack of the repo has; yield source, new pack and number of
        objects."""
        while any(self._settle(file) for file in self._files):
            pass  # what was proved may be the base of more
        written: set[Oid] = set()
        for file in self._files:
            rows = {row.oid: row for row in file.rows if row.oid not in written}
            fresh = [row for row in rows.values() if not self._check.index.find(row.oid)]
            if fresh:
                written.update(row.oid for row in fresh)
                yield file.path, self._write(file.path, fresh), len(fresh)

    def _settle(self, file: _File) -> bool:
        """Prove deltas whose bases were found; return whether any were."""
        news = False
        for row in list(file.pending):
            base = None if row.base is None else self._body(row.base, 1)
            if base is not None and judge(row, self._payload(file.path, row), base) is None:
                file.pending.remove(row)
                file.rows.append(row)
                self._pool.setdefault(row.oid, (file.path, row))
                news = True
        file.rows.sort(key=lambda row: row.offset)
        return news

    def _body(self, oid: Oid, depth: int) -> memoryview | None:
        """Return an object from the files; None if it is not available."""
        place = self._pool.get(oid)
        if place is None or depth > MAX_DEPTH:
            return None
        path, row = place
        base = None
        if row.base is not None:
            base = self._body(row.base, depth + 1)
            if base is None:
                return None
        body = memoryview(bytearray(row.raw))
        try:
            decode_into(row.codec, self._payload(path, row), body, base=base)
        except MalformedObjectError:
            return None
        return body

    def _payload(self, path: str, row: FrameRow) -> memoryview:
        payload = bytearray(row.stored)
        with fs.open_file(path) as file:
            file.read_into(row.offset + row.header_bytes, memoryview(payload))
        return memoryview(payload)

    def _write(self, path: str, rows: list[FrameRow]) -> str:
        """Write frames unchanged into a new pack; return its id once it is durable."""
        storage = DirectoryStorage(paths.inside(self._check.root))
        with storage.create() as upload, fs.open_file(path) as file:
            writer = PackWriter(upload)
            for row in rows:
                payload = bytearray(row.stored)
                file.read_into(row.offset + row.header_bytes, memoryview(payload))
                encoded = Encoded(Codec(row.codec), (payload,), row.stored)
                writer.append(row.kind, row.oid, row.raw, encoded, base=row.base)
            return writer.publish().id
