"""`gradient show`: print the details of one commit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from gradient.checkpoint.chunk_walk import contents
from gradient.cli import output
from gradient.cli.commit_format import JSON_FIELDS, CommitFormatter
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.maintenance.logical_size import node_bytes
from gradient.objects import tree as trees
from gradient.objects.oid import Kind
from gradient.objects.tree import Tree
from gradient.repo.commit_metadata import read_facts
from gradient.repo.repository import Repository
from gradient.repo.revisions import Resolved


@click.command("show")
@location_options
@click.argument("rev", default="latest", shell_complete=complete_revision)
@json_option(
    {
        "commit": JSON_FIELDS,
        "components": "by name: `id` (of its tree; null for a single value), `bytes`, `contents` "
        "(tensors and other data stored outside the tree), `dtypes` (bytes by element type)",
        "hparams": "the run's hyperparameters, or null",
        "environment": "versions, host, command line, code, seed, or null",
        "fork": "the source and the settings of a fork or merge, or null",
    }
)
@click.pass_context
def command(ctx: click.Context, rev: str, as_json: bool) -> None:
    """Show a commit: its state, its metrics, and how it was made.

    \b
    Example:
      gradient show main@best:val_loss
    """
    repo = find_repository(ctx)
    active = active_branch(repo)
    resolved = repo.resolve(rev, branch=active)
    formatter = CommitFormatter(repo, active)
    components = _components(repo, resolved)
    facts = {
        name: read_facts(repo.store, getattr(resolved.commit, name))
        for name in ("hparams", "environment", "fork")
    }
    if as_json:
        output.document(
            {
                "commit": formatter.document(resolved.oid, resolved.commit),
                "components": components,
                **{name: _plain(value) for name, value in facts.items()},
            }
        )
        return
    lines = [*formatter.paragraph(resolved.oid, resolved.commit), "", *_table(components)]
    for name, value in facts.items():
        if value:
            lines += ["", name, *output.aligned(_facts(value), indent=2)]
    output.pages(lines)


def _components(repo: Repository, resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Describe the components that were not dropped."""
    dropped = repo.dropped().get(resolved.oid)
    if dropped is not None and dropped.components is None:
        return {}
    lost = () if dropped is None else dropped.components or ()
    root = trees.parse(repo.store.read(resolved.commit.tree, Kind.TREE))
    entries = root.entries if isinstance(root, Tree) else {}
    entries = {name: entry for name, entry in entries.items() if name not in lost}
    dtypes: dict[str, Counter[str]] = {name: Counter() for name in entries}
    counts: Counter[str] = Counter()
    for content in contents(repo.store, resolved.commit.tree, without=lost):
        # A path is the component's name, then a dot or a bracket; names may hold dots themselves.
        name = max((each for each in entries if content.path.startswith(each)), key=len)
        dtypes[name][content.dtype or "data"] += content.nbytes
        counts[name] += 1
    return {
        name: {
            "id": entry["tree"] if type(entry) is dict and entry.keys() == {"tree"} else None,
            "bytes": node_bytes(repo.store, entry),
            "contents": counts[name],
            "dtypes": dict(dtypes[name]),
        }
        for name, entry in entries.items()
    }


def _table(components: dict[str, dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            name,
            output.size(each["bytes"]),
            ", ".join(f"{dtype} {output.size(size)}" for dtype, size in each["dtypes"].items()),
            output.dim((each["id"] or "")[:10]),
        )
        for name, each in components.items()
    ]
    total = sum(each["bytes"] for each in components.values())
    yield f"state    {output.size(total)}"
    yield from output.aligned(rows, indent=2)


def _facts(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if isinstance(item, dict) and item:
            yield from _facts(item, f"{prefix}{name}.")
        elif item is not None and item != [] and item != {}:
            items = item if isinstance(item, list) else [item]
            yield f"{prefix}{name}", ", ".join(map(str, items))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
