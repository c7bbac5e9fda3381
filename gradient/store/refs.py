"""Refs: names for commits, each with an append-only log of its moves (see `append_log`).

A ref points to the commit of the last record in its log, and moves by appending a record.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Final, cast

from gradient.errors import (
    InvalidNameError,
    MalformedObjectError,
    RefConflictError,
)
from gradient.objects import timestamp
from gradient.objects.oid import Oid
from gradient.storage.base import Storage
from gradient.store import append_log, ref_names
from gradient.store.append_log import AppendLog
from gradient.store.ref_record import MAX_BYTES, RecordKind, RefRecord, Space

_MAX_REASON: Final = 2000


class Refs:
    """The branches (space ``heads``) and tags of one storage."""

    def __init__(self, storage: Storage, *, clock: Callable[[], str] = timestamp.now) -> None:
        self._storage = storage
        self._clock = clock
        self._writers: dict[int, str] = {}
        self._logs: dict[tuple[Space, str], AppendLog[RefRecord]] = {}
        self._newest: dict[tuple[Space, str], int] = {}
        """The newest record seen of each ref: from there on records are probed, not listed."""

    def names(self, space: Space = "heads") -> list[str]:
        """Return the sorted names of the refs that exist."""
        return list(self.tips(space))

    def tips(self, space: Space = "heads") -> dict[str, RefRecord]:
        """Return the refs that exist with their last records, sorted by name."""
        found = {name: self.read(name, space) for name in self.known(space)}
        return {name: record for name, record in found.items() if record is not None}

    def known(self, space: Space = "heads") -> list[str]:
        """Return the sorted names of the refs that have a log: deleted ones too."""
        found = map(ref_names.unquote, self._storage.names(f"refs/{space}"))
        return sorted(name for name in found if name is not None)

    def read(self, name: str, space: Space = "heads") -> RefRecord | None:
        """Return a ref's last record; None if the ref does not exist or was deleted."""
        tip, _ = self._tip(name, space)
        return None if tip is None or tip.kind == "delete" else tip

    def log(self, name: str, space: Space = "heads") -> list[RefRecord]:
        """Return every readable record of a ref, oldest first; also of a deleted ref."""
        return list(self.backwards(name, space))[::-1]

    def backwards(self, name: str, space: Space = "heads") -> Iterator[RefRecord]:
        """Yield the readable records of a ref, newest first, reading each on demand."""
        log = self._log(name, space)
        for seq in reversed(log.numbers()):
            record = log.read(seq)
            if record is not None:
                yield record

    def last(self, name: str, space: Space = "heads") -> int:
        """Return the last number taken in a ref's log, even by a damaged record; 0 for none.

        For `append`, to make sure that no record comes in between.
        """
        return self._tip(name, space)[1]

    def strict_logs(self, space: Space = "heads") -> dict[str, list[RefRecord]]:
        """Return every record of every ref, also of deleted refs, oldest first.

        Raises MalformedObjectError or GradientIOError for the first record that it cannot read,
        while `log` skips it: for a garbage collection, which removes what no ref points to.
        """
        found: dict[str, list[RefRecord]] = {}
        for folder in self._storage.names(f"refs/{space}"):
            name = ref_names.unquote(folder)
            try:
                inside = self._storage.names(f"refs/{space}/{folder}")
            except InvalidNameError:
                # Not a ref folder (`.DS_Store`, `@eaDir`), unless its lower-case form is one.
                inside = []
                if ref_names.unquote(folder.lower()) is not None:
                    raise MalformedObjectError(
                        f"refs/{space}/{folder} is not the name of a ref"
                    ) from None
            numbers = append_log.numbers_in(inside)
            if name is None:
                if numbers:
                    raise MalformedObjectError(f"refs/{space}/{folder} is not the name of a ref")
                continue
            log = self._log(name, space)
            found[name] = [log.read_strict(number) for number in numbers]
        return found

    def append(
        self,
        name: str,
        commit: Oid,
        *,
        after: RefRecord | None,
        reason: str,
        space: Space = "heads",
        last: int | None = None,
    ) -> RefRecord:
        """Move a ref from the record `after` (None: create it) to a commit, durably.

        IMPORTANT: the commit must be durable already. Raises RefConflictError if the ref is not
        at `after`, or its log has a record above the number `last`; InvalidNameError for an
        invalid new name. After a GradientIOError the ref may be at either record: read it again.
        """
        if after is None:
            ref_names.check_name(name, self.names(space))
        return self._append(name, commit, "move", after, reason, space, last)

    def fence(self, name: str, *, reason: str, space: Space = "heads") -> RefRecord:
        """Take the next number of a ref's log without moving the ref, durably.

        A writer that has read the log before this gets a RefConflictError when it appends. The
        record repeats the tip's commit; for a ref that does not exist it is a delete.
        """
        while True:
            tip = self.read(name, space)
            commit, kind = (None, "delete") if tip is None else (tip.commit, "fence")
            try:
                return self._append(name, commit, cast("RecordKind", kind), tip, reason, space)
            except RefConflictError:
                continue  # another writer moved it: repeat the new tip

    def delete(
        self, name: str, *, after: RefRecord, reason: str, space: Space = "heads"
    ) -> RefRecord:
        """Delete a ref that is at `after`, durably; its log stays. Raises like `append`."""
        return self._append(name, None, "delete", after, reason, space)

    def _append(
        self,
        name: str,
        commit: Oid | None,
        kind: RecordKind,
        after: RefRecord | None,
        reason: str,
        space: Space,
        expected_last: int | None = None,
    ) -> RefRecord:
        tip, last = self._tip(name, space, patient=True)
        if tip is not None and tip.kind == "delete" and after is None:
            after = tip
        if tip != after or (expected_last is not None and last != expected_last):
            raise RefConflictError(f"{space}/{name}")
        # A torn record keeps its number: the next one is taken.
        seq = last + 1
        record = RefRecord(
            seq=seq,
            commit=commit,
            kind=kind,
            previous=0 if after is None else after.seq,
            time=self._clock(),
            writer=self._writer(),
            reason=reason[:_MAX_REASON].encode("utf-8", "replace").decode("utf-8"),
        )
        if not self._log(name, space).create(seq, record.to_bytes(f"{space}/{name}")):
            raise RefConflictError(f"{space}/{name}")
        self._confirm(name, space, record)
        return record

    def _confirm(self, name: str, space: Space, record: RefRecord) -> None:
        """Withdraw `record` and raise RefConflictError if another one follows the same previous.

        This never happens if records are created atomically and the listing was current. It can
        happen on a storage without hard links, if we mistook a record that was being written for
        a torn one, or if an old listing was cached.
        """
        log = self._log(name, space)
        between = range(record.previous + 1, record.seq)
        for seq in (*between, *_after(log, record.seq)):
            if not _follows(log.read(seq), seq, record):
                log.withdraw(record.seq)
                raise RefConflictError(f"{space}/{name}")

    def _tip(
        self, name: str, space: Space, *, patient: bool = False
    ) -> tuple[RefRecord | None, int]:
        """Return the last readable record, and the last number that is taken (0: none).

        Probes the numbers after the newest record seen before. Lists the whole log only if that
        record is gone, or none was seen.
        """
        log = self._log(name, space)
        seen = self._newest.get((space, name))
        if seen is not None:
            numbers = [seen, *_after(log, seen)]
            tip = self._last(name, space, numbers, patient=patient)
            if tip is not None:
                return tip, numbers[-1]
        numbers = log.numbers()
        return self._last(name, space, numbers, patient=patient), max(numbers, default=0)

    def _last(
        self, name: str, space: Space, numbers: list[int], *, patient: bool
    ) -> RefRecord | None:
        log = self._log(name, space)
        for seq in reversed(numbers):
            record = log.read(seq)
            for wait in _WAITS if patient else ():
                if record is not None:
                    break
                time.sleep(wait)
                record = log.read(seq)
            if record is not None:
                self._newest[space, name] = record.seq
                return record
        return None

    def _log(self, name: str, space: Space) -> AppendLog[RefRecord]:
        log = self._logs.get((space, name))
        if log is None:
            ref = f"{space}/{name}"
            log = AppendLog(
                self._storage,
                f"refs/{space}/{ref_names.quote(name)}",
                lambda raw, seq: RefRecord.from_bytes(raw, ref, seq),
                max_bytes=MAX_BYTES,
            )
            log = self._logs.setdefault((space, name), log)
        return log

    def _writer(self) -> str:
        return self._writers.setdefault(os.getpid(), uuid.uuid4().hex)


_MAX_GAP: Final = 4
"""This many free numbers in a row end a log."""

_WAITS: Final = (0.05, 0.2, 0.75)
"""Seconds to wait for an incomplete record: another writer may be writing it."""


def _after(log: AppendLog[RefRecord], seq: int) -> list[int]:
    """Return the numbers above `seq` that are taken.

    They are consecutive, except for the gaps of withdrawn records (see `_confirm`); a few missing
    numbers are skipped.
    """
    found, gap = [], 0
    while gap < _MAX_GAP:
        seq += 1
        if log.exists(seq):
            found.append(seq)
            gap = 0
        else:
            gap += 1
    return found


def _follows(other: RefRecord | None, seq: int, record: RefRecord) -> bool:
    return other is None or (seq > record.seq and other.previous >= record.seq)
