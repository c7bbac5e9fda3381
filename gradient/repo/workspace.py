"""The creation of workspaces and repos, and their config files.

No path is stored: the repos of a workspace are the ones in its folder, and the workspace of a repo
is the folder above. So both can be moved, copied and mounted elsewhere.
"""

from __future__ import annotations

import os
from pathlib import PurePath

from gradient.errors import ConfigError, ContextError
from gradient.objects import timestamp
from gradient.repo import foreign_files, json_files, paths
from gradient.repo.config import RepoConfig, WorkspaceConfig, check_folder_name
from gradient.storage import fs


def init_workspace(path: str | os.PathLike[str], name: str | None = None) -> WorkspaceConfig:
    """Make a folder a workspace, durably; an existing workspace is returned unchanged.

    Raises ContextError for a repo's own folder.
    """
    root = fs.absolute(path)
    found = load_workspace(root)
    if found is not None:
        return found
    if is_repo(root):
        raise ContextError(
            f"{root} is a repo; a workspace is a folder that holds repos: {PurePath(root).parent}"
        )
    fs.make_folders(str(PurePath(root, paths.WORKSPACE_FOLDER)), durable=True)
    json_files.write_durable(
        paths.workspace_config(root),
        {
            "format": paths.FORMAT,
            "workspace_name": name or PurePath(root).name or "workspace",
            "created_at": timestamp.now(),
        },
    )
    return open_workspace(root)


def create_repo(
    path: str | os.PathLike[str],
    name: str | None = None,
    description: str | None = None,
    workspace_path: str | os.PathLike[str] | None = None,
) -> RepoConfig:
    """Make a folder a repo, durably; an existing repo is returned unchanged.

    Raises ForeignRepoError if the folder holds checkpoints that another program wrote.
    """
    root = fs.absolute(path)
    if workspace_path is not None:
        _check_inside(root, fs.absolute(workspace_path))
    found = load_repo(root)
    if found is not None:
        return found
    if name is not None:
        check_folder_name(name)
    foreign_files.refuse_writing(root)
    for folder in paths.FOLDERS:
        fs.make_folders(paths.inside(root, folder), durable=True)
    # IMPORTANT: the config comes last, because it makes the folder a repo.
    json_files.write_durable(
        paths.inside(root, paths.CONFIG),
        {
            "format": paths.FORMAT,
            "repo_name": name or PurePath(root).name or "repo",
            "description": description or "",
            "created_at": timestamp.now(),
        },
    )
    return open_repo_config(root)


def load_workspace(path: str) -> WorkspaceConfig | None:
    """Read a workspace's config and list its repos; None if the folder is not a workspace."""
    document = json_files.read(paths.workspace_config(path))
    if document is None:
        return None
    return WorkspaceConfig(
        name=json_files.text(document, "workspace_name") or PurePath(path).name,
        root_path=path,
        repos=list_repos(path),
        created_at=json_files.text(document, "created_at"),
    )


def open_workspace(path: str) -> WorkspaceConfig:
    """Read a workspace's config; raises ContextError if the folder is not a workspace."""
    found = load_workspace(path)
    if found is None:
        raise ContextError(f"{path} is not a workspace; make it one: gradient workspace init")
    return found


def load_repo(path: str) -> RepoConfig | None:
    """Read a repo's config, of any program; None if the folder is not a repo."""
    document = json_files.read(paths.inside(path, paths.CONFIG))
    if document is None:
        return None
    above = str(PurePath(path).parent)
    return RepoConfig(
        name=json_files.text(document, "repo_name") or PurePath(path).name,
        repo_path=path,
        workspace_path=above if is_workspace(above) else None,
        description=json_files.text(document, "description") or "",
        created_at=json_files.text(document, "created_at"),
    )


def open_repo_config(path: str) -> RepoConfig:
    """Read a repo's config; raises ContextError if the folder is not a repo."""
    found = load_repo(path)
    if found is None:
        raise ContextError(f"{path} is not a repo; make it one: gradient repo init")
    return found


def list_repos(workspace: str) -> list[str]:
    """Return the folder names of a workspace's repos, sorted."""
    return [name for name in fs.names(workspace) if is_repo(str(PurePath(workspace, name)))]


def is_workspace(path: str) -> bool:
    """Return whether the folder is a workspace."""
    return fs.is_file(paths.workspace_config(path))


def is_repo(path: str) -> bool:
    """Return whether the folder is a repo."""
    return fs.is_file(paths.inside(path, paths.CONFIG))


def _check_inside(repo: str, workspace: str) -> None:
    open_workspace(workspace)
    if PurePath(repo).parent != PurePath(workspace):
        raise ConfigError(f"{repo} is not a direct subfolder of the workspace {workspace}")
