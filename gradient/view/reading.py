"""A repo as Python objects to look into: history at once, tensors one by one as they are asked for.

    repo = gradient.open_repo("workspace/gpt")
    repo["main@100"]["model"]["lm_head.weight"]

Nothing here changes the repo, and no `repr` reads a tensor or imports torch.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from gradient.checkpoint.leaves import Leaf, leaves
from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.commit import Commit as CommitObject
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.repo.damage import naming_commits
from gradient.repo.discovery import locate
from gradient.repo.repository import Repository
from gradient.view import cards

if TYPE_CHECKING:
    from gradient.view.compare import Comparison, Side
    from gradient.view.export import Exported

_SHOWN = 20
_LETTERS = 60


def open_repo(path: str | os.PathLike[str] = ".") -> Repo:
    """Open a repo for reading: the one that a folder is in, or the only one below it.

    Raises ContextError where there is none, or several.
    """
    return Repo(Repository.open(locate(path).repo))


class Repo:
    """A repo to look into."""

    def __init__(self, repository: Repository) -> None:
        self._repo = repository

    @property
    def path(self) -> str:
        """The repo's folder."""
        return self._repo.path

    @property
    def name(self) -> str:
        """The repo's name."""
        return self._repo.config.name

    @property
    def branches(self) -> list[str]:
        """The names of all branches, sorted."""
        return self._repo.branches()

    @property
    def tags(self) -> list[str]:
        """The names of all tags, sorted."""
        return self._repo.refs.names(space="tags")

    @property
    def active_branch(self) -> str:
        """The branch that `latest` is about."""
        return self._repo.active_branch()

    def __getitem__(self, revision: str) -> Commit:
        """Return the commit that a revision names; raises UnknownRevisionError."""
        found = self._repo.resolve(revision)
        return Commit(self._repo, found.oid, found.commit)

    def log(self, revision: str | None = None, *, limit: int | None = None) -> Log:
        """Return a commit and those before it on its line, the newest first.

        Without a revision the active branch is meant, which may be empty.
        """
        start = (
            self._repo.tip(self.active_branch)
            if revision is None
            else self._repo.resolve(revision).oid
        )
        found = Log()
        for oid, commit in self._repo.walk(start):
            if limit is not None and len(found) >= limit:
                break
            found.append(Commit(self._repo, oid, commit))
        return found

    def diff(self, a: Against, b: Against, *, optimizer: bool = False) -> Comparison:
        """Compare two commits: what is said about them, and each tensor of the model.

        With `optimizer` its tensors, too.
        """
        from gradient.view.compare import compare  # lazily, as all below that needs torch

        with naming_commits(self._repo):
            return compare(self._side(a), self._side(b), optimizer=optimizer)

    def export(
        self,
        revision: str | Commit,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        **what: Any,
    ) -> Exported:
        """Write a commit to a ``.pt`` or ``.safetensors`` file, or to a folder.

        `what` selects: ``components=("model",)``, ``weights_only=True``, ``match=("lora_*",)``,
        ``dtype="bfloat16"``.
        """
        from gradient.view.export import Selection, export

        with naming_commits(self._repo):
            oid = self._commit(revision).oid
            return export(self._repo, oid, os.fspath(path), Selection(**what), force=force)

    def _commit(self, revision: str | Commit) -> Commit:
        return revision if isinstance(revision, Commit) else self[revision]

    def _side(self, one: Against) -> Side:
        from gradient.view.compare import Side, revision_side

        if isinstance(one, Side):
            return one
        commit = self._commit(one)
        return revision_side(self._repo, commit.oid, commit.revision)

    def __repr__(self) -> str:
        tip = self._repo.tip(self.active_branch)
        at = f"{self.active_branch}@{self._repo.read_commit(tip).step}" if tip else "no commits"
        return f"<Repo {self.name!r} at {at}, {len(self.branches)} branches, {self.path}>"

    def _repr_html_(self) -> str:
        rows = []
        for branch, tip in self._repo.tips().items():
            commit = self._repo.read_commit(tip)
            active = "active" if branch == self.active_branch else ""
            rows.append((branch, commit.step, _first_line(commit.message), commit.time, active))
        head = ("branch", "step", "message", "time", "")
        return cards.table(f"{self.name} ({self.path})", head, rows)


