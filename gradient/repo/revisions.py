"""The resolution of revisions to commits, for the forms in `revision_grammar`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from gradient.errors import (
    AmbiguousRevisionError,
    MissingObjectError,
    UnknownRevisionError,
)
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo import branch_names
from gradient.repo.graph import Graph
from gradient.repo.revision_grammar import (
    ACTIVE,
    ID,
    MOVES,
    ParsedRevision,
    is_range,
    parse,
    range_ends,
    split_metric,
)

_MOST_CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class Resolved:
    """The commit that a revision names."""

    oid: Oid
    """Its id."""
    commit: CommitRecord
    """Its content."""
    branch: str | None
    """The branch by which it was named; None for a tag or an id."""

    @property
    def revision(self) -> str:
        """``branch@step`` with the branch by which it was named, else the branch it was made on."""
        return f"{self.branch or self.commit.branch}@{self.commit.step}"


@dataclass(frozen=True, slots=True)
class Span:
    """The commits that a range names."""

    start: Resolved | None
    """The last commit before the range; None if the range begins with the root."""
    stop: Resolved
    """Its newest commit."""
    oids: tuple[Oid, ...]
    """The commits, the newest first."""


def latest(repo: Graph, revision: ParsedRevision) -> Oid:
    """Return the tip of the branch, which has the highest step because steps never go down."""
    return _tip(repo, revision, revision.base)


def last_finite(repo: Graph, revision: ParsedRevision) -> Oid:
    """Return the newest commit in a branch's history that is known to be finite.

    Its weights were checked, or it has metrics; neither contains NaN or infinite values. Commits
    that were forgotten do not count.
    """
    forgotten = _forgotten(repo)
    for oid, commit in repo.walk(_tip(repo, revision, revision.base), on_damage="skip"):
        if oid in forgotten or commit.finite is False:
            continue
        known = bool(commit.finite or commit.metrics)
        if known and all(math.isfinite(value) for value in commit.metrics.values()):
            return oid
    raise UnknownRevisionError(
        revision.text,
        f"no commit in the history of {revision.base!r} is known to be finite, by its weights or "
        f"its metrics",
    )


def best(repo: Graph, revision: ParsedRevision) -> Oid:
    """Return the commit in a branch's history with the lowest value of a metric.

    With ``:max``, the highest value counts. The newest of several such commits is returned. NaN
    and infinite values, and commits that were forgotten, do not count.
    """
    forgotten = _forgotten(repo)
    name, sign = split_metric(revision.more or "")
    leader: tuple[float, Oid] | None = None
    known: set[str] = set()
    for oid, commit in repo.walk(_tip(repo, revision, revision.base), on_damage="skip"):
        known.update(commit.metrics)
        value = None if oid in forgotten else commit.metrics.get(name)
        if value is not None and math.isfinite(value) and (not leader or sign * value < leader[0]):
            leader = sign * value, oid
    if leader is None:
        near = [f"{revision.base}@best:{each}" for each in _near(name, known) or sorted(known)]
        reason = f"no commit in the history of {revision.base!r} has a finite metric {name!r}"
        raise UnknownRevisionError(revision.text, reason, near[:_MOST_CANDIDATES])
    return leader[1]


def moves_ago(repo: Graph, revision: ParsedRevision, number: int) -> Oid:
    """Return the tip of a branch before its last `number` moves; the branch may be deleted."""
    moves = (record for record in repo.refs.backwards(revision.base) if record.kind == "move")
    count = 0
    for record in moves:
        if count == number and record.commit is not None:
            _check_there(repo, revision, record.commit)
            return record.commit
        count += 1
    reason = f"the log of {revision.base!r} has {count} moves"
    candidates = [f"{revision.base}@{{{count - 1}}}"] if count else _branches(repo)
    raise UnknownRevisionError(revision.text, reason, candidates)


def _check_there(repo: Graph, revision: ParsedRevision, oid: Oid) -> None:
    """Raise UnknownRevisionError if garbage collection removed a former tip of a branch.

    A missing commit that is still the tip is damage: raises MissingObjectError.
    """
    try:
        repo.read_commit(oid)
    except MissingObjectError:
        last = repo.refs.read(revision.base)
        if last is not None and last.commit == oid:
            raise
        reason = f"{revision.base!r} was at {oid.short} then, which gradient gc has removed since"
        raise UnknownRevisionError(revision.text, reason, []) from None


_WORDS: Final[dict[str, Callable[[Graph, ParsedRevision], Oid]]] = {
    "latest": latest,
    "last-finite": last_finite,
    "best": best,
}


def resolve_range(repo: Graph, text: str, *, branch: str) -> Span:
    """Return the commits of a range, or a revision's whole history.

    Raises the errors of `resolve`, and UnknownRevisionError if the range is empty.
    """
    if not is_range(text):
        stop = resolve(repo, text or "latest", branch=branch)
        return Span(
            None, stop, tuple(oid for oid, _ in repo.walk_links(stop.oid, on_damage="skip"))
        )
    first, last = range_ends(text)
    stop = resolve(repo, last, branch=branch)
    start = resolve(repo, first, branch=branch)
    outside = {oid for oid, _ in repo.walk_links(start.oid, on_damage="skip")}
    line = repo.walk_links(stop.oid, on_damage="skip")
    oids = tuple(oid for oid, _ in takewhile(lambda each: each[0] not in outside, line))
    if not oids:
        reason = f"{last} is in the history before {first}"
        turned = [f"{last}..{first}"] if start.oid != stop.oid else []
        raise UnknownRevisionError(text, f"the range is empty: {reason}", turned)
    return Span(start, stop, oids)


def resolve(repo: Graph, text: str, *, branch: str) -> Resolved:
    """Return the commit that a revision names; ``latest`` and ``HEAD`` mean the tip of `branch`.

    Raises MalformedRevisionError, UnknownRevisionError with the nearest existing revisions, or
    AmbiguousRevisionError with all candidates.
    """
    revision = parse(text)
    if not revision.base:
        revision = replace(revision, base=branch)
    oid, named_by = _resolve_base(repo, revision, branch)
    for _ in range(revision.back):
        parent = repo.parent(oid)
        if parent is None:
            first = f"{revision.base}@{repo.link(oid).step}" if named_by else oid.short
            raise UnknownRevisionError(text, f"the history begins at {first}", [first])
        oid = parent
    return Resolved(oid, repo.read_commit(oid), named_by)


def _resolve_base(repo: Graph, revision: ParsedRevision, active: str) -> tuple[Oid, str | None]:
    base, at = revision.base, revision.at
    if base in ACTIVE:
        return _tip(repo, revision, active), active
    if type(at) is int:
        return _at_step(repo, revision, at), base
    if type(at) is str:
        moves = MOVES.fullmatch(at)
        if moves is not None:
            return moves_ago(repo, revision, int(moves[1])), base
        return _WORDS[at](repo, revision), base
    tip = repo.tip(base) if branch_names.is_branch_name(base) else None
    if tip is not None:
        return tip, base
    tag = repo.refs.read(base, space="tags") if branch_names.is_branch_name(base) else None
    if tag is not None and tag.commit is not None:
        return tag.commit, None
    return _by_id(repo, revision), None


def _forgotten(repo: Graph) -> set[Oid]:
    """Return the commits whose whole state was dropped."""
    return {oid for oid, what in repo.dropped().items() if what.components is None}


def _tip(repo: Graph, revision: ParsedRevision, branch: str) -> Oid:
    tip = repo.tip(branch)
    if tip is None:
        others = [f"{name}@{repo.read_commit(oid).step}" for name, oid in repo.tips().items()]
        near = _near(branch, repo.branches())
        nearest = [other for other in others if other.rpartition("@")[0] in near] or others
        raise UnknownRevisionError(
            revision.text, f"branch {branch!r} has no commits", nearest[:_MOST_CANDIDATES]
        )
    return tip


def _at_step(repo: Graph, revision: ParsedRevision, step: int) -> Oid:
    branch = revision.base
    tip = repo.tip(branch)
    if tip is None:
        near = [f"{name}@{step}" for name in _near(branch, repo.branches())]
        have = [name for name in near if _find_step(repo, name.rpartition("@")[0], step)]
        raise UnknownRevisionError(
            revision.text, f"there is no branch {branch!r}", have or _branches(repo)
        )
    found = _find_step(repo, branch, step)
    if found is not None:
        return found
    repo.check_tip(branch)  # a lost tip may have had the step
    beside = branch_names.lines_beside(branch, repo.branches())
    having = [f"{name}@{step}" for name in beside if _find_step(repo, name, step)]
    # Strict: the step may be that of a damaged commit, so its absence is not certain.
    links = repo.walk_links(repo.tip(branch), on_damage="raise")
    steps = _nearest_steps(step, (link.step for _, link in links))
    reason = f"the history of {branch!r} has no step {step}"
    if having:
        reason += f", but {'branches' if len(having) > 1 else 'a branch'} set aside from it has"
    candidates = having + [f"{branch}@{near}" for near in steps]
    raise UnknownRevisionError(revision.text, reason, candidates[:_MOST_CANDIDATES])


def _find_step(repo: Graph, branch: str, step: int) -> Oid | None:
    for oid, link in repo.walk_links(repo.tip(branch), on_damage="skip"):
        if link.step == step:
            return oid
        if link.step < step:
            return None  # steps never go down, so no older commit has it
    return None


def _nearest_steps(step: int, steps: Iterable[int]) -> list[int]:
    """Return the step before and the step after, the nearer one first."""
    known = set(steps)
    below = [max((s for s in known if s < step), default=None)]
    above = [min((s for s in known if s > step), default=None)]
    found = [s for s in below + above if s is not None]
    return sorted(found, key=lambda s: abs(s - step))


def _by_id(repo: Graph, revision: ParsedRevision) -> Oid:
    prefix = revision.base.lower()
    if ID.fullmatch(prefix):
        repo.store.refresh()
        found = repo.store.find_prefix(Kind.COMMIT, prefix)
        if len(found) == 1:
            return found[0]
        if found:
            spelt = [_spell(repo, oid) for oid in found[:_MOST_CANDIDATES]]
            raise AmbiguousRevisionError(revision.text, f"{len(found)} commits have this id", spelt)
    known = [*_branches(repo), *repo.refs.names(space="tags")]
    near = difflib.get_close_matches(revision.base, known, n=_MOST_CANDIDATES)
    kinds = "branch, tag or commit id" if ID.fullmatch(prefix) else "branch or tag"
    raise UnknownRevisionError(revision.text, f"no such {kinds}", near or known[:_MOST_CANDIDATES])


def _spell(repo: Graph, oid: Oid) -> str:
    return f"{oid.hex()[:16]} ({repo.read_commit(oid).revision})"


def _branches(repo: Graph) -> list[str]:
    return repo.branches()[:_MOST_CANDIDATES]


def _near(word: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(word, list(known), n=_MOST_CANDIDATES)
