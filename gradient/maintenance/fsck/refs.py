"""Is every record of every branch and tag what it should be, and where it should be?"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gradient.errors import GradientIOError, InvalidNameError, MalformedObjectError
from gradient.maintenance.fsck.findings import Finding
from gradient.objects import canonical
from gradient.objects.oid import Oid
from gradient.repo import paths
from gradient.storage import fs
from gradient.store import ref_names
from gradient.store.refs import RefRecord, Space

SPACES: Final[tuple[Space, ...]] = ("heads", "tags")
_SEQ = re.compile(r"[0-9]{16}")
_MOST_BYTES: Final = 64 << 10
_FIELDS: Final = {"check", "commit", "kind", "previous", "reason", "ref", "seq", "time", "writer"}


@dataclass(slots=True)
class RefLog:
    """One ref, as its folder tells it."""

    name: str
    space: Space
    records: list[RefRecord] = field(default_factory=list)
    """Those that count, oldest first."""

    @property
    def tip(self) -> RefRecord | None:
        """The last record; None where the ref does not exist (any more)."""
        last = self.records[-1] if self.records else None
        return None if last is None or last.kind == "delete" else last


@dataclass(slots=True)
class RefCheck:
    """What the refs of a repo are, and what is wrong with them."""

    logs: list[RefLog] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    misplaced: dict[str, bytes] = field(default_factory=dict)
    """Whole records that lie elsewhere than they say: where they belong, and what they are."""

    def named(self) -> set[Oid]:
        """Return the commits that a branch or tag names."""
        tips = (log.tip for log in self.logs)
        return {tip.commit for tip in tips if tip is not None and tip.commit is not None}

    def commits(self) -> Iterator[tuple[Oid, RefLog, bool]]:
        """Yield every commit that a record names, the newest first; whether it is the tip."""
        for log in self.logs:
            tip = log.tip
            for record in reversed(log.records):
                if record.commit is not None:
                    yield record.commit, log, record is tip


def path_of(*parts: str) -> str:
    """Return a path among the refs relative to the repo's folder."""
    return "/".join((paths.REPO_FOLDER, "refs", *parts))


def check_refs(repo: str) -> RefCheck:
    """Look at everything among the refs."""
    check = RefCheck()
    for space in SPACES:
        folder = paths.inside(repo, "refs", space)
        if fs.kind(folder) != "folder":
            continue  # said elsewhere
        folded: dict[str, str] = {}
        for quoted in fs.names(folder):
            name = ref_names.unquote(quoted)
            what = fs.kind(f"{folder}/{quoted}")
            path = path_of(space, quoted)
            if name is None:
                check.findings.append(Finding("ref-foreign", path, f"a {what} with no ref's name"))
            elif what != "folder":
                check.findings.append(Finding("ref-replaced", path, f"it is a {what}"))
            else:
                check.findings += _judge_name(name, path, folded)
                check.logs.append(_read_log(check, repo, name, space))
    return check


def _judge_name(name: str, path: str, folded: dict[str, str]) -> Iterator[Finding]:
    try:
        ref_names.check_name(name)
    except InvalidNameError as error:
        yield Finding("ref-name", path, str(error))
    other = folded.setdefault(name.casefold(), name)
    if other != name:
        yield Finding("ref-collision", path, f"{name!r} and {other!r} differ in case alone")


def _read_log(check: RefCheck, repo: str, name: str, space: Space) -> RefLog:
    log = RefLog(name, space)
    quoted = ref_names.quote(name)
    folder = paths.inside(repo, "refs", space, quoted)
    taken = []
    for entry in fs.names(folder):
        path = path_of(space, quoted, entry)
        what = fs.kind(f"{folder}/{entry}")
        if _SEQ.fullmatch(entry) is None or int(entry) == 0:
            check.findings.append(Finding("ref-foreign", path, f"a {what} with no record's name"))
            continue
        taken.append(int(entry))
        if what != "file":
            check.findings.append(Finding("ref-replaced", path, f"it is a {what}"))
            continue
        try:
            raw = fs.read_file(f"{folder}/{entry}", limit=_MOST_BYTES)
            log.records.append(RefRecord.from_bytes(raw, f"{space}/{name}", int(entry)))
        except MalformedObjectError as error:
            word = classify(raw)
            check.findings.append(Finding(word, path, str(error)))
            if word == "record-misplaced":
                check.misplaced.setdefault(_home(raw), raw)
        except GradientIOError as error:
            if not fs.is_missing(error):
                word = "record-large" if error.errno == errno.EFBIG else "record-unreadable"
                check.findings.append(Finding(word, path, str(error)))
    if not taken:
        check.findings.append(
            Finding("ref-empty", path_of(space, quoted), f"{space}/{name} has no record")
        )
    check.findings += _judge_log(log, taken)
    return log


def classify(raw: bytes) -> str:
    """Return the class of what keeps a record from counting."""
    try:
        body = canonical.loads(raw)
    except MalformedObjectError:
        complete = raw.startswith(b"{") and raw.endswith(b"}")
        return "record-malformed" if complete else "record-torn"
    if type(body) is not dict or body.keys() != _FIELDS:
        return "record-malformed"
    seq, ref = body["seq"], body["ref"]
    if type(seq) is not int or seq < 1 or type(ref) is not str:
        return "record-malformed"
    try:
        RefRecord.from_bytes(raw, ref, seq)
    except MalformedObjectError as error:
        return "record-check" if "check" in str(error) else "record-malformed"
    space, _, name = ref.partition("/")
    known = space in SPACES and bool(name) and len(ref_names.quote(name)) <= ref_names.MAX_QUOTED
    return "record-misplaced" if known and seq < 10**16 else "record-malformed"


def _home(raw: bytes) -> str:
    """Return the storage name under which a whole record belongs."""
    body = canonical.loads(raw)
    assert type(body) is dict
    space, _, name = str(body["ref"]).partition("/")
    return f"refs/{space}/{ref_names.quote(name)}/{body['seq']:016d}"


def _judge_log(log: RefLog, taken: list[int]) -> Iterator[Finding]:
    path = path_of(log.space, ref_names.quote(log.name))
    gaps = sorted(set(range(1, max(taken, default=0))) - set(taken)) if taken else []
    if gaps:
        shown = ", ".join(map(str, gaps[:5])) + (" …" if len(gaps) > 5 else "")
        yield Finding("record-gap", path, f"no record has the number {shown}")
    before: RefRecord | None = None
    known = {0}
    for record in log.records:
        own = f"{path}/{record.seq:016d}"
        if record.previous not in known and record.previous not in gaps:
            yield Finding("record-previous", own, f"it follows record {record.previous}")
        expected = None if before is None else before.commit
        if record.kind == "fence" and record.commit != expected:
            yield Finding("record-fence", own, "it names another commit than the one before it")
        known.add(record.seq)
        before = record
