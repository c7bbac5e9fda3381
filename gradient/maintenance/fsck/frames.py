"""The check of every frame: its content must have the hash that names it.

One thread reads the packs front to back and hashes them as files. The workers decode the frames of
each part and compare every object with its id. Each byte is read once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from blake3 import blake3

from gradient.codec.frame import Codec, decode_into
from gradient.codec.scratch_buffers import SCRATCH
from gradient.errors import GradientIOError, IntegrityError, MalformedObjectError
from gradient.maintenance.fsck.findings import Finding
from gradient.maintenance.fsck.packs import path_of
from gradient.objects.oid import Oid
from gradient.repo import paths as places
from gradient.storage import fs
from gradient.store import pack, pack_format
from gradient.store.frame_reader import MAX_DEPTH
from gradient.store.object_index import ObjectIndex
from gradient.store.object_store import ObjectStore
from gradient.store.pack import Pack
from gradient.store.pack_format import FrameRow
from gradient.store.thread_pool import ThreadPool

PART_BYTES: Final = 4 << 20
"""The number of bytes read at once; more only for a single larger object."""

ENDLESS: Final = 1 << 30
"""The height of a delta that depends on itself."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Consecutive frames of a pack."""

    pack: Pack
    rows: list[FrameRow]
    content: memoryview


@dataclass(frozen=True, slots=True)
class Fault:
    """One damaged frame."""

    pack: str
    row: FrameRow
    word: str
    """The class of the finding."""
    message: str


@dataclass(slots=True)
class Verified:
    """The result of checking frames."""

    faults: list[Fault] = field(default_factory=list)
    """The damaged frames."""
    findings: list[Finding] = field(default_factory=list)
    """The damage of packs as files."""
    damaged: set[str] = field(default_factory=set)
    """The file names of packs with damaged bytes."""
    frames: int = 0
    """The number of checked frames."""
    bytes: int = 0
    """The number of bytes read."""
    complete: bool = True
    """True if the time sufficed."""
    read: set[str] = field(default_factory=set)
    """The ids of the packs that were read completely."""

    def keep(self, packs: set[str]) -> None:
        """Discard the findings, except those of these packs that were read completely."""
        self.read &= packs
        names = {pack_id + pack.SUFFIX for pack_id in self.read}
        paths = set(map(path_of, names))
        self.faults = [each for each in self.faults if each.pack in self.read]
        self.findings = [each for each in self.findings if each.path in paths]
        self.damaged &= names


class Heights:
    """The number of deltas that each object depends on, according to the indexes."""

    def __init__(self, index: ObjectIndex) -> None:
        self._index = index

    def of(self, oid: Oid, path: tuple[Oid, ...] = ()) -> int | None:
        """Return the number; None for an object that no pack has, `ENDLESS` for a cycle.

        Stops where the store stops: at chains of more than `MAX_DEPTH` deltas, and after two copies
        of a base.
        """
        if oid in path:
            return ENDLESS
        found = self._index.find(oid)
        if not found or found[0][1].base is None or len(path) > MAX_DEPTH:
            return 0 if found else None
        below = [self.of(row.base, (*path, oid)) for _, row in found[:2] if row.base is not None]
        known = [height for height in below if height is not None]
        return 1 + min(known) if known else None

    def length(self, oid: Oid) -> int:
        """Return the length of a stored object."""
        return self._index.find(oid)[0][1].raw


