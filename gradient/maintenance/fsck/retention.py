"""Is every retention record what it should be, and where it should be?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.maintenance.fsck.findings import Finding
from gradient.objects import canonical
from gradient.objects.oid import Oid
from gradient.repo import paths
from gradient.storage import fs
from gradient.store import retention_log
from gradient.store.retention_log import Dropped, RetentionRecord

_SEQ: Final = re.compile(r"[0-9]{16}")


@dataclass(slots=True)
class RetentionCheck:
    """What the retention records of a repo say, and what is wrong with them."""

    records: list[RetentionRecord] = field(default_factory=list)
    """Those that count, in order."""
    findings: list[Finding] = field(default_factory=list)

    def dropped(self) -> Mapping[Oid, Dropped]:
        """Return what they let go of, by commit."""
        return retention_log.dropped_by(self.records)


def path_of(*parts: str) -> str:
    """Return a path among the retention records relative to the repo's folder."""
    return "/".join((paths.REPO_FOLDER, retention_log.FOLDER, *parts))


def check_retention(repo: str) -> RetentionCheck:
    """Look at everything in the folder; there may be none."""
    check = RetentionCheck()
    folder = paths.inside(repo, retention_log.FOLDER)
    what = fs.kind(folder)
    if what not in (None, "folder"):
        check.findings.append(Finding("retention-replaced", path_of(), f"it is a {what}"))
    if what != "folder":
        return check
    taken: set[int] = set()
    for entry in fs.names(folder):
        path, what = path_of(entry), fs.kind(f"{folder}/{entry}")
        if _SEQ.fullmatch(entry) is None or int(entry) == 0:
            message = f"a {what} with no record's name"
            check.findings.append(Finding("retention-foreign", path, message))
            continue
        taken.add(int(entry))
        if what != "file":
            check.findings.append(Finding("retention-replaced", path, f"it is a {what}"))
            continue
        try:
            raw = fs.read_file(f"{folder}/{entry}", limit=retention_log.MOST_BYTES)
            check.records.append(RetentionRecord.from_bytes(raw, int(entry)))
        except MalformedObjectError as error:
            check.findings.append(Finding(classify(raw), path, str(error)))
        except GradientIOError as error:
            if not fs.is_missing(error):
                check.findings.append(Finding("retention-large", path, str(error)))
    gaps = sorted(set(range(1, max(taken, default=0))) - taken)
    if gaps:
        shown = ", ".join(map(str, gaps[:5])) + (" …" if len(gaps) > 5 else "")
        message = f"no record has the number {shown}"
        check.findings.append(Finding("retention-gap", path_of(), message))
    return check


def classify(raw: bytes) -> str:
    """Return the class of what keeps a record from counting."""
    try:
        body = canonical.loads(raw)
    except MalformedObjectError:
        complete = raw.startswith(b"{") and raw.endswith(b"}")
        return "retention-malformed" if complete else "retention-torn"
    seq = body.get("seq") if type(body) is dict else None
    if type(seq) is not int or seq < 1:
        return "retention-malformed"
    try:
        RetentionRecord.from_bytes(raw, seq)
    except MalformedObjectError as error:
        return "retention-check" if "check" in str(error) else "retention-malformed"
    return "retention-misplaced"
