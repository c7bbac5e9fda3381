"""Make tests/format/forgotten-v1.tar from the golden repo, with commits that were forgotten.

In it one commit is forgotten, another has lost its optimizer, and what nothing needs any more is
gone. The JSON beside it says what is to be there. Neither is ever made anew for format 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gradient.checkpoint import reader
from gradient.errors import ForgottenError
from gradient.maintenance.fsck.check import check
from gradient.maintenance.garbage_collection import collect
from gradient.repo.repository import Repository
from gradient.store.retention_log import RetentionLog
from tools.make_damaged_repository import GOLDEN, pack, unpack, write
from tools.make_golden_repository import TIME, digest

NAME: Final = "forgotten-v1"
POLICY: Final = "--keep-last 2"


def forget(root: Path) -> None:
    """Let go of two commits, and remove what nothing needs any more."""
    repo = Repository.open(root, workers=1)
    records = RetentionLog(repo.storage, clock=lambda: TIME)
    records.append([repo.resolve("main@0").oid], drop=None, policy=POLICY)
    optimizer = [repo.resolve("main@10").oid]
    records.append(optimizer, drop=["optimizer"], policy=f"{POLICY} --drop optimizer")
    collect(repo, grace=0.0)


def describe(root: Path) -> dict[str, Any]:
    """Return what every commit of a repo still has, in words that never change."""
    repo = Repository.open(root, workers=1)
    commits: dict[str, dict[str, Any]] = {}
    for oid in repo.store.commits():
        commit = repo.read_commit(oid)
        try:
            repo.check_kept(oid, components=())
        except ForgottenError as error:
            commits[str(oid)] = {"revision": commit.revision, "policy": error.policy}
            continue
        dropped = repo.dropped().get(oid)
        entries = reader.component_entries(repo.store, commit.tree)
        kept = [name for name in entries if dropped is None or not dropped.covers(name)]
        state = reader.read_state(repo.store, commit.tree, components=kept)
        commits[str(oid)] = {
            "revision": commit.revision,
            "dropped": [] if dropped is None else list(dropped.components or ()),
            "components": {name: digest(value) for name, value in sorted(state.items())},
        }
    report = check(root, workers=1)
    return {"commits": commits, "findings": [finding.id for finding in report.findings]}


def make(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Forget in a copy of the golden repo inside a folder; return its archive and what is left."""
    root = unpack(GOLDEN, folder)
    forget(root)
    return pack(folder), describe(root)


if __name__ == "__main__":
    write(NAME, make, __doc__)
