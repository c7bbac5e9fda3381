"""Past a commit that cannot be read: what came before it, as the refs' logs have it.

A commit names its parent, so a damaged one hides all before it. The log of the branch that it was
made on still says where that branch stood before: that is its parent, unless the branch had been
left there for an older commit, and then that tip was set aside under a name of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

from gradient.errors import IntegrityError
from gradient.objects.commit import CommitRecord, Link
from gradient.objects.oid import Oid
from gradient.repo import branch_names
from gradient.repo.graph import Graph

_LOG = logging.getLogger("gradient")


def bridged(graph: Graph, tip: Oid | None) -> Iterator[tuple[Oid, Link]]:
    """Yield the places in history of a commit and its first parents, as `Graph.chain` does.

    What cannot be read is left out, with a logged warning, where the logs tell what came before
    it; where they do not, its IntegrityError is raised.
    """
    lost: set[Oid] = set()
    oid = tip
    while oid is not None:
        try:
            link = graph.link(oid)
        except IntegrityError:
            if oid in lost:
                raise  # the logs lead round in a circle
            lost.add(oid)
            oid = before(graph, oid)
            continue
        yield oid, link
        oid = link.parent


def commits(graph: Graph, tip: Oid | None) -> Iterator[tuple[Oid, CommitRecord]]:
    """Yield a commit and its first parents, as `Graph.walk` does and `bridged` can."""
    return ((oid, graph.read_commit(oid)) for oid, _ in bridged(graph, tip))


def before(graph: Graph, oid: Oid) -> Oid | None:
    """Return a commit's first parent; of one that cannot be read, by the logs, as `bridged`."""
    try:
        return graph.link(oid).parent
    except IntegrityError:
        parent = graph.bridges.get(oid) or _before(graph, oid)
        if parent is None:
            raise
    if oid not in graph.bridges:
        graph.bridges[oid] = parent
        _LOG.warning(
            "commit %s cannot be read; by its branch's log, %s came before it. "
            "What is damaged, and what can be saved: gradient fsck",
            oid.short,
            parent.short,
        )
    return parent


def _before(graph: Graph, oid: Oid) -> Oid | None:
    """Return the parent of a commit by the log of the branch it was made on; None if unsure."""
    made = []
    for branch in graph.refs.known():
        # A fence names the commit that was there: it does not change what came before.
        for before, record in pairwise([None, *graph.refs.log(branch)]):
            if record is not None and record.commit == oid:
                made.append((record.time, branch, None if before is None else before.commit))
                break
    if not made:
        return None
    _, branch, parent = min(made, key=lambda each: each[0])
    return None if parent is None or parent in _left(graph, branch) else parent


def _left(graph: Graph, branch: str) -> set[Oid]:
    """Return the tips of a branch that were set aside, also where these names are gone again."""
    beside = branch_names.lines_beside(branch, graph.refs.known())
    logs = (graph.refs.log(name) for name in beside)
    return {log[0].commit for log in logs if log and log[0].commit is not None}
