"""One round of looking after a repo, in a process of its own (`upkeep` starts it)."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from gradient.errors import ConflictError
from gradient.maintenance.forget import forget
from gradient.maintenance.garbage_collection import collect
from gradient.repo.repository import Repository
from gradient.repo.retention_rules import Keep, parse_span
from gradient.repo.trust import Trust
from gradient.view.updates import follow_refs


def main(path: str, asked: str) -> None:
    """Look after the repo at `path`, and say on standard output what was done."""
    os.nice(19)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rules = json.loads(asked)
    said = look_after(path, None if rules is None else Keep(**rules))
    sys.stdout.write(said + "\n")


def look_after(path: str, keep: Keep | None) -> str:
    """Let go of what the rules do not keep, collect, and return what was done, for people."""
    # The engine that asked for this was let write here.
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
        return "somebody else does it"
    return (
        f"{forgotten} commits forgotten, {done.saved_bytes:,} bytes less in the end, "
        f"{done.freed_bytes:,} freed now"
    )


def _end_with_parent() -> None:
    """End this process when standard input does: its other end is in the parent's hand alone."""
    # Not by `sys.stdin`: the interpreter could not end while its buffer is being waited for.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
