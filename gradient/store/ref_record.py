"""One record of a ref's log: canonical JSON with a self check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self, cast

from gradient.errors import MalformedObjectError
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.store import append_log

MAX_BYTES: Final = 64 << 10
"""The length of the longest record."""

Space = Literal["heads", "tags"]
RecordKind = Literal["move", "delete", "fence"]
KINDS: Final[tuple[RecordKind, ...]] = ("move", "delete", "fence")
"""The effects of a record: it points to a commit; it deletes the ref; it repeats the commit, so
that a writer that did not notice the loss of its lease finds that the ref has moved."""

_FIELDS: Final = {"commit", "kind", "previous", "reason", "ref", "seq", "time", "writer"}


@dataclass(frozen=True, slots=True)
class RefRecord:
    """One move of a ref."""

    seq: int
    """Its number in the log, from 1."""
    commit: Oid | None
    """The commit that the ref points to from here on; None for a delete."""
    kind: RecordKind
    previous: int
    """The number of the record that it follows; 0 for none."""
    time: str
    """The time, in UTC; for people."""
    writer: str
    """A random id of the process that wrote it."""
    reason: str
    """The reason, for people."""

    def to_bytes(self, ref: str) -> bytes:
        """Encode for the log of `ref` (``heads/main``): canonical JSON with a self check."""
        body: dict[str, Json] = {
            "commit": None if self.commit is None else str(self.commit),
            "kind": self.kind,
            "previous": self.previous,
            "reason": self.reason,
            "ref": ref,
            "seq": self.seq,
            "time": self.time,
            "writer": self.writer,
        }
        return append_log.encode(body)

    @classmethod
    def from_bytes(cls, raw: bytes, ref: str, seq: int) -> Self:
        """Parse and check record `seq` of the log of `ref`; raises MalformedObjectError."""
        body = append_log.decode(raw, _FIELDS, "ref record")
        commit, kind, previous = body["commit"], body["kind"], body["previous"]
        if body["ref"] != ref or type(body["seq"]) is not int or body["seq"] != seq:
            raise MalformedObjectError("a ref record is in the place of another one")
        if kind not in KINDS or (commit is None) != (kind == "delete"):
            raise MalformedObjectError("a ref record's kind and commit disagree")
        if type(previous) is not int or not 0 <= previous < seq:
            raise MalformedObjectError("a ref record's previous is not before it")
        texts = [body["time"], body["writer"], body["reason"]]
        if any(type(text) is not str for text in texts):
            raise MalformedObjectError("a ref record's time, writer or reason is not text")
        return cls(
            seq=seq,
            commit=None if commit is None else Oid.parse(commit),
            kind=kind,
            previous=previous,
            time=cast("str", body["time"]),
            writer=cast("str", body["writer"]),
            reason=cast("str", body["reason"]),
        )
