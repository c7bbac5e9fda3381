"""The plan of retention: the commits that the rules keep, each with its reasons.

Goals: a state that a run may need next is never dropped, and every kept commit has a reason. The
tips of refs, the commits where branches part and the newest finite commit of each branch are
therefore kept whatever the rules say, and so are commits that are on no branch.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gradient.errors import ConfigError, UnknownRevisionError
from gradient.objects import timestamp
from gradient.objects.oid import Oid
from gradient.repo import branch_names
from gradient.repo.commit_metadata import component_names
from gradient.repo.history import Entry, History
from gradient.repo.repository import Repository
from gradient.repo.retention.rules import Best, Keep, parse_best, parse_span
from gradient.store.retention_log import Dropped


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """The fate of each commit."""

    kept: tuple[tuple[Entry, tuple[str, ...]], ...]
    """The kept commits with their reasons: branch by branch, the newest first."""
    leaving: tuple[Entry, ...]
    """The commits to be dropped."""
    gone: int
    """The number of commits that were dropped before."""


def plan(repo: Repository, keep: Keep, *, now: float) -> RetentionPlan:
    """Decide for every commit of a repo; nothing is changed. `now` is in seconds since 1970.

    Raises ConfigError for a metric that no commit has, or a component that no tip has: a misspelt
    rule would keep nothing, or free nothing.
    """
    found = _Rules(repo, keep, now)
    found.check()
    found.apply()
    kept = []
    leaving = []
    for oid, entry in found.history.entries.items():
        if oid in found.reasons:
            kept.append((entry, tuple(dict.fromkeys(found.reasons[oid]))))
        elif found.can_leave(oid):
            leaving.append(entry)
    kept.sort(key=lambda each: (each[0].branch, -each[0].step))
    gone = len(found.history.entries) - len(kept) - len(leaving)
    return RetentionPlan(tuple(kept), tuple(leaving), gone)


class _Rules:
    def __init__(self, repo: Repository, keep: Keep, now: float) -> None:
        # IMPORTANT: the records before the refs. What is let go of later only makes it stricter.
        self._dropped: Mapping[Oid, Dropped] = repo.dropped()
        # Strict: a rule that does not see every commit could drop one that it must keep.
        self.history = History(repo, on_damage="raise")
        self._repo = repo
        self._keep = keep
        self._now = now
        self.reasons: dict[Oid, list[str]] = {}

    def check(self) -> None:
        """Refuse rules about unknown metrics and components, unless the repo is empty."""
        if not self.history.entries:
            return
        metrics = {name for each in self.history.entries.values() for name in each.commit.metrics}
        components = {
            name
            for tip in self.history.tips.values()
            for name in component_names(self._repo.store, self._repo.read_commit(tip).tree)
        }
        wanted = [parse_best(spec).metric for spec in self._keep.best]
        _refuse_absent("commit", "metric", wanted, metrics)
        _refuse_absent("branch", "component", self._keep.drop, components)

    def can_leave(self, oid: Oid) -> bool:
        """Return whether anything is left to drop."""
        dropped = self._dropped.get(oid)
        if dropped is None or dropped.components is None:
            return dropped is None
        return not self._keep.drop or not all(map(dropped.covers, self._keep.drop))

    def _is_gone(self, oid: Oid) -> bool:
        dropped = self._dropped.get(oid)
        return dropped is not None and dropped.components is None

    def apply(self) -> None:
        for oid, reason in self._always():
            self._note(oid, reason)
        for branch in self.history.tips:
            self._line(branch)
        if self._keep.every is not None:
            for entry in self.history.newest():
                if entry.step % self._keep.every == 0:
                    self._note(entry.oid, f"every {self._keep.every:,}")

    def _note(self, oid: Oid, reason: str) -> None:
        if not self._is_gone(oid):
            self.reasons.setdefault(oid, []).append(reason)

    def _always(self) -> Iterator[tuple[Oid, str]]:
        for branch, tip in self.history.tips.items():
            yield tip, f"tip of {branch}"
        for space, what in (("heads", "tip of"), ("tags", "tagged")):
            for name, record in self._repo.refs.tips(space).items():  # type: ignore[arg-type]
                if record.commit is not None:
                    yield record.commit, f"{what} {name}"
        yield from ((oid, "lines part there") for oid in self.history.forks())
        for entry in self.history.entries.values():
            if entry.link.merges:
                yield from ((oid, "merged") for oid in entry.commit.parents)

    def _line(self, branch: str) -> None:
        """Apply the rules that concern one branch."""
        tip = self.history.tips[branch]
        line = [oid for oid, _ in self._repo.walk_links(tip, on_damage="raise")]
        line = [oid for oid in line if not self._is_gone(oid)]
        self._last(line, self._keep.last or 0)
        for best in map(parse_best, self._keep.best):
            self._best(line, best)
        try:
            finite = self._repo.resolve(f"{branch}@last-finite").oid
        except UnknownRevisionError:
            pass
        else:
            self._note(finite, f"last finite of {branch}")
        if self._keep.aside is not None and branch_names.is_beside(branch):
            since = self._set_aside(branch)
            if self._now - since < parse_span(self._keep.aside):
                for entry in self.history.entries.values():
                    if entry.branch == branch:
                        self._note(entry.oid, f"set aside for less than {self._keep.aside}")

    def _last(self, line: list[Oid], count: int) -> None:
        """Keep the newest whole commits, and the dropped ones between them."""
        for oid in line:
            if not count:
                break
            self._note(oid, f"last {self._keep.last}")
            count -= oid not in self._dropped

    def _best(self, line: list[Oid], best: Best) -> None:
        found = []
        for age, oid in enumerate(line):
            value = self._repo.read_commit(oid).metrics.get(best.metric)
            if value is not None and math.isfinite(value):
                found.append((best.sign * value, age, oid))
        for place, (_, _, oid) in enumerate(heapq.nsmallest(best.count, found), 1):
            self._note(oid, f"best {best.metric} ({place} of {best.count})")

    def _set_aside(self, branch: str) -> float:
        """Return the time at which a branch got its name, in seconds since 1970."""
        record = self._repo.refs.log(branch)[0]
        try:
            return timestamp.to_seconds(record.time)
        except ValueError:
            return self._now


def _refuse_absent(who: str, what: str, wanted: Iterable[str], there: Collection[str]) -> None:
    for name in wanted:
        if name not in there:
            known = ", ".join(sorted(there)) or "none"
            raise ConfigError(f"no {who} has a {what} {name!r}; there are: {known}")
