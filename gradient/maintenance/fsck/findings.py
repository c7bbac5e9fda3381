"""The classes of damage that fsck finds, and one finding for each case.

The words are for scripts and never change their meaning (docs/guide-fsck.md lists them).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "info"]
"""``error``: stored bytes are wrong. ``warning``: no commit is affected, but something is not as
Gradient leaves it. ``info``: worth knowing; no action is needed."""


@dataclass(frozen=True, slots=True)
class Class:
    """One way in which a repo can be damaged."""

    severity: Severity
    """Its severity."""
    meaning: str
    """Its meaning, in one line."""
    remedy: str
    """Its remedy, in one line."""


_REPAIR = "`gradient fsck --repair` saves every intact object in it"
_COPY = "copy the file back from a backup, or resume another commit"
_ASIDE = "`gradient fsck --repair` moves it to lost+found"
_RESTORE = "`gradient fsck --repair` writes it again"
_VIEW = "`gradient view rebuild`"
_SWITCH = "`gradient switch NAME`"
_RENAME = "`gradient branch -m OLD NEW`"
_NOTHING = "none needed: it is ignored"
_FORGET_AGAIN = "if objects are missing, run the same `gradient forget` again"
_FORGET = f"{_ASIDE}; {_FORGET_AGAIN}"
_WRITER = "resume another commit, and report the fault of the program that wrote it"
_DISK = "check the disk"
_UPGRADE = "use a newer version of Gradient"

CLASSES: Final[dict[str, Class]] = {
    # Folders
    "folder-missing": Class("error", "a folder of the repo is missing", _COPY),
    "folder-replaced": Class("error", "a folder of the store is a link or a file", _COPY),
    # Settings
    "config-missing": Class("error", "config.json is missing", _RESTORE),
    "config-replaced": Class("error", "config.json is not a regular file", _RESTORE),
    "config-malformed": Class("error", "config.json is not a JSON object", _RESTORE),
    "config-unversioned": Class("error", "config.json has no format version", _RESTORE),
    "config-version": Class("error", "config.json names an unknown format version", _UPGRADE),
    "config-field": Class("warning", "a field of config.json is not text", "edit config.json"),
    "workspace-config": Class(
        "error", "the workspace's config.json cannot be read", "restore or edit it"
    ),
    "head-replaced": Class("error", "HEAD is not a regular file", _ASIDE),
    "head-malformed": Class("error", "HEAD does not name a branch", f"{_ASIDE}; then {_SWITCH}"),
    "head-unborn": Class(
        "warning", "HEAD names a branch without commits, and other branches have some", _SWITCH
    ),
    # Packs
    "pack-replaced": Class("error", "a pack is not a regular file", _COPY),
    "pack-foreign": Class("warning", "objects/pack holds something that is not a pack", _NOTHING),
    "pack-unreadable": Class("error", "the system cannot read a pack", _DISK),
    "pack-empty": Class("error", "a pack is empty", _COPY),
    "pack-cut": Class("error", "a pack is truncated", _REPAIR),
    "pack-extended": Class("error", "a pack has bytes after its end", _REPAIR),
    "pack-header": Class("error", "a pack's header is wrong", _REPAIR),
    "pack-version": Class("error", "a pack was written by a newer version", _UPGRADE),
    "pack-trailer": Class("error", "a pack's trailer is wrong", _REPAIR),
    "pack-name": Class("error", "a pack has the name of another pack", _REPAIR),
    "pack-index-place": Class("error", "a pack's index does not fit into the pack", _REPAIR),
    "pack-index-hash": Class("error", "a pack's index does not match its hash", _REPAIR),
    "pack-index-rows": Class("error", "a pack's index violates the format", _REPAIR),
    "pack-hash": Class(
        "error", "a pack does not match its hash, though all of its objects do", _REPAIR
    ),
    # Frames
    "frame-header": Class("error", "a frame's header contradicts the index", _REPAIR),
    "frame-undecodable": Class("error", "a frame cannot be decoded", _REPAIR),
    "frame-hash": Class("error", "a frame's content does not match its id", _REPAIR),
    "frame-base-missing": Class("error", "the base of a delta frame is missing", _COPY),
    "frame-base-damaged": Class("error", "the base of a delta frame is damaged", _COPY),
    "frame-base-length": Class("error", "a delta frame and its base differ in length", _WRITER),
    "frame-base-cycle": Class("error", "a delta frame depends on itself", _WRITER),
    "frame-base-deep": Class("error", "a frame depends on a chain of more than 8 deltas", _WRITER),
    # Objects
    "object-missing": Class("error", "a required object is in no pack", _COPY),
    "object-damaged": Class("error", "every frame of a required object is damaged", _COPY),
    "object-kind": Class("error", "a required object is of the wrong kind", _WRITER),
    "commit-malformed": Class("error", "a commit violates the format", _WRITER),
    "commit-parent": Class("error", "a commit's parent is lost: its history ends there", _COPY),
    "commit-anchor": Class("warning", "a commit's anchor is lost or is not an anchor", _NOTHING),
    "commit-step": Class("warning", "a commit's step is below its parent's", _NOTHING),
    "commit-dependent": Class(
        "warning", "an anchor has chunks that exist only as deltas", _NOTHING
    ),
    "commit-unreachable": Class(
        "info",
        "a commit is not reachable from any branch or tag",
        "`gradient fork ID NAME` starts a branch at it",
    ),
    "root-malformed": Class("error", "a commit's root tree holds more than trees", _WRITER),
    "tree-malformed": Class("error", "a tree violates the format", _WRITER),
    "tree-deep": Class("error", "trees are nested too deeply", _WRITER),
    "value-malformed": Class("error", "a tree holds an invalid value", _WRITER),
    "tensor-malformed": Class("error", "a tensor's description contradicts itself", _WRITER),
    "chunk-length": Class("error", "a chunk does not have the length that its tree names", _WRITER),
    "list-malformed": Class("error", "a list of chunks violates the format", _WRITER),
    # Refs
    "ref-foreign": Class(
        "warning", "the folder of refs holds something that is not a ref", _NOTHING
    ),
    "ref-replaced": Class("error", "a ref or one of its records is not a regular file", _ASIDE),
    "ref-name": Class("warning", "a ref has a name that is no longer allowed", _RENAME),
    "ref-collision": Class("warning", "two refs differ only in case", _RENAME),
    "ref-empty": Class("warning", "a ref has no records", _NOTHING),
    "record-unreadable": Class("error", "the system cannot read a ref's record", _DISK),
    "record-large": Class("error", "a ref's record is too long", _ASIDE),
    "record-torn": Class("error", "a ref's record is incomplete", _ASIDE),
    "record-malformed": Class("error", "a ref's record violates the format", _ASIDE),
    "record-check": Class("error", "a ref's record does not match its checksum", _ASIDE),
    "record-misplaced": Class("error", "a ref's record has the name of another record", _ASIDE),
    "record-previous": Class("warning", "a record's predecessor is missing", _NOTHING),
    "record-gap": Class("warning", "a ref's log has gaps in its numbers", _NOTHING),
    "record-fence": Class("warning", "a fence record moves the ref", _NOTHING),
    "ref-tip-lost": Class("error", "the tip of a ref is lost", _COPY),
    "ref-commit-lost": Class(
        "info", "a former tip of a ref was garbage collected, or is lost", _NOTHING
    ),
    # Retention
    "retention-foreign": Class(
        "warning", "the folder of retention records holds something else", _NOTHING
    ),
    "retention-replaced": Class("error", "a retention record is not a regular file", _FORGET),
    "retention-large": Class("error", "a retention record is too long", _FORGET),
    "retention-torn": Class("error", "a retention record is incomplete", _FORGET),
    "retention-malformed": Class("error", "a retention record violates the format", _FORGET),
    "retention-check": Class("error", "a retention record does not match its checksum", _FORGET),
    "retention-misplaced": Class("error", "a retention record has the number of another", _FORGET),
    "retention-gap": Class("warning", "a retention record is missing", _FORGET_AGAIN),
    # Derived files
    "ledger-malformed": Class("warning", "a ledger fails its check", _ASIDE),
    "ledger-wrong": Class("warning", "a ledger contradicts a pack", _ASIDE),
    "manifest-malformed": Class("warning", "manifest.json is not a manifest", _VIEW),
    "manifest-foreign": Class("warning", "manifest.json lists foreign entries", _VIEW),
    "manifest-stale": Class("warning", "manifest.json lists a commit that no branch has", _VIEW),
    "manifest-missing": Class("warning", "a commit is missing from manifest.json", _VIEW),
    "view-missing": Class("info", "a file listed in the manifest is missing", _VIEW),
    "view-damaged": Class("warning", "a ckpt_*.pt file of this repo is truncated", _VIEW),
    "view-foreign": Class(
        "warning", "a ckpt_*.pt file was not written by this repo", "move it away"
    ),
    "view-stale": Class(
        "warning",
        "a ckpt_*.pt file belongs to a commit that is missing",
        "`gradient import PATH` turns a full file into a commit; or delete it",
    ),
    "leftover": Class("info", "a killed writer left an unfinished file", _NOTHING),
}
"""Every class of damage, by its stable word."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One case of damage."""

    id: str
    """A key of `CLASSES`."""
    path: str
    """The file, relative to the repo's folder; empty for an object without a file."""
    message: str
    """The description, for people."""
    oid: str | None = None
    """The affected object."""
    commits: tuple[str, ...] = field(default=(), compare=False)
    """The revisions of the commits that cannot be restored because of it."""

    @property
    def severity(self) -> Severity:
        """Its severity."""
        return CLASSES[self.id].severity

    def document(self) -> dict[str, Any]:
        """Return the finding as ``--json`` prints it."""
        return {
            "id": self.id,
            "severity": self.severity,
            "path": self.path,
            "object": self.oid,
            "message": self.message,
            "commits": list(self.commits),
            "remedy": CLASSES[self.id].remedy,
        }


@dataclass(frozen=True, slots=True)
class FsckReport:
    """The result of a check."""

    findings: tuple[Finding, ...]
    """Sorted: the worst first, then by class and path."""
    commits: int
    """The number of commits that were checked."""
    damaged: tuple[str, ...]
    """The revisions of the commits that cannot be restored."""
    damaged_ids: tuple[str, ...]
    """Their ids, in the same order; the revision of a lost commit is unknown."""
    packs: int
    """The number of packs that were checked."""
    frames: int
    """The number of frames that were decoded and compared with their ids."""
    read_bytes: int
    """The number of pack bytes that were read."""
    all_bytes: int
    """The number of bytes of all packs."""
    complete: bool
    """True if every frame was checked, so that all damage is listed."""

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def is_sound(self) -> bool:
        """True if no checked byte is wrong."""
        return self.count("error") == 0


_RANK: Final = {"error": 0, "warning": 1, "info": 2}


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return the distinct findings, the worst first."""
    unique = dict.fromkeys(findings)
    places = {word: number for number, word in enumerate(CLASSES)}
    return tuple(
        sorted(
            unique,
            key=lambda f: (_RANK[f.severity], places[f.id], f.path, f.oid or "", f.message),
        )
    )