class Commit(Mapping[str, Any]):
    """A commit to look into: component names to components."""

    def __init__(self, repo: Repository, oid: Oid, commit: CommitObject) -> None:
        self._repo = repo
        self.oid = oid
        """Its id."""
        self._commit = commit
        self._entries: Mapping[str, Json] | None = None

    @property
    def id(self) -> str:
        """Its id, 64 hex digits."""
        return str(self.oid)

    @property
    def revision(self) -> str:
        """``branch@step``, as it read when the commit was made."""
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
        """What the user said about it."""
        return self._commit.message

    @property
    def metrics(self) -> dict[str, int | float]:
        """The numbers that were logged."""
        return dict(self._commit.metrics)

    @property
    def time(self) -> str:
        """When it was made; UTC."""
        return self._commit.time

    @property
    def type(self) -> str:
        """``"anchor"`` or ``"delta"``."""
        return self._commit.type

    @property
    def parents(self) -> list[Commit]:
        """The commits before it: none for the first, several for a merge."""
        found = ((oid, self._repo.read_commit(oid)) for oid in self._commit.parents)
        return [Commit(self._repo, oid, commit) for oid, commit in found]

    @property
    def hparams(self) -> dict[str, Any]:
        """The run's hyperparameters; empty where none were recorded."""
        return self._value(self._commit.hparams)

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, host, command line, code; empty where none was recorded."""
        return self._value(self._commit.environment)

    def __getitem__(self, name: str) -> Any:
        """Return a component: a `Component` where it has names, else its value."""
        entries = self._components()
        if name not in entries:
            raise KeyError(
                f"{self.revision} has no component {name!r}; it has {', '.join(entries)}"
            )
        with naming_commits(self._repo):
            return _component(self._repo, f"{self.revision} {name}", entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._components())

    def __len__(self) -> int:
        return len(self._components())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Commit) and other.oid == self.oid

    def __hash__(self) -> int:
        return hash(self.oid)

    def __repr__(self) -> str:
        said = f" {_first_line(self.message)!r}" if self.message else ""
        return f"<Commit {self.revision} ({self.oid.short}){said}>"

    def _repr_html_(self) -> str:
        facts = {
            "id": self.id,
            "time": self.time,
            "message": self.message,
            "metrics": _metrics(self._commit),
            "parents": ", ".join(oid.short for oid in self._commit.parents),
            "components": ", ".join(self),
        }
        return cards.card(self.revision, facts)

    def _components(self) -> Mapping[str, Json]:
        if self._entries is None:
            tree = trees.parse(self._repo.store.read(self._commit.tree, Kind.TREE))
            if not isinstance(tree, Tree):
                raise MalformedObjectError(f"tree {self._commit.tree.short} is not a root tree")
            self._entries = tree.entries
        return self._entries

    def _value(self, oid: Oid | None) -> dict[str, Any]:
        from gradient.checkpoint.reader import read_value

        value = {} if oid is None else read_value(self._repo.store, oid)
        return value if isinstance(value, dict) else {}


Against: TypeAlias = "str | Commit | Side"
"""What can be compared: a revision, a commit, or a file's side (`gradient.integrations.live`)."""


class Log(list[Commit]):
    """Commits, the newest first."""

    def _repr_html_(self) -> str:
        rows = [
            (
                each.revision,
                each.oid.short,
                _first_line(each.message),
                _metrics(each._commit),
                each.time,
            )
            for each in self
        ]
        title = f"{len(self):,} commits"
        return cards.table(title, ("revision", "id", "message", "metrics", "time"), rows)