class FrameCheck:
    """Decodes frames. `store` provides the bases of deltas, proved."""

    def __init__(
        self, repo: str, store: ObjectStore, index: ObjectIndex, workers: ThreadPool
    ) -> None:
        self._repo = repo
        self._store = store
        self._heights = Heights(index)
        self._workers = workers

    def verify(
        self,
        packs: list[Pack],
        done: Verified,
        *,
        deadline: float | None = None,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Check every frame of the packs, and add the results to `done`.

        Stops at a `deadline` (time.monotonic). `progress` is called with the number of checked
        bytes.
        """
        hashes: dict[str, str | None] = {}
        parts = self._parts(packs, done, hashes, deadline)
        for part, faults in self._workers.map(self._judge, parts):
            done.faults += faults
            done.frames += len(part.rows)
            done.bytes += len(part.content)
            done.damaged.update(
                fault.pack + pack.SUFFIX for fault in faults if "base" not in fault.word
            )
            progress(len(part.content))
        for pack_id, found in hashes.items():
            name = pack_id + pack.SUFFIX
            if found != pack_id and name not in done.damaged:
                message = f"its bytes have the hash {found}"
                done.findings.append(Finding("pack-hash", path_of(name), message))
                done.damaged.add(name)
        done.read.update(hashes)

    def chains(self, packs: list[Pack]) -> list[Fault]:
        """Return the deltas whose bases are missing, according to the indexes."""
        faults = []
        for each in packs:
            for position in np.flatnonzero(each.rows["flags"]).tolist():
                row = each.row(position)
                fault = None if row.base is None else self._base_fault(row, row.base)
                if fault is not None:
                    faults.append(Fault(each.id, row, *fault))
        return faults

    def _parts(
        self,
        packs: list[Pack],
        done: Verified,
        hashes: dict[str, str | None],
        deadline: float | None,
    ) -> Iterator[_Part]:
        for each in packs:
            path = places.inside(self._repo, each.name)
            try:
                with fs.open_file(path) as file:
                    hasher = blake3(_read(file, 0, pack_format.HEADER.size))
                    for rows in _runs(each):
                        if deadline is not None and time.monotonic() > deadline:
                            done.complete = False
                            return
                        start, end = rows[0].offset, _end(rows[-1])
                        content = _read(file, start, end - start)
                        hasher.update(content)
                        yield _Part(each, rows, memoryview(content))
                    index = each.index
                    rest = each.size - index.end - 40
                    hasher.update(_read(file, index.end, rest))
                    hashes[each.id] = hasher.hexdigest()
            except GradientIOError as error:
                if not fs.is_missing(error):
                    name = each.id + pack.SUFFIX
                    finding = Finding("pack-unreadable", path_of(name), str(error))
                    done.findings.append(finding)
                    done.damaged.add(name)

    def _judge(self, part: _Part) -> tuple[_Part, list[Fault]]:
        start = part.rows[0].offset
        faults = []
        for row in part.rows:
            at = row.offset - start
            frame = part.content[at : at + row.header_bytes + row.stored]
            fault = self._fault(row, frame)
            if fault is not None:
                faults.append(Fault(part.pack.id, row, *fault))
        return part, faults

    def _fault(self, row: FrameRow, frame: memoryview) -> tuple[str, str] | None:
        if frame[: row.header_bytes] != row.header:
            return "frame-header", f"the frame of {row.oid} does not begin as the index says"
        return self.decode(row, frame[row.header_bytes :])

    def decode(self, row: FrameRow, payload: memoryview) -> tuple[str, str] | None:
        """Return the class and the description of a damaged payload; None if it is intact.

        Called by several threads.
        """
        base = None
        if row.base is not None:
            fault = self._base_fault(row, row.base)
            if fault is not None:
                return fault
            base = SCRATCH.take("fsck base", row.raw).data
            try:
                self._store.read_into(row.base, base)
            except (IntegrityError, GradientIOError) as error:
                return "frame-base-damaged", f"{row.oid} is a difference: {error}"
        return judge(row, payload, base)

    def _base_fault(self, row: FrameRow, base: Oid) -> tuple[str, str] | None:
        height = self._heights.of(base)
        if height is None:
            return "frame-base-missing", f"{row.oid} is a difference from {base}, which no pack has"
        if height >= ENDLESS:
            return "frame-base-cycle", f"{row.oid} is a difference from itself, by way of {base}"
        if height >= MAX_DEPTH:
            return "frame-base-deep", f"{row.oid} stands on more than {MAX_DEPTH} differences"
        length = self._heights.length(base)
        if length != row.raw:
            reason = f"{row.oid} of {row.raw} bytes is a difference from {base} of {length}"
            return "frame-base-length", reason
        return None


def judge(row: FrameRow, payload: memoryview, base: memoryview | None) -> tuple[str, str] | None:
    """Decode a payload with its base, and compare the object with its id."""
    if row.codec == Codec.RAW and base is None and row.stored == row.raw:
        body = payload
    else:
        body = SCRATCH.take("fsck body", row.raw).data
        try:
            decode_into(row.codec, payload, body, base=base)
        except MalformedObjectError as error:
            return "frame-undecodable", f"the frame of {row.oid} can not be decoded: {error}"
    if Oid.of(row.kind, body) != row.oid:
        return "frame-hash", f"the frame of {row.oid} holds another content"
    return None


def _runs(each: Pack) -> Iterator[list[FrameRow]]:
    """Yield the rows in the order of the file, cut into parts."""
    run: list[FrameRow] = []
    for position in np.argsort(each.rows["offset"], kind="stable").tolist():
        row = each.row(position)
        if run and _end(row) - run[0].offset > PART_BYTES:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _end(row: FrameRow) -> int:
    return row.offset + row.header_bytes + row.stored


def _read(file: fs.File, offset: int, length: int) -> bytearray:
    content = bytearray(length)
    done = file.read_into(offset, memoryview(content))
    return content[:done]
