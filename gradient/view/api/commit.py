"""`Commit` and `Log`: commits opened for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord as CommitObject
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.damage import naming_commits
from gradient.repo.repository import Repository
from gradient.view import html
from gradient.view.api.component import read_component

_LETTERS = 60


class Commit(Mapping[str, Any]):
    """A commit as a mapping of component names to components.

    Reading a component raises ForgottenError if its state was dropped, and IntegrityError for
    damage. Commits with the same id are equal.
    """

    def __init__(self, repo: Repository, oid: Oid, commit: CommitObject) -> None:
        self._repo = repo
        self.oid = oid
        """The commit's id as bytes."""
        self._commit = commit
        self._entries: Mapping[str, Json] | None = None

    @property
    def id(self) -> str:
        """The commit's id: 64 hex digits."""
        return str(self.oid)

    @property
    def revision(self) -> str:
        """``branch@step``, with the branch that the commit was made on."""
        return self._commit.revision

    @property
    def step(self) -> int:
        """The training step."""
        return self._commit.step

    @property
    def branch(self) -> str:
        """The branch that it was made on."""
        return self._commit.branch

    @property
    def message(self) -> str:
        """The user's message; empty without one."""
        return self._commit.message

    @property
    def metrics(self) -> dict[str, int | float]:
        """The metrics recorded with the commit, by name."""
        return dict(self._commit.metrics)

    @property
    def finite(self) -> bool | None:
        """True if no weight is NaN or infinite; None if the weights were not checked."""
        return self._commit.finite

    @property
    def time(self) -> str:
        """The time of the commit, in UTC: ``YYYY-MM-DDTHH:MM:SS.ffffff``."""
        return self._commit.time

    @property
    def type(self) -> str:
        """``"anchor"`` if all chunks are stored whole, else ``"delta"``."""
        return self._commit.type

    @property
    def forgotten(self) -> bool:
        """True if the whole state was dropped: reading it raises ForgottenError."""
        dropped = self._repo.dropped().get(self.oid)
        return dropped is not None and dropped.components is None

    @property
    def parents(self) -> list[Commit]:
        """The parents: none for a root, several for a merge."""
        parents = ((oid, self._repo.read_commit(oid)) for oid in self._commit.parents)
        return [Commit(self._repo, oid, commit) for oid, commit in parents]

    @property
    def hparams(self) -> dict[str, Any]:
        """The run's hyperparameters; empty if none were recorded."""
        return self._value(self._commit.hparams)

    @property
    def environment(self) -> dict[str, Any]:
        """The versions, host, command line and code; empty if none were recorded."""
        return self._value(self._commit.environment)

    def __getitem__(self, name: str) -> Any:
        """Return a component: a `Component` if it has named entries, else its value.

        Raises KeyError for an unknown name, ForgottenError, and IntegrityError for damage.
        """
        entries = self._components()
        if name not in entries:
            raise KeyError(
                f"{self.revision} has no component {name!r}; it has {', '.join(entries)}"
            )
        self._repo.check_kept(self.oid, components=(name,))
        with naming_commits(self._repo):
            return read_component(self._repo, f"{self.revision} {name}", entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._components())

    def __len__(self) -> int:
        return len(self._components())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Commit) and other.oid == self.oid

    def __hash__(self) -> int:
        return hash(self.oid)

    def __repr__(self) -> str:
        said = f" {first_line(self.message)!r}" if self.message else ""
        return f"<Commit {self.revision} ({self.oid.short}){said}>"

    def _repr_html_(self) -> str:
        facts = {
            "id": self.id,
            "time": self.time,
            "message": self.message,
            "metrics": _metrics(self._commit),
            "parents": ", ".join(oid.short for oid in self._commit.parents),
            "components": "forgotten" if self.forgotten else ", ".join(self),
        }
        return html.card(self.revision, facts)

    def _components(self) -> Mapping[str, Json]:
        if self._entries is None:
            self._repo.check_kept(self.oid, components=())
            tree = trees.parse(self._repo.store.read(self._commit.tree, Kind.TREE))
            if not isinstance(tree, Tree):
                raise MalformedObjectError(f"tree {self._commit.tree.short} is not a root tree")
            self._entries = tree.entries
        return self._entries

    def _value(self, oid: Oid | None) -> dict[str, Any]:
        from gradient.checkpoint.reader import read_value

        value = {} if oid is None else read_value(self._repo.store, oid)
        return value if isinstance(value, dict) else {}


class Log(list[Commit]):
    """A list of commits, the newest first; a table in a notebook."""

    def _repr_html_(self) -> str:
        rows = [
            (
                each.revision,
                each.oid.short,
                first_line(each.message),
                _metrics(each._commit),
                each.time,
            )
            for each in self
        ]
        title = f"{len(self):,} commits"
        return html.table(title, ("revision", "id", "message", "metrics", "time"), rows)


def _metrics(commit: CommitObject) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in commit.metrics.items())


def first_line(message: str) -> str:
    """Return the first line of a message, cut to 60 characters."""
    line = message.splitlines()[0] if message else ""
    return line if len(line) <= _LETTERS else line[: _LETTERS - 1] + "…"
