"""The creation of a repo with its manifest, which other tools can open from the start."""

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
    """Make a folder a repo, with its manifest; an existing repo is returned unchanged.

    With `workspace_path`, the folder must be directly in that workspace. Raises ForeignRepoError if
    the folder holds checkpoints that another program wrote.
    """
    config = create_repo(path, name, description, workspace_path)
    repo = Repository.open(config.repo_path)
    manifest = Manifest(repo)
    if not manifest.exists():
        with suppress(OwnershipError):  # it is derived: the owner's next commit writes it
            repo.trust.check(repo.path)
            manifest.write()
    return config
