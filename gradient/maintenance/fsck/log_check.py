"""The checks that the logs of refs and of retention have in common (see `store.append_log`)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.maintenance.fsck.findings import Finding
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.storage import fs
from gradient.store import append_log

Record = TypeVar("Record")

Damage: TypeAlias = Literal["torn", "malformed", "check", "misplaced"]
"""The reason that a record does not count."""

_SHOWN_GAPS: Final = 5


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of the findings about one kind of log."""

    foreign: str
    """A file whose name is not a number."""
    replaced: str
    """A number that is not a file."""
    unreadable: str
    """A record that the storage does not return."""
    large: str
    """A record that is too long."""
    gap: str
    """Numbers that are missing."""
    damage: str
    """The prefix of the classes for the kinds of `Damage`."""


@dataclass(slots=True)
class LogCheck(Generic[Record]):
    """The records of one log, and their damage."""

    records: list[Record] = field(default_factory=list)
    """The records that count, oldest first."""
    taken: set[int] = field(default_factory=set)
    """The numbers that are taken, also by damaged records."""
    findings: list[Finding] = field(default_factory=list)
    misplaced: list[bytes] = field(default_factory=list)
    """Intact records that belong elsewhere."""

    @property
    def gaps(self) -> list[int]:
        """The numbers that are missing below the highest one."""
        return sorted(set(range(1, max(self.taken, default=0))) - self.taken)

    def report_gaps(self, classes: Classes, path: str) -> Iterator[Finding]:
        """Yield a finding if numbers are missing from the log at `path`."""
        gaps = self.gaps
        if gaps:
            shown = ", ".join(map(str, gaps[:_SHOWN_GAPS])) + (" …" if gaps[_SHOWN_GAPS:] else "")
            yield Finding(classes.gap, path, f"no record has the number {shown}")


def check_log(
    folder: str,
    path: str,
    classes: Classes,
    parse: Callable[[bytes, int], Record],
    classify: Callable[[bytes], Damage],
    *,
    max_bytes: int,
) -> LogCheck[Record]:
    """Read every record in a folder of the file system.

    Findings name the folder by `path`. `parse` takes the bytes of a record and its number.
    """
    check: LogCheck[Record] = LogCheck()
    for entry in fs.names(folder):
        own = f"{path}/{entry}"
        kind = fs.kind(f"{folder}/{entry}")
        number = append_log.number_of(entry)
        if not number:
            message = f"a {kind} with no record's name"
            check.findings.append(Finding(classes.foreign, own, message))
            continue
        check.taken.add(number)
        if kind != "file":
            check.findings.append(Finding(classes.replaced, own, f"it is a {kind}"))
            continue
        try:
            raw = fs.read_file(f"{folder}/{entry}", limit=max_bytes)
            check.records.append(parse(raw, number))
        except MalformedObjectError as error:
            damage = classify(raw)
            check.findings.append(Finding(f"{classes.damage}-{damage}", own, str(error)))
            if damage == "misplaced":
                check.misplaced.append(raw)
        except GradientIOError as error:
            if not fs.is_missing(error):
                word = classes.large if error.errno == errno.EFBIG else classes.unreadable
                check.findings.append(Finding(word, own, str(error)))
    return check


def classify_record(raw: bytes, parse: Callable[[dict[str, Json], int], bool]) -> Damage:
    """Return why a record does not count.

    `parse` takes the fields and the number that the record claims to have. It raises
    MalformedObjectError if they are not those of a record, and returns whether a log may have it.
    """
    try:
        body = canonical.loads(raw)
    except MalformedObjectError:
        complete = raw.startswith(b"{") and raw.endswith(b"}")
        return "malformed" if complete else "torn"
    number = body.get("seq") if type(body) is dict else None
    if type(body) is not dict or type(number) is not int or number < 1:
        return "malformed"
    try:
        has_place = parse(body, number)
    except MalformedObjectError as error:
        return "check" if "check" in str(error) else "malformed"
    return "misplaced" if has_place else "malformed"
