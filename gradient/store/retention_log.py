"""The log of dropped states: which commits lose their state, or some components of it.

Forgetting a commit does not change it: its object and its id stay, and a record in an append-only
log (see `append_log`) drops its state or some of its components. No record undoes another one, so
two writers never contradict each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from gradient.errors import GradientIOError, MalformedObjectError, RefConflictError
from gradient.objects import timestamp
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.storage import fs
from gradient.storage.base import Storage
from gradient.store import append_log
from gradient.store.append_log import AppendLog
from gradient.store.fork_lock import ForkLock

FOLDER: Final = "retention"
"""The folder of the records in a storage."""
MAX_BYTES: Final = 1 << 20
"""The length of the longest record."""
MAX_COMMITS: Final = 8192
"""The number of commits that a record may name; more commits take several records."""

_MAX_POLICY: Final = 2000
_FIELDS: Final = {"commits", "drop", "policy", "seq", "time"}
_ATTEMPTS: Final = 1000


@dataclass(frozen=True, slots=True)
class RetentionRecord:
    """One decision: these commits lose their state, or some components of it."""

    seq: int
    """Its number in the log, from 1."""
    commits: tuple[Oid, ...]
    """The commits, sorted."""
    drop: tuple[str, ...] | None
    """The components that they lose, sorted; None for the whole state."""
    policy: str
    """The rules, as the options of `gradient forget`; for people."""
    time: str
    """The time, in UTC; for people."""

    def to_bytes(self) -> bytes:
        """Encode: canonical JSON with a self check."""
        body: dict[str, Json] = {
            "commits": [str(oid) for oid in self.commits],
            "drop": None if self.drop is None else [*self.drop],
            "policy": self.policy,
            "seq": self.seq,
            "time": self.time,
        }
        return append_log.encode(body)

    @classmethod
    def from_bytes(cls, raw: bytes, seq: int) -> Self:
        """Parse and check record `seq`; raises MalformedObjectError."""
        body = append_log.decode(raw, _FIELDS, "retention record")
        if type(body["seq"]) is not int or body["seq"] != seq:
            raise MalformedObjectError("a retention record is in the place of another one")
        commits, drop = body["commits"], body["drop"]
        if type(commits) is not list or not commits:
            raise MalformedObjectError("a retention record names no commits")
        oids = tuple(map(Oid.parse, commits))
        if any(one >= other for one, other in itertools.pairwise(oids)):
            raise MalformedObjectError("a retention record's commits are not sorted")
        policy, time = body["policy"], body["time"]
        if type(policy) is not str or type(time) is not str:
            raise MalformedObjectError("a retention record's policy or time is not text")
        return cls(seq, oids, None if drop is None else _components(drop), policy, time)


def _components(node: Json) -> tuple[str, ...]:
    if type(node) is list and node:
        names = tuple(name for name in node if type(name) is str)
        if len(names) == len(node) and list(names) == sorted(set(names)):
            return names
    raise MalformedObjectError("a retention record's drop is not a sorted list of components")


@dataclass(frozen=True, slots=True)
class Dropped:
    """The dropped part of a commit."""

    components: tuple[str, ...] | None
    """The components, sorted; None for the whole state."""
    policy: str
    """The rules that dropped it."""
    time: str
    """The time, in UTC."""

    def covers(self, component: str) -> bool:
        """Return whether a component was dropped."""
        return self.components is None or component in self.components


class RetentionLog:
    """The retention records of one storage."""

    def __init__(self, storage: Storage, *, clock: Callable[[], str] = timestamp.now) -> None:
        self._log = AppendLog(storage, FOLDER, RetentionRecord.from_bytes, max_bytes=MAX_BYTES)
        self._clock = clock
        self._lock = ForkLock()
        self._read: dict[int, RetentionRecord] = {}
        self._table: dict[Oid, Dropped] = {}

    def table(self, *, strict: bool = False) -> Mapping[Oid, Dropped]:
        """Return the dropped parts, by commit. The mapping never changes after it is returned.

        A damaged record is skipped with a logged warning. With `strict` it raises
        MalformedObjectError: for a garbage collection, which removes what was dropped.
        """
        numbers = self._log.numbers()
        with self._lock:
            fresh = [seq for seq in numbers if seq not in self._read]
            if len(numbers) < len(self._read) + len(fresh):  # a repair has moved some away
                self._read.clear()
                self._table, fresh = {}, numbers
            if fresh:
                table = dict(self._table)
                for seq in fresh:
                    record = self._record(seq, strict=strict)
                    if record is not None:
                        self._read[seq] = record
                        _apply(table, record)
                self._table = table
            return self._table

    def append(
        self, commits: Collection[Oid], *, drop: Sequence[str] | None, policy: str
    ) -> list[RetentionRecord]:
        """Drop the state of commits, or the components in `drop`, durably.

        After a GradientIOError some of it may be recorded; the call can be repeated.
        """
        made = []
        ordered = sorted(set(commits))
        components = None if drop is None else tuple(sorted(set(drop)))
        text = policy[:_MAX_POLICY].encode("utf-8", "replace").decode("utf-8")
        for start in range(0, len(ordered), MAX_COMMITS):
            part = tuple(ordered[start : start + MAX_COMMITS])
            made.append(self._append(part, components, text))
        return made

    def _append(
        self, commits: tuple[Oid, ...], drop: tuple[str, ...] | None, policy: str
    ) -> RetentionRecord:
        for _ in range(_ATTEMPTS):
            seq = max(self._log.numbers(), default=0) + 1
            record = RetentionRecord(seq, commits, drop, policy, self._clock())
            if self._log.create(seq, record.to_bytes()):
                return record
        raise RefConflictError(FOLDER)  # other writers were faster a thousand times

    def _record(self, seq: int, *, strict: bool) -> RetentionRecord | None:
        if not strict:
            return self._log.read(seq)
        try:
            return self._log.read_strict(seq)
        except GradientIOError as error:
            if fs.is_missing(error):
                return None
            raise


def dropped_by(records: Iterable[RetentionRecord]) -> dict[Oid, Dropped]:
    """Return the dropped parts according to records, by commit."""
    table: dict[Oid, Dropped] = {}
    for record in records:
        _apply(table, record)
    return table


def _apply(table: dict[Oid, Dropped], record: RetentionRecord) -> None:
    """Add a record to the table: a whole state includes components, and components add up."""
    for oid in record.commits:
        before = table.get(oid)
        components = record.drop
        if before is not None:
            if before.components is None:
                continue
            if components is not None:
                components = tuple(sorted({*before.components, *components}))
        table[oid] = Dropped(components, record.policy, record.time)
