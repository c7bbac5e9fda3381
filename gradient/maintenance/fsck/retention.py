"""The check of retention records: every one is intact and in the right place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gradient.maintenance.fsck.findings import Finding
from gradient.maintenance.fsck.log_check import Classes, Damage, check_log, classify_record
from gradient.objects.oid import Oid
from gradient.repo import paths
from gradient.storage import fs
from gradient.store import retention_log
from gradient.store.retention_log import Dropped, RetentionRecord

_CLASSES: Final = Classes(
    foreign="retention-foreign",
    replaced="retention-replaced",
    unreadable="retention-large",
    large="retention-large",
    gap="retention-gap",
    damage="retention",
)


@dataclass(slots=True)
class RetentionCheck:
    """The retention records of a repo and the findings about them."""

    records: list[RetentionRecord] = field(default_factory=list)
    """The records that count, in order."""
    findings: list[Finding] = field(default_factory=list)

    def dropped(self) -> Mapping[Oid, Dropped]:
        """Return the dropped parts of commits, by commit."""
        return retention_log.dropped_by(self.records)


def path_of() -> str:
    """Return the path of the retention records relative to the repo's folder."""
    return f"{paths.REPO_FOLDER}/{retention_log.FOLDER}"


def check_retention(repo: str) -> RetentionCheck:
    """Check everything in the folder, which may be missing."""
    folder = paths.inside(repo, retention_log.FOLDER)
    kind = fs.kind(folder)
    if kind is None:
        return RetentionCheck()
    if kind != "folder":
        return RetentionCheck([], [Finding("retention-replaced", path_of(), f"it is a {kind}")])
    found = check_log(
        folder,
        path_of(),
        _CLASSES,
        RetentionRecord.from_bytes,
        _classify,
        max_bytes=retention_log.MAX_BYTES,
    )
    gaps = found.report_gaps(_CLASSES, path_of())
    return RetentionCheck(found.records, [*found.findings, *gaps])


def _classify(raw: bytes) -> Damage:
    return classify_record(raw, lambda _, seq: bool(RetentionRecord.from_bytes(raw, seq)))