class Component(Mapping[str, Any]):
    """One component of a commit: names to tensors and plain values, each read when asked for.

    Names of nested tensors are joined by dots. The name of an entry above them (``"state"`` of an
    optimizer) is not listed, and gives all that is below it.
    """

    def __init__(self, repo: Repository, title: str, entry: Json, tree: Tree) -> None:
        self._repo = repo
        self._title = title
        self._entry = entry
        self._tree = tree
        self._leaves = {leaf.name: leaf for leaf in leaves(repo.store, entry)}
        above = {name.partition(".")[0] for name in self._leaves}
        self._plain = [
            name for name in tree.entries if not tree.flat and self._is_plain(name, above)
        ]

    def _is_plain(self, name: str, above: set[str]) -> bool:
        if name in self._leaves or name in above:
            return False
        return not any(leaf.startswith(f"{name}.") for leaf in self._leaves)

    def read(self) -> Any:
        """Return all of it, as the run had it."""
        from gradient.checkpoint.reader import read_value

        with naming_commits(self._repo):
            return read_value(self._repo.store, _oid(self._entry))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self._leaf(name).shape

    def dtype(self, name: str) -> str:
        """Return a tensor's element type, such as ``"float32"``, without reading it."""
        return self._leaf(name).dtype

    def _leaf(self, name: str) -> Leaf:
        if name not in self._leaves:
            raise self._missing(name)
        return self._leaves[name]

    def __getitem__(self, name: str) -> Any:
        """Return one tensor, on the CPU, verified; or one plain value."""
        with naming_commits(self._repo):
            if name in self._leaves:
                return self._leaves[name].load()
            if name in self._tree.entries and not self._tree.flat:
                from gradient.checkpoint.reader import read_entries

                others = [other for other in self._tree.entries if other != name]
                return read_entries(self._repo.store, self._entry, without=others)[name]
        raise self._missing(name)

    def __iter__(self) -> Iterator[str]:
        yield from self._leaves
        yield from self._plain

    def __len__(self) -> int:
        return len(self._leaves) + len(self._plain)

    def __eq__(self, other: object) -> bool:
        # By id: a comparison must not read every tensor of both.
        return isinstance(other, Component) and other._entry == self._entry

    def __hash__(self) -> int:
        return hash(_oid(self._entry))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _missing(self, name: str) -> KeyError:
        near = difflib.get_close_matches(str(name), list(self), n=5) or list(self)[:5]
        return KeyError(f"{self._title} has no {name!r}; nearest: {', '.join(near)}")

    def __repr__(self) -> str:
        elements = sum(leaf.elements for leaf in self._leaves.values())
        return f"<Component {self._title}: {len(self._leaves):,} tensors, {elements:,} elements>"

    def _repr_html_(self) -> str:
        rows = [
            (leaf.name, leaf.dtype, " x ".join(map(str, leaf.shape)))
            for leaf in list(self._leaves.values())[:_SHOWN]
        ]
        more = len(self._leaves) - len(rows)
        if more:
            rows.append((f"and {more:,} more", "", ""))
        return cards.table(repr(self)[1:-1], ("tensor", "dtype", "shape"), rows)


def _component(repo: Repository, title: str, entry: Json) -> Any:
    tree = trees.parse(repo.store.read(_oid(entry), Kind.TREE))
    if isinstance(tree, ValueTree):
        from gradient.checkpoint.reader import read_value

        return read_value(repo.store, _oid(entry))
    return Component(repo, title, entry, tree)


def _oid(entry: Json) -> Oid:
    if type(entry) is dict and entry.keys() == {"tree"}:
        return Oid.parse(entry["tree"])
    raise MalformedObjectError(f"not an entry of a root tree: {entry!r:.80}")


def _metrics(commit: CommitObject) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in commit.metrics.items())


def _first_line(message: str) -> str:
    line = message.splitlines()[0] if message else ""
    return line if len(line) <= _LETTERS else line[: _LETTERS - 1] + "…"
