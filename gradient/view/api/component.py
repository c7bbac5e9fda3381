"""`Component`: a component of a commit, opened for reading."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from gradient.checkpoint.component_tensors import ComponentTensor, tensors_in
from gradient.errors import MalformedObjectError
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.name_list import more
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.repo.damage import naming_commits
from gradient.repo.repository import Repository
from gradient.view import html

_SHOWN = 20


def read_component(repo: Repository, title: str, entry: Json) -> Any:
    """Return the component of a root tree's entry: a `Component` if it has names, else a value."""
    tree = trees.parse(repo.store.read(_oid(entry), Kind.TREE))
    if isinstance(tree, ValueTree):
        from gradient.checkpoint.reader import read_value

        return read_value(repo.store, _oid(entry))
    return Component(repo, title, entry, tree)


class Component(Mapping[str, Any]):
    """A component of a commit as a mapping of names to tensors and plain values.

    Each tensor is read and checked by hash on access. Names of nested tensors are joined by dots.
    The name of an entry above them (``"state"`` of an optimizer) is not listed, and returns
    everything below it. Components are compared by id, without reading tensors.
    """

    def __init__(self, repo: Repository, title: str, entry: Json, tree: Tree) -> None:
        self._repo = repo
        self._title = title
        self._entry = entry
        self._tree = tree
        self._leaves = {leaf.name: leaf for leaf in tensors_in(repo.store, entry)}
        above = {name.partition(".")[0] for name in self._leaves}
        self._plain = [
            name for name in tree.entries if not tree.flat and self._is_plain(name, above)
        ]

    def _is_plain(self, name: str, above: set[str]) -> bool:
        if name in self._leaves or name in above:
            return False
        return not any(leaf.startswith(f"{name}.") for leaf in self._leaves)

    def read(self) -> Any:
        """Return the whole component as the run had it, such as a state dict.

        Tensors are on the CPU. Raises IntegrityError for damage.
        """
        from gradient.checkpoint.reader import read_value

        with naming_commits(self._repo):
            return read_value(self._repo.store, _oid(self._entry))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it; raises KeyError for another name."""
        return self._leaf(name).shape

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype, such as ``"float32"``, without reading it.

        Raises KeyError for another name.
        """
        return self._leaf(name).dtype

    def _leaf(self, name: str) -> ComponentTensor:
        if name not in self._leaves:
            raise self._missing(name)
        return self._leaves[name]

    def __getitem__(self, name: str) -> Any:
        """Return one tensor, on the CPU, or one plain value.

        Raises KeyError for an unknown name, and IntegrityError for damage.
        """
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
        hidden = len(self._leaves) - len(rows)
        if hidden:
            rows.append((more(hidden), "", ""))
        return html.table(repr(self)[1:-1], ("tensor", "dtype", "shape"), rows)


def _oid(entry: Json) -> Oid:
    if type(entry) is dict and entry.keys() == {"tree"}:
        return Oid.parse(entry["tree"])
    raise MalformedObjectError(f"not an entry of a root tree: {entry!r:.80}")
