"""`gradient forget`: records the states that the rules drop, then collects garbage.

The record comes first and is decisive: after a kill, the next collection continues. A ref that is
created in between wins, because the commit of a ref is whole whatever a record says.
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
    """The result of applying the rules; with `dry_run`, what it would be."""

    plan: RetentionPlan
    """The commits that are kept and dropped."""
    collected: GcResult
    """The garbage collection that followed."""


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
    """Drop the states that no rule keeps, and collect garbage; with `dry_run` nothing changes.

    Safe during writes and after a kill at any point. Raises what `collect` raises; the dropped
    states are then recorded, and the next collection frees them.
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
