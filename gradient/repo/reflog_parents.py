"""The parents of commits that cannot be read, inferred from the refs' logs.

A commit names its parent, so a damaged commit hides the whole history before it. The log of the
branch that it was made on still has the branch's previous tip. That tip is the parent, unless the
branch was moved to an older commit first: then the previous tip was set aside under another name.
"""

from __future__ import annotations

from itertools import pairwise

from gradient.objects.oid import Oid
from gradient.repo import branch_names
from gradient.store.refs import Refs


def infer_parent(refs: Refs, oid: Oid) -> Oid | None:
    """Return a commit's first parent by the log of the branch it was made on; None if unsure."""
    moves = []
    for branch in refs.known():
        # A fence repeats the commit before it, so it does not change the parent.
        for previous, record in pairwise([None, *refs.log(branch)]):
            if record is not None and record.commit == oid:
                parent = None if previous is None else previous.commit
                moves.append((record.time, branch, parent))
                break
    if not moves:
        return None
    _, branch, parent = min(moves, key=lambda move: move[0])
    return None if parent is None or parent in _set_aside(refs, branch) else parent


def _set_aside(refs: Refs, branch: str) -> set[Oid]:
    """Return the tips of a branch that were set aside, including those of deleted names."""
    names = branch_names.lines_beside(branch, refs.known())
    logs = (refs.log(name) for name in names)
    return {log[0].commit for log in logs if log and log[0].commit is not None}
