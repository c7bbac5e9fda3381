"""The forms in which commands show a commit: a line, a paragraph, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import click

from gradient.cli import output
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.repo.history import History
from gradient.repo.repository import Repository

JSON_FIELDS = (
    "`id`, `revision` (branch and step, as it resolves now), `step`, `branch`, `type` (anchor or "
    "delta), `parents`, `anchor` (or null), `time` (UTC), `message`, `metrics`, `refs` (the "
    "branches and tags that point to it), `finite` (whether all weights are finite; null if they "
    "were not checked), `forgotten` (null while it is whole; else `components`: the dropped ones, "
    "or null for all, `policy` and `time`)"
)
"""The JSON fields of a commit."""


class CommitFormatter:
    """Formats the commits of one repo, with their current names."""

    def __init__(self, repo: Repository, active: str) -> None:
        self._repo = repo
        self._history = History(repo, on_damage="skip")
        self._dropped = repo.dropped()
        self._refs: dict[Oid, list[str]] = {}
        self._names: dict[Oid, list[str]] = {}
        for branch, tip in self._history.tips.items():
            self._names.setdefault(tip, []).append(branch)
            shown = f"HEAD -> {branch}" if branch == active else branch
            self._refs.setdefault(tip, []).insert(0 if branch == active else 99, shown)
        for tag, record in repo.refs.tips("tags").items():
            if record.commit is not None:
                self._names.setdefault(record.commit, []).append(tag)
                self._refs.setdefault(record.commit, []).append(f"tag: {tag}")

    def revision(self, oid: Oid, commit: CommitRecord) -> str:
        """Return ``branch@step`` as it resolves now; for an unreachable commit, as it was made."""
        entry = self._history.entries.get(oid)
        return commit.revision if entry is None else entry.revision

    def document(self, oid: Oid, commit: CommitRecord) -> dict[str, Any]:
        """Return the JSON fields of a commit."""
        revision = self.revision(oid, commit)
        return {
            "id": str(oid),
            "revision": revision,
            "step": commit.step,
            "branch": revision.rpartition("@")[0],
            "type": commit.type,
            "parents": [str(parent) for parent in commit.parents],
            "anchor": None if commit.anchor is None else str(commit.anchor),
            "time": commit.time,
            "message": commit.message,
            "metrics": output.plain_numbers(commit.metrics),
            "refs": self._names.get(oid, []),
            "finite": commit.finite,
            "forgotten": None if oid not in self._dropped else asdict(self._dropped[oid]),
        }

    def line(self, oid: Oid, commit: CommitRecord, metrics: Iterable[str] = ()) -> str:
        """Return one line: id, revision, refs, message, metrics."""
        revision = self.revision(oid, commit)
        forgotten = self._is_forgotten(oid)
        words = [output.dim(oid.short), revision if forgotten else output.bold(revision)]
        words += [self.decoration(oid)] if oid in self._refs else []
        words += [f"({self._dropped_text(oid)})"] if oid in self._dropped else []
        words += ["(not finite)"] if commit.finite is False else []
        words += commit.message.splitlines()[:1]
        line = "  ".join([*words, *_metric_words(commit, metrics)])
        return output.dim(click.unstyle(line)) if forgotten else line

    def _is_forgotten(self, oid: Oid) -> bool:
        return oid in self._dropped and self._dropped[oid].components is None

    def _dropped_text(self, oid: Oid) -> str:
        """Describe the dropped components."""
        components = self._dropped[oid].components
        return "forgotten" if components is None else f"without {', '.join(components)}"

    def paragraph(
        self, oid: Oid, commit: CommitRecord, metrics: Iterable[str] = ()
    ) -> Iterator[str]:
        """Yield the lines of a paragraph with the main facts of a commit."""
        refs = f"  {self.decoration(oid)}" if oid in self._refs else ""
        yield f"commit {oid}{refs}"
        revision = self.revision(oid, commit)
        shown = output.dim(revision) if self._is_forgotten(oid) else output.bold(revision)
        yield f"at       {shown}, {commit.type}"
        if len(commit.parents) > 1:
            yield f"merge    {' '.join(parent.short for parent in commit.parents)}"
        yield f"date     {output.utc(commit.time)}"
        if oid in self._dropped:
            dropped = self._dropped[oid]
            day, policy = dropped.time.partition("T")[0], dropped.policy
            yield f"kept     {self._dropped_text(oid)} since {day}: gradient forget {policy}"
        numbers = (
            [*_metric_words(commit, metrics)]
            if metrics
            else [*_metric_words(commit, commit.metrics)]
        )
        if numbers:
            yield f"metrics  {'  '.join(numbers)}"
        if commit.finite is False:
            yield "weights  not finite"
        if commit.message:
            yield ""
            yield from (f"    {line}" for line in commit.message.splitlines())

    def unreadable_lines(self, commit: CommitRecord) -> Iterator[str]:
        """Yield a line for each commit before this one that cannot be read."""
        oid = commit.link.parent
        while oid in self._repo.inferred_parents:
            yield f"{output.dim(oid.short)}  cannot be read; to see why: gradient fsck"
            oid = self._repo.inferred_parents[oid]

    @property
    def unreadable(self) -> list[str]:
        """The ids of the unreadable commits that were skipped so far."""
        return [str(oid) for oid in self._repo.inferred_parents]

    def decoration(self, oid: Oid) -> str:
        """Return the refs that point to a commit, in parentheses."""
        return f"({', '.join(self._refs[oid])})"


def value(number: int | float | None) -> str:
    """Return a metric in readable form, with six digits."""
    return "-" if number is None else f"{number:.6g}" if isinstance(number, float) else str(number)


def _metric_words(commit: CommitRecord, metrics: Iterable[str]) -> Iterator[str]:
    return (f"{name}={value(commit.metrics.get(name))}" for name in metrics)
