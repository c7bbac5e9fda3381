"""One round of maintenance of a repo, in a process that `auto_maintenance` starts."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from gradient.errors import ConflictError
from gradient.maintenance.garbage_collection import collect
from gradient.maintenance.retention.forget import forget
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Keep, parse_span
from gradient.repo.trust import Trust
from gradient.view.updates import follow_refs


def main(path: str, asked: str) -> None:
    """Maintain the repo at `path`, and print a summary to standard output."""
    os.nice(19)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rules = json.loads(asked)
    report = maintain(path, None if rules is None else Keep(**rules))
    sys.stdout.write(report + "\n")


def maintain(path: str, keep: Keep | None) -> str:
    """Apply the retention rules, collect garbage, and return a summary."""
    # The engine that started this process was allowed to write here.
    repo = Repository.open(path, workers=1, trust=Trust((path,)))
    try:
        if keep is None:
            done = collect(repo)
            forgotten = 0
        else:
            outcome = forget(repo, keep, grace=parse_span(keep.grace))
            done, forgotten = outcome.collected, len(outcome.plan.leaving)
            if forgotten:
                follow_refs(repo)
    except ConflictError:
        return "another process collects garbage already"
    return (
        f"{forgotten} commits forgotten, {done.saved_bytes:,} bytes less in the end, "
        f"{done.freed_bytes:,} freed now"
    )


def _end_with_parent() -> None:
    """End this process when standard input ends: only the parent holds its other end."""
    # Not `sys.stdin`: the interpreter cannot exit while a thread waits for its buffer.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
