"""The topological order of commits, and the graph drawn next to it in text."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.repo.repository import Repository


def parents(repo: Repository, oid: Oid) -> tuple[Oid, ...]:
    """Return a commit's parents, reading it only if it is a merge.

    A parent that cannot be read is replaced by the one before it, if the refs' logs have it.
    """
    link = repo.link(oid)
    if link.merges:
        listed = repo.read_commit(oid).parents
    else:
        listed = () if link.parent is None else (link.parent,)
    return tuple(_readable(repo, listed))


def _readable(repo: Repository, oids: Iterable[Oid]) -> list[Oid]:
    """Return each commit once, replacing those that cannot be read as in `parents`."""
    return list(dict.fromkeys(next(repo.walk_links(oid, on_damage="skip"))[0] for oid in oids))


def newest_first(repo: Repository, tips: Iterable[Oid]) -> Iterator[tuple[Oid, CommitRecord]]:
    """Yield commits and their ancestors by time, the newest first; a child precedes its parents."""
    children: Counter[Oid] = Counter()
    pending = _readable(repo, tips)
    seen = set(pending)
    first = list(pending)
    while pending:
        for parent in parents(repo, pending.pop()):
            children[parent] += 1
            if parent not in seen:
                seen.add(parent)
                pending.append(parent)
    ready = [_ranked(repo, oid) for oid in first if not children[oid]]
    heapq.heapify(ready)
    while ready:
        _, _, oid = heapq.heappop(ready)
        commit = repo.read_commit(oid)
        yield oid, commit
        for parent in parents(repo, oid):
            children[parent] -= 1
            if not children[parent]:
                heapq.heappush(ready, _ranked(repo, parent))


def draw(commits: Iterable[tuple[Oid, Sequence[Oid]]]) -> Iterator[tuple[list[str], str]]:
    """Yield the rows above each commit and its own row; commits are given with their parents."""
    columns: list[Oid] = []
    above: list[str] = []
    for oid, before in commits:
        if oid not in columns:
            columns.append(oid)
        at = columns.index(oid)
        for other in range(len(columns) - 1, at, -1):
            if columns[other] == oid:
                above.append(_joining(len(columns), at, other))
                del columns[other]
        yield above, " ".join("*" if each == at else "|" for each in range(len(columns)))
        above = []
        if not before:
            if at < len(columns) - 1:
                above = [_closing(len(columns), at)]
            del columns[at]
            continue
        columns[at] = before[0]
        for parent in before[1:]:
            columns.insert(at + 1, parent)
            above.append(_opening(len(columns), at))


def _ranked(repo: Repository, oid: Oid) -> tuple[bytes, int, Oid]:
    commit = repo.read_commit(oid)
    return commit.time.encode().translate(_TURNED), -commit.step, oid


_TURNED = bytes(range(255, -1, -1))
"""Reverses the order of times."""


def _joining(width: int, at: int, other: int) -> str:
    """Draw column `other` running into column `at`; those right of it move to the left."""
    cells = [" "] * (2 * width - 1)
    for column in range(other):
        cells[2 * column] = "|"
    for column in range(other, width):
        cells[2 * column - 1] = "/"
    for place in range(2 * at + 2, 2 * other - 1):
        cells[place] = "_" if cells[place] == " " else cells[place]
    return "".join(cells).rstrip()


def _closing(width: int, at: int) -> str:
    """Draw the columns right of one that ended moving to the left."""
    cells = [" "] * (2 * width - 1)
    for column in range(at):
        cells[2 * column] = "|"
    for column in range(at + 1, width):
        cells[2 * column - 1] = "/"
    return "".join(cells).rstrip()


def _opening(width: int, at: int) -> str:
    """Draw a column that begins right of column `at`."""
    cells = [" "] * (2 * width - 1)
    for column in range(at + 1):
        cells[2 * column] = "|"
    for column in range(at + 1, width):
        cells[2 * column - 1] = "\\"
    return "".join(cells).rstrip()
