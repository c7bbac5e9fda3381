"""The check of refs: every record of every branch and tag is intact and in the right place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gradient.errors import InvalidNameError, MalformedObjectError
from gradient.maintenance.fsck.findings import Finding
from gradient.maintenance.fsck.log_check import Classes, Damage, check_log, classify_record
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.repo import paths
from gradient.storage import fs
from gradient.store import append_log, ref_names
from gradient.store.ref_record import MAX_BYTES, RefRecord, Space

SPACES: Final[tuple[Space, ...]] = ("heads", "tags")
_CLASSES: Final = Classes(
    foreign="ref-foreign",
    replaced="ref-replaced",
    unreadable="record-unreadable",
    large="record-large",
    gap="record-gap",
    damage="record",
)


@dataclass(slots=True)
class RefLog:
    """The records of one ref."""

    name: str
    space: Space
    records: list[RefRecord] = field(default_factory=list)
    """The records that count, oldest first."""

    @property
    def tip(self) -> RefRecord | None:
        """The last record; None if the ref does not exist or was deleted."""
        last = self.records[-1] if self.records else None
        return None if last is None or last.kind == "delete" else last


@dataclass(slots=True)
class RefCheck:
    """The refs of a repo and the findings about them."""

    logs: list[RefLog] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    misplaced: dict[str, bytes] = field(default_factory=dict)
    """The bytes of intact records in the wrong place, by the storage name where they belong."""

    def named(self) -> set[Oid]:
        """Return the commits that a branch or tag points to."""
        tips = (log.tip for log in self.logs)
        return {tip.commit for tip in tips if tip is not None and tip.commit is not None}

    def commits(self) -> Iterator[tuple[Oid, RefLog, bool]]:
        """Yield the commit of every record, newest first, its log, and whether it is the tip."""
        for log in self.logs:
            tip = log.tip
            for record in reversed(log.records):
                if record.commit is not None:
                    yield record.commit, log, record is tip


def path_of(*parts: str) -> str:
    """Return a path among the refs relative to the repo's folder."""
    return "/".join((paths.REPO_FOLDER, "refs", *parts))


def check_refs(repo: str) -> RefCheck:
    """Check everything in the folder of refs."""
    check = RefCheck()
    for space in SPACES:
        folder = paths.inside(repo, "refs", space)
        if fs.kind(folder) != "folder":
            continue  # the check of the folders reports it
        folded: dict[str, str] = {}
        for quoted in fs.names(folder):
            name = ref_names.unquote(quoted)
            kind = fs.kind(f"{folder}/{quoted}")
            path = path_of(space, quoted)
            if name is None:
                check.findings.append(Finding("ref-foreign", path, f"a {kind} with no ref's name"))
            elif kind != "folder":
                check.findings.append(Finding("ref-replaced", path, f"it is a {kind}"))
            else:
                check.findings += _check_name(name, path, folded)
                check.logs.append(_read_log(check, repo, name, space))
    return check


def _check_name(name: str, path: str, folded: dict[str, str]) -> Iterator[Finding]:
    try:
        ref_names.check_name(name)
    except InvalidNameError as error:
        yield Finding("ref-name", path, str(error))
    other = folded.setdefault(name.casefold(), name)
    if other != name:
        yield Finding("ref-collision", path, f"{name!r} and {other!r} differ in case alone")


def _read_log(check: RefCheck, repo: str, name: str, space: Space) -> RefLog:
    quoted = ref_names.quote(name)
    path = path_of(space, quoted)
    found = check_log(
        paths.inside(repo, "refs", space, quoted),
        path,
        _CLASSES,
        lambda raw, seq: RefRecord.from_bytes(raw, f"{space}/{name}", seq),
        _classify,
        max_bytes=MAX_BYTES,
    )
    check.findings += found.findings
    for raw in found.misplaced:
        check.misplaced.setdefault(_home(raw), raw)
    if not found.taken:
        check.findings.append(Finding("ref-empty", path, f"{space}/{name} has no record"))
    check.findings += found.report_gaps(_CLASSES, path)
    check.findings += _check_order(path, found.records, found.gaps)
    return RefLog(name, space, found.records)


def _classify(raw: bytes) -> Damage:
    return classify_record(raw, lambda body, seq: _has_place(raw, body.get("ref"), seq))


def _has_place(raw: bytes, ref: Json, seq: int) -> bool:
    """Return whether a record may belong where it claims to; raises MalformedObjectError."""
    if type(ref) is not str:
        raise MalformedObjectError("a ref record's ref is not text")
    RefRecord.from_bytes(raw, ref, seq)
    space, _, name = ref.partition("/")
    known = space in SPACES and bool(name) and len(ref_names.quote(name)) <= ref_names.MAX_QUOTED
    return known and seq < 10**16


def _home(raw: bytes) -> str:
    """Return the storage name under which an intact record belongs."""
    body = canonical.loads(raw)
    assert type(body) is dict
    assert type(body["seq"]) is int
    space, _, name = str(body["ref"]).partition("/")
    return append_log.path_of(f"refs/{space}/{ref_names.quote(name)}", body["seq"])


def _check_order(path: str, records: list[RefRecord], gaps: list[int]) -> Iterator[Finding]:
    before: RefRecord | None = None
    known = {0}
    for record in records:
        own = append_log.path_of(path, record.seq)
        if record.previous not in known and record.previous not in gaps:
            yield Finding("record-previous", own, f"it follows record {record.previous}")
        expected = None if before is None else before.commit
        if record.kind == "fence" and record.commit != expected:
            yield Finding("record-fence", own, "it names another commit than the one before it")
        known.add(record.seq)
        before = record
