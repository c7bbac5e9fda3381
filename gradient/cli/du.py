"""`gradient du`: the size of the store by branch, commit and component."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.maintenance.commit_size import usage
from gradient.maintenance.logical_size import (
    LogicalSize,
    component_bytes,
    kept_components,
    weigh,
)
from gradient.repo.history import History
from gradient.repo.repository import Repository
from gradient.repo.revisions import Resolved


@click.command("du")
@location_options
@click.argument("revs", metavar="[REV]...", nargs=-1, shell_complete=complete_revision)
@json_option(
    {
        "stored_bytes": "the size of all packs",
        "represented_bytes": "the approximate size of all commits as separate files",
        "packs": "the number of packs",
        "branches": "one object per branch: `name`, `commits` (that it owns), `represented_bytes`",
        "commits": "one object per REV: `id`, `revision` (branch and step), `type` "
        "(anchor or delta), `components`: `component`, `represented` (bytes of its tensors and "
        "data), `stored` (bytes of the frames that hold them), `new` (how many of those this "
        "commit added), `shared` (decoded bytes that a parent has or that occur twice), `raw` "
        "(decoded bytes by encoding: raw, planes, delta)",
    }
)
@click.pass_context
def command(ctx: click.Context, revs: tuple[str, ...], as_json: bool) -> None:
    """Show the space that commits take, by branch and by component.

    Stored bytes are compared with the size of the state that they represent. For each REV (by
    default the latest commit), the components follow. "new" is what the commit added to the store;
    "shared" came from its parents (the same chunk, stored once). "how" lists the encodings: a
    delta is a difference from the anchor, planes is an encoded chunk, raw is an unchanged one.

    \b
    Example:
      gradient du main@100 main@200
    """
    repo = find_repository(ctx)
    active = active_branch(repo)
    history = History(repo)
    kept = kept_components(history)
    branches = [
        {
            "name": each.branch,
            "commits": each.commits,
            "represented_bytes": sum(
                kept[each.branch, name] * size
                for name, size in component_bytes(
                    repo.store, repo.read_commit(each.tip).tree, {}
                ).items()
            ),
        }
        for each in history.summaries()
    ]
    weight = weigh(repo, history)
    selected = revs or (("latest",) if active in history.tips else ())
    found = [repo.resolve(rev, branch=active) for rev in selected]
    commits = [_describe(repo, each) for each in found]
    if as_json:
        output.document(
            {
                "stored_bytes": weight.stored_bytes,
                "represented_bytes": weight.represented_bytes,
                "packs": weight.packs,
                "branches": branches,
                "commits": commits,
            }
        )
    else:
        _print(weight, branches, commits)


def _describe(repo: Repository, found: Resolved) -> dict[str, Any]:
    repo.check_kept(found.oid, components=())
    return {
        "id": str(found.oid),
        "revision": found.revision,
        "type": found.commit.type,
        "components": [asdict(each) for each in usage(repo, found.commit)],
    }


def _print(
    weight: LogicalSize, branches: list[dict[str, Any]], commits: list[dict[str, Any]]
) -> None:
    stored, represented = weight.stored_bytes, weight.represented_bytes
    ratio = output.ratio(stored, represented)
    output.line(
        f"{output.size(stored)} in {output.plural(weight.packs, 'pack')} "
        f"for about {output.size(represented)} of state{ratio}"
    )
    if branches:
        output.table(
            (
                each["name"],
                output.plural(each["commits"], "commit"),
                output.size(each["represented_bytes"]),
            )
            for each in branches
        )
    for each in commits:
        output.line(f"\n{output.bold(each['revision'])} ({each['id'][:10]}), {each['type']}")
        head = ("", "state", "stored", "new", "shared", "how")
        rows = [_cells(component) for component in each["components"]]
        output.table([head, *rows])


def _cells(component: dict[str, Any]) -> tuple[str, ...]:
    sizes = (output.size(component[name]) for name in ("represented", "stored", "new", "shared"))
    total = sum(component["raw"].values())
    how = (f"{name} {size / total:.0%}" for name, size in sorted(component["raw"].items()) if total)
    return component["component"], *sizes, ", ".join(how)
