"""`gradient import`: the history of a repo that the published package wrote, in a repo of ours."""

from __future__ import annotations

import os
import uuid
from pathlib import PurePath

import click

from gradient.cli import output
from gradient.cli.place import Wanted, place_options
from gradient.engine import handoff
from gradient.errors import ConflictError, ContextError, NotFoundError
from gradient.repo import discovery, layout
from gradient.repo import workspace as workspaces
from gradient.repo.config import check_folder_name
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage import fs


@click.command("import")
@place_options
@click.argument("path", type=click.Path(file_okay=False))
@click.pass_context
def command(ctx: click.Context, path: str) -> None:
    """Copy another program's history into a new repo.

    Nothing at PATH is changed.

    PATH is the folder of a repo of the published gradient-desc (up to 0.1.17): branches, steps and
    messages come over, anchors bit for bit, deltas as that package would restore them, which is
    not what was trained: they are marked as lossy. The new repo is -r NAME in -w WORKSPACE; by
    default it lies in this workspace, or in the source's, under the source's name.
    """
    if not fs.is_folder(path):
        raise NotFoundError(f"there is no folder {path}")
    workspace, name = _target(ctx, fs.absolute(path))
    target = str(PurePath(workspace, name))
    # Here alone: it imports torch, which the checks above can do without.
    from gradient.integrations.gradient_desc import import_history, open_source
    from gradient.view.rebuild import rebuild

    source = open_source(path)
    init_workspace(workspace)
    # Under a name where nobody looks, until it is whole.
    unfinished = str(PurePath(workspace, layout.WORKSPACE_FOLDER, f"import-{uuid.uuid4().hex}"))
    create_repo(unfinished, name, source.description)
    try:
        repo = Repository.open(unfinished)
        with output.progress("checkpoints", len(source.checkpoints)) as advance:
            done = import_history(source, repo, progress=advance)
        fs.rename(unfinished, target)
    except BaseException:
        fs.discard_folder(unfinished)
        raise
    fs.sync_folder(workspace)
    with output.log_lines():
        rebuild(Repository.open(target))
    output.line(f"{output.amount(done.commits, 'commit')} in {output.strong(name)} at {target}")
    if done.lossy:
        output.note(
            f"{len(done.lossy):,} of them are deltas of the published package: they are what it "
            f"would restore, marked as lossy: {_some(done.lossy)}"
        )
    for text in done.notes:
        output.note(text)


def _target(ctx: click.Context, source: str) -> tuple[str, str]:
    """Return the workspace and the name for the new repo; raises ConflictError if it exists."""
    wanted = ctx.ensure_object(Wanted)
    named = wanted.workspace or os.environ.get(handoff.WORKSPACE)
    if named:
        workspace = fs.absolute(named)
    else:
        try:
            workspace = discovery.locate_workspace(wanted.directory or ".")
        except ContextError:
            workspace = str(PurePath(source).parent)
            if not workspaces.is_workspace(workspace):
                raise
    if wanted.repo is not None:
        name = wanted.repo
        check_folder_name(name)
    else:
        name = PurePath(source).name
        if fs.exists(str(PurePath(workspace, name))):
            name = f"{name}-imported"
    target = str(PurePath(workspace, name))
    if fs.exists(target):
        raise ConflictError(f"{target} exists; name the new repo: -r NAME")
    return workspace, name


def _some(refs: list[str]) -> str:
    shown = ", ".join(refs[:5])
    return shown if len(refs) <= 5 else f"{shown}, …"
