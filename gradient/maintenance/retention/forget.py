"""`gradient forget`: record what the rules let go of, then collect what nothing needs any more.

The record is made first and alone decides: where this is killed after it, the next collection goes
on. A ref that is made meanwhile wins: what a ref names is whole whatever a record says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gradient.maintenance import garbage_collection
from gradient.maintenance.garbage_collection import GRACE, GcResult, Progress
from gradient.maintenance.lease_drain import WAIT
from gradient.maintenance.retention.plan import RetentionPlan, plan
from gradient.objects import timestamp
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep
from gradient.store.retention_log import Dropped


@dataclass(frozen=True, slots=True)
class ForgetResult:
    """What the rules did, or with `dry_run` would do."""

    plan: RetentionPlan
    """The commits that stay and go."""
    collected: GcResult
    """The collection that followed."""


def forget(
    repo: Repository,
    keep: Keep,
    *,
    grace: float = GRACE,
    wait: float = WAIT,
    dry_run: bool = False,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.time,
) -> ForgetResult:
    """Let go of what no rule keeps, and collect; with `dry_run` nothing changes.

    Safe beside writers and wherever it is killed. Raises what `collect` raises: then what was let
    go of is recorded, and freed by the next collection.
    """
    if not dry_run:
        repo.check_writable()
    found = plan(repo, keep, now=clock())
    leaving = [entry.oid for entry in found.leaving]
    drop = keep.drop or None
    if dry_run:
        what = Dropped(None if drop is None else tuple(sorted(drop)), keep.words, timestamp.now())
        done = garbage_collection.collect(
            repo,
            grace=grace,
            dry_run=True,
            progress=progress,
            clock=clock,
            leaving=dict.fromkeys(leaving, what),
        )
        return ForgetResult(found, done)
    if leaving:
        repo.retention.append(leaving, drop=drop, policy=keep.words)
    return ForgetResult(
        found,
        garbage_collection.collect(repo, grace=grace, wait=wait, progress=progress, clock=clock),
    )
