"""What can be wrong with a repo: one table of stable words, and one value for each case met.

The words are for scripts and never change their meaning (docs/guide-fsck.md lists them).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "info"]
"""``error``: stored bytes are not what they should be. ``warning``: no commit is touched, but
something is not as Gradient leaves it. ``info``: worth knowing, nothing to do."""


@dataclass(frozen=True, slots=True)
class Class:
    """One way in which a repo can be damaged."""

    severity: Severity
    """How bad it is."""
    meaning: str
    """What it means, in one line."""
    remedy: str
    """What to do about it, in one line."""


_REPAIR = "gradient fsck --repair saves every intact object of it"
_COPY = "copy the file back from a backup, or resume another commit"
_ASIDE = "gradient fsck --repair moves it to lost+found"
_VIEW = "gradient view rebuild"
_NOTHING = "nothing: it is ignored"
_FORGET = _ASIDE + "; where objects are missing then, run the same gradient forget again"
_NOTHING_MISSING = "where objects are missing, run the same gradient forget again"
_WRITER = "resume another commit; the program that wrote it has a fault, please report it"

CLASSES: Final[dict[str, Class]] = {
    # Folders
    "folder-missing": Class("error", "a folder that every repo has is not there", _COPY),
    "folder-replaced": Class("error", "a folder of the store is a link or a file", _COPY),
    # Settings
    "config-missing": Class("error", "config.json is not there", "gradient fsck --repair"),
    "config-replaced": Class("error", "config.json is no regular file", "gradient fsck --repair"),
    "config-malformed": Class(
        "error", "config.json holds no JSON object", "gradient fsck --repair"
    ),
    "config-unversioned": Class(
        "error", "config.json carries no format version", "gradient fsck --repair"
    ),
    "config-version": Class(
        "error", "config.json names a format that this version does not know", "a newer Gradient"
    ),
    "config-field": Class("warning", "a field of config.json is not text", "edit config.json"),
    "workspace-config": Class(
        "error", "the workspace's config.json can not be read", "restore or edit it"
    ),
    "head-replaced": Class("error", "HEAD is no regular file", _ASIDE),
    "head-malformed": Class("error", "HEAD names no branch", _ASIDE + "; then gradient switch"),
    "head-unborn": Class(
        "warning", "HEAD names a branch without commits while others have some", "gradient switch"
    ),
    # Packs
    "pack-replaced": Class("error", "a pack is a folder, a link or another kind of file", _COPY),
    "pack-foreign": Class("warning", "something in objects/pack is no pack", _NOTHING),
    "pack-unreadable": Class("error", "the system can not read a pack", "check the disk"),
    "pack-empty": Class("error", "a pack has no bytes", _COPY),
    "pack-cut": Class("error", "a pack is cut off", _REPAIR),
    "pack-extended": Class("error", "bytes follow the end of a pack", _REPAIR),
    "pack-header": Class("error", "a pack does not start like one", _REPAIR),
    "pack-version": Class("error", "a pack was written by a newer version", "a newer Gradient"),
    "pack-trailer": Class("error", "a pack does not end like one", _REPAIR),
    "pack-name": Class("error", "a pack lies under another one's name", _REPAIR),
    "pack-index-place": Class("error", "a pack's index does not fit into it", _REPAIR),
    "pack-index-hash": Class("error", "a pack's index has another hash", _REPAIR),
    "pack-index-rows": Class("error", "a pack's index breaks the format's rules", _REPAIR),
    "pack-hash": Class(
        "error", "a pack's bytes have another hash, though every object in it is right", _REPAIR
    ),
    # Frames
    "frame-header": Class("error", "a frame's header is not what the index says", _REPAIR),
    "frame-undecodable": Class("error", "a frame can not be decoded", _REPAIR),
    "frame-hash": Class("error", "a frame holds another content than its id says", _REPAIR),
    "frame-base-missing": Class("error", "a frame is a difference from what is not there", _COPY),
    "frame-base-damaged": Class("error", "a frame is a difference from what is damaged", _COPY),
    "frame-base-length": Class("error", "a frame is a difference from another length", _WRITER),
    "frame-base-cycle": Class("error", "a frame is a difference from itself", _WRITER),
    "frame-base-deep": Class("error", "a frame stands on more than 8 differences", _WRITER),
    # Objects
    "object-missing": Class("error", "no pack has an object that is needed", _COPY),
    "object-damaged": Class("error", "no frame of an object that is needed is right", _COPY),
    "object-kind": Class("error", "an object is of another kind than is needed", _WRITER),
    "commit-malformed": Class("error", "a commit breaks the format's rules", _WRITER),
    "commit-parent": Class("error", "a commit's parent is lost: history ends there", _COPY),
    "commit-anchor": Class("warning", "a commit's anchor is lost or none", _NOTHING),
    "commit-step": Class("warning", "a commit's step is below its parent's", _NOTHING),
    "commit-dependent": Class(
        "warning", "an anchor has chunks that are stored as differences alone", _NOTHING
    ),
    "commit-unreachable": Class(
        "info", "no branch or tag leads to a commit", "gradient fork ID --branch NAME takes it up"
    ),
    "root-malformed": Class("error", "a commit's root tree names something but trees", _WRITER),
    "tree-malformed": Class("error", "a tree breaks the format's rules", _WRITER),
    "tree-deep": Class("error", "trees are nested too deep", _WRITER),
    "value-malformed": Class("error", "a tree holds what is no value", _WRITER),
    "tensor-malformed": Class("error", "a tensor's description contradicts itself", _WRITER),
    "chunk-length": Class("error", "a chunk is not as long as the tree says", _WRITER),
    "list-malformed": Class("error", "a list of chunks breaks the format's rules", _WRITER),
    # Refs
    "ref-foreign": Class("warning", "something among the refs is no ref", _NOTHING),
    "ref-replaced": Class("error", "a ref or a record of one is a link or the like", _ASIDE),
    "ref-name": Class("warning", "a ref has a name that is refused today", "gradient branch"),
    "ref-collision": Class("warning", "two refs differ in case alone", "gradient branch"),
    "ref-empty": Class("warning", "a ref has no record at all", _NOTHING),
    "record-unreadable": Class("error", "the system can not read a ref's record", "check the disk"),
    "record-large": Class("error", "a ref's record is longer than records are", _ASIDE),
    "record-torn": Class("error", "a ref's record is not complete", _ASIDE),
    "record-malformed": Class("error", "a ref's record breaks the format's rules", _ASIDE),
    "record-check": Class("error", "a ref's record fails its check", _ASIDE),
    "record-misplaced": Class("error", "a ref's record lies where another belongs", _ASIDE),
    "record-previous": Class("warning", "a record follows one that is not there", _NOTHING),
    "record-gap": Class("warning", "numbers are missing in a ref's log", _NOTHING),
    "record-fence": Class("warning", "a fence moves the ref", _NOTHING),
    "ref-tip-lost": Class("error", "the newest commit of a ref is lost", _COPY),
    "ref-commit-lost": Class(
        "info", "a commit that a ref stood on once was collected, or is lost", _NOTHING
    ),
    # Retention
    "retention-foreign": Class(
        "warning", "something among the retention records is none", _NOTHING
    ),
    "retention-replaced": Class("error", "a retention record is a link or the like", _FORGET),
    "retention-large": Class("error", "a retention record is longer than they are", _FORGET),
    "retention-torn": Class("error", "a retention record is not complete", _FORGET),
    "retention-malformed": Class("error", "a retention record breaks the format's rules", _FORGET),
    "retention-check": Class("error", "a retention record fails its check", _FORGET),
    "retention-misplaced": Class("error", "a retention record has another one's number", _FORGET),
    "retention-gap": Class("warning", "a retention record is not there", _NOTHING_MISSING),
    # What is derived
    "ledger-malformed": Class("warning", "a ledger does not prove right", _ASIDE),
    "ledger-wrong": Class("warning", "a ledger contradicts a pack", _ASIDE),
    "manifest-malformed": Class("warning", "manifest.json is no manifest", _VIEW),
    "manifest-foreign": Class("warning", "manifest.json lists what is not ours", _VIEW),
    "manifest-stale": Class("warning", "manifest.json lists what no branch has", _VIEW),
    "manifest-missing": Class("warning", "manifest.json lacks a commit", _VIEW),
    "view-missing": Class("info", "a file that the manifest lists is not there", _VIEW),
    "view-damaged": Class("warning", "a ckpt_*.pt of ours is cut off", _VIEW),
    "view-foreign": Class("warning", "a ckpt_*.pt was not written by this store", "move it away"),
    "view-stale": Class(
        "warning",
        "a ckpt_*.pt belongs to a commit that is not there",
        "gradient import makes a commit of a full one; or delete it",
    ),
    "leftover": Class("info", "an unfinished file of a writer that was killed", _NOTHING),
}
"""Every class, by its stable word."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One case of damage."""

    id: str
    """A key of `CLASSES`."""
    path: str
    """What it is about, relative to the repo's folder; empty for an object that has no file."""
    message: str
    """What is wrong, for people."""
    oid: str | None = None
    """The object it is about."""
    commits: tuple[str, ...] = field(default=(), compare=False)
    """The revisions of the commits that can not be restored because of it."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return CLASSES[self.id].severity

    def document(self) -> dict[str, Any]:
        """Return it as ``--json`` prints it."""
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
    """What a check found."""

    findings: tuple[Finding, ...]
    """Sorted: the worst first, then by class and path."""
    commits: int
    """Commits that were looked at."""
    damaged: tuple[str, ...]
    """The revisions of those that can not be restored as they should be."""
    damaged_ids: tuple[str, ...]
    """Their ids, in the same order: a commit that is lost has no revision that is known."""
    packs: int
    """Packs that were looked at."""
    frames: int
    """Frames that were decoded and compared with their ids."""
    read_bytes: int
    """Bytes of packs that were read for that."""
    all_bytes: int
    """Bytes of all packs."""
    complete: bool
    """Whether every frame was looked at, so that nothing can be wrong that is not listed."""

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def is_sound(self) -> bool:
        """Whether no byte that was looked at is wrong."""
        return self.count("error") == 0


_RANK: Final = {"error": 0, "warning": 1, "info": 2}


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return findings once each, the worst first."""
    unique = dict.fromkeys(findings)
    places = {word: number for number, word in enumerate(CLASSES)}
    return tuple(
        sorted(
            unique,
            key=lambda f: (_RANK[f.severity], places[f.id], f.path, f.oid or "", f.message),
        )
    )
