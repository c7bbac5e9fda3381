"""`gradient import`: copy other programs' checkpoints into a new or an existing repo."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from gradient.cli import output
from gradient.cli.repo_options import RepoOptions, find_location, location_options, open_repository
from gradient.engine import launch_env
from gradient.errors import ConflictError, ContextError, NotFoundError
from gradient.objects.name_list import shorten
from gradient.repo import discovery, foreign_files
from gradient.repo import paths as repo_paths
from gradient.repo import workspace as workspaces
from gradient.repo.config import DEFAULT_BRANCH, check_folder_name
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage import fs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradient.integrations.formats import FoundCheckpoint


@click.command("import")
@location_options
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.option("-b", "--branch", metavar="BRANCH", help="The branch to commit to (main).")
@click.option("--step", type=click.IntRange(0), help="The step of a single checkpoint.")
@click.pass_context
def command(
    ctx: click.Context, paths: tuple[str, ...], branch: str | None, step: int | None
) -> None:
    """Copy other programs' checkpoints into a repo.

    PATH is only read, and no code in it is run.

    PATH is a .pt file of torch.save, a .safetensors file, a folder of torch.distributed.checkpoint,
    a folder checkpoint-N of transformers' Trainer, or a folder of such folders. The checkpoints go
    to the repo of -r NAME, which is created if it does not exist. Without -r, a new repo gets the
    source's name. The step is --step, else the one in the checkpoint, else the number in its name.

    PATH can also be a repo of the published gradient-desc (up to 0.1.17), which becomes a new repo.
    Branches, steps and messages are kept, and anchors are imported bit for bit. Deltas are imported
    as that package would restore them and marked as lossy, because they are not the trained state.

    \b
    Examples:
      gradient import model.pt --step 1000
      gradient import results/ -r gpt -b downloaded
      gradient import epoch_1.pt epoch_2.pt
    """
    for path in paths:
        if not fs.exists(path):
            raise NotFoundError(f"there is no file or folder {path}")
    if len(paths) == 1 and _is_published(paths[0]):
        if branch is not None or step is not None:
            raise click.UsageError("a repo of gradient-desc has branches and steps of its own")
        _import_history(ctx, paths[0])
    else:
        _import_checkpoints(ctx, paths, branch, step)


def _is_published(path: str) -> bool:
    """Return whether a folder looks like a repo of the published package or of this one."""
    if not fs.is_folder(path):
        return False
    named = fs.is_file(
        repo_paths.beside(path, repo_paths.MANIFEST)
    ) or foreign_files.checkpoint_names(path)
    return bool(named) or fs.is_folder(repo_paths.inside(path))


def _import_history(ctx: click.Context, path: str) -> None:
    workspace, name = _target(ctx, fs.absolute(path))
    # Imported here because it needs torch, and the checks above do not.
    from gradient.integrations.gradient_desc.history import import_history
    from gradient.integrations.gradient_desc.source import open_source

    source = open_source(path)
    with (
        _new_repo(workspace, name, source.description) as repo,
        output.progress("checkpoints", len(source.checkpoints)) as advance,
    ):
        result = import_history(source, repo, progress=advance)
    target = str(PurePath(workspace, name))
    _write_view(target)
    output.line(f"{output.plural(result.commits, 'commit')} in {output.bold(name)} at {target}")
    if result.lossy:
        output.note(
            f"{len(result.lossy):,} of them are deltas of the published package, imported as it "
            f"would restore them and marked as lossy: {_some(result.lossy)}"
        )
    for text in result.notes:
        output.note(text)


def _import_checkpoints(
    ctx: click.Context, paths: tuple[str, ...], branch: str | None, step: int | None
) -> None:
    existing = _open_existing(ctx)
    workspace, name = ("", "") if existing else _target(ctx, fs.absolute(paths[0]))
    # Imported here because they need torch, and the checks above do not.
    from gradient.integrations.formats import find
    from gradient.integrations.import_checkpoints import ImportResult, import_checkpoints

    checkpoints = [each for path in paths for each in find(path)]
    into = branch or str(DEFAULT_BRANCH)

    def import_into(repo: Repository) -> ImportResult:
        with output.progress("checkpoints", len(checkpoints)) as advance:
            return import_checkpoints(
                repo, checkpoints, branch=into, onto=branch is not None, step=step, progress=advance
            )

    if existing is not None:
        result = import_into(existing)
        target = existing.path
    else:
        with _new_repo(workspace, name, _describe(checkpoints)) as repo:
            result = import_into(repo)
        target = str(PurePath(workspace, name))
    _write_view(target)
    first, last = result.steps[0], result.steps[-1]
    steps = f"step {last}" if first == last else f"steps {first} to {last}"
    count = output.plural(len(result.steps), "commit")
    output.line(
        f"{count} ({steps}) on {result.branch} in {output.bold(PurePath(target).name)} at {target}"
    )
    for text in result.notes:
        output.note(text)


def _describe(checkpoints: list[FoundCheckpoint]) -> str:
    return f"imported from {PurePath(checkpoints[0].path).name}"


def _open_existing(ctx: click.Context) -> Repository | None:
    """Open the repo that the options name, if it exists."""
    options = ctx.ensure_object(RepoOptions)
    if not (options.repo or os.environ.get(launch_env.REPO)):
        return None
    try:
        location = find_location(ctx)
    except ContextError:
        return None
    return open_repository(location.repo) if workspaces.is_repo(location.repo) else None


@contextmanager
def _new_repo(workspace: str, name: str, description: str) -> Iterator[Repository]:
    """Create a repo under a hidden temporary name, and rename it once it is complete."""
    init_workspace(workspace)
    unfinished = str(PurePath(workspace, repo_paths.WORKSPACE_FOLDER, f"import-{uuid.uuid4().hex}"))
    create_repo(unfinished, name, description)
    try:
        yield Repository.open(unfinished)
        fs.rename(unfinished, str(PurePath(workspace, name)))
    except BaseException:
        fs.discard_folder(unfinished)
        raise
    fs.sync_folder(workspace)


def _write_view(target: str) -> None:
    """Write the view of the imported commits."""
    from gradient.view.rebuild import rebuild

    with output.log_lines():
        rebuild(Repository.open(target))


def _target(ctx: click.Context, source: str) -> tuple[str, str]:
    """Return the workspace and the name of the new repo; raises ConflictError if it exists."""
    options = ctx.ensure_object(RepoOptions)
    named = options.workspace or os.environ.get(launch_env.WORKSPACE)
    if named:
        workspace = fs.absolute(named)
    else:
        try:
            workspace = discovery.locate_workspace(options.directory or ".")
        except ContextError:
            workspace = str(PurePath(source).parent)
            if not workspaces.is_workspace(workspace):
                raise
    repo_name = options.repo or os.environ.get(launch_env.REPO)
    if repo_name:
        name = repo_name
    else:
        name = PurePath(source).name
        if not fs.is_folder(source):
            name = PurePath(source).stem
        if fs.exists(str(PurePath(workspace, name))):
            name = f"{name}-imported"
    check_folder_name(name)
    target = str(PurePath(workspace, name))
    if fs.exists(target):
        raise ConflictError(f"{target} exists; name the new repo: -r NAME")
    return workspace, name


def _some(refs: list[str]) -> str:
    return shorten(refs, 5)
