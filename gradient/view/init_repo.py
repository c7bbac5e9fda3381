"""Making a repo that other tools can open from the start."""

from __future__ import annotations

import os
from contextlib import suppress

from gradient.errors import OwnershipError
from gradient.repo.config import RepoConfig
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo
from gradient.view.manifest import Manifest


def init_repo(
    path: str | os.PathLike[str],
    name: str | None = None,
    description: str | None = None,
    workspace_path: str | os.PathLike[str] | None = None,
) -> RepoConfig:
    """Make the folder a repo, with its manifest; one that is there already is returned as it is.

    With `workspace_path` the folder must be directly in that workspace. Raises ForeignRepoError
    where the folder holds checkpoints that another program wrote.
    """
    config = create_repo(path, name, description, workspace_path)
    repo = Repository.open(config.repo_path)
    manifest = Manifest(repo)
    if not manifest.exists():
        with suppress(OwnershipError):  # it is derived: the owner's next commit writes it
            repo.trust.check(repo.path)
            manifest.write()
    return config
