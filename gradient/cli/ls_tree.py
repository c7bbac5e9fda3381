"""`gradient ls-tree`: list the contents of a commit by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.errors import NotFoundError
from gradient.maintenance.logical_size import node_bytes
from gradient.objects import tree as trees
from gradient.objects.canonical import MAX_DEPTH, Json
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.repo.repository import Repository


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One name in a tree."""

    path: str
    """The names from the root, separated by slashes."""
    kind: str
    """``tree``, ``tensor`` or ``value``."""
    id: str | None
    """A subtree's id."""
    dtype: str | None
    """A tensor's element type."""
    shape: list[Json] | None
    """A tensor's shape."""
    bytes: int
    """The size of its tensors and data."""


@click.command("ls-tree")
@location_options
@click.argument("rev", shell_complete=complete_revision)
@click.argument("path", default="")
@click.option("-R", "--recursive", is_flag=True, help="Also list the subtrees.")
@json_option(
    {
        "id": "the commit's id",
        "entries": "in the user's order: `path`, `kind` (tree, tensor, value), `id` (of a tree, "
        "or null), `dtype` and `shape` (of a tensor, or null), `bytes` (of its tensors and data)",
    }
)
@click.pass_context
def command(ctx: click.Context, rev: str, path: str, recursive: bool, as_json: bool) -> None:
    """List the components, modules and tensors of REV, with sizes.

    PATH selects a part, with slashes: model/h/0.

    \b
    Examples:
      gradient ls-tree main@100
      gradient ls-tree -R main@100 model
    """
    repo = find_repository(ctx)
    resolved = repo.resolve(rev, branch=active_branch(repo))
    node: Json = {"tree": str(resolved.commit.tree)}
    parts = [part for part in path.split("/") if part]
    repo.check_kept(resolved.oid, components=parts[:1] or None)
    for depth, part in enumerate(parts):
        tree = _tree(repo, node)
        if not isinstance(tree, Tree) or part not in tree.entries:
            there = [*tree.entries][:5] if isinstance(tree, Tree) else []
            names = f"; it has {', '.join(there)}" if there else ""
            raise NotFoundError(
                f"{'/'.join(parts[:depth]) or resolved.commit.revision} has no {part!r}{names}"
            )
        node = tree.entries[part]
    rows = _rows(repo, node, "/".join(parts), recursive=recursive)
    if as_json:
        output.document({"id": str(resolved.oid), "entries": [asdict(row) for row in rows]})
        return
    output.pages(
        output.aligned((row.kind, output.size(row.bytes), _form(row), row.path) for row in rows)
    )


def _rows(
    repo: Repository, node: Json, path: str, *, recursive: bool, depth: int = 0
) -> Iterator[TreeRow]:
    tree = _tree(repo, node) if depth < MAX_DEPTH else None
    if not isinstance(tree, Tree):
        yield _row(repo, node, path)
        return
    for name, entry in tree.entries.items():
        below = f"{path}/{name}" if path else name
        yield _row(repo, entry, below)
        if recursive and _subtree(entry) is not None:
            yield from _rows(repo, entry, below, recursive=True, depth=depth + 1)


def _row(repo: Repository, node: Json, path: str) -> TreeRow:
    subtree = _subtree(node)
    tensor = node.get("tensor") if type(node) is dict and len(node) == 1 else None
    size = node_bytes(repo.store, node)
    if subtree is not None:
        return TreeRow(path, "tree", str(subtree), None, None, size)
    if type(tensor) is dict:
        dtype, shape = tensor.get("dtype"), tensor.get("shape")
        listed = shape if type(shape) is list else None
        return TreeRow(path, "tensor", None, str(dtype), listed, size)
    return TreeRow(path, "value", None, None, None, size)


def _tree(repo: Repository, node: Json) -> Tree | ValueTree | None:
    subtree = _subtree(node)
    return None if subtree is None else trees.parse(repo.store.read(subtree, Kind.TREE))


def _subtree(node: Json) -> Oid | None:
    if type(node) is dict and node.keys() == {"tree"}:
        return Oid.parse(node["tree"])
    return None


def _form(row: TreeRow) -> str:
    if row.kind == "tree":
        return (row.id or "")[:10]
    if row.kind == "tensor":
        return f"{row.dtype}{row.shape if row.shape is not None else ''}"
    return ""
