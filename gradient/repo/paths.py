"""The paths in a workspace and in a repo (docs/format.md, "Layout")."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

FORMAT: Final = 1
"""The version of the on-disk format that this code writes, and the newest it reads."""

WORKSPACE_FOLDER: Final = ".gradient"
REPO_FOLDER: Final = ".gradient-repo"
CONFIG: Final = "config.json"
HEAD: Final = "HEAD"
MANIFEST: Final = "manifest.json"

FOLDERS: Final = ("objects/pack", "objects/trash", "refs/heads", "refs/tags", "leases", "tmp")
"""The folders of a new repo, inside `REPO_FOLDER`."""


def workspace_config(workspace: str) -> str:
    """Return the path of a workspace's config file."""
    return str(PurePath(workspace, WORKSPACE_FOLDER, CONFIG))


def inside(repo: str, *parts: str) -> str:
    """Return a path inside a repo's own folder."""
    return str(PurePath(repo, REPO_FOLDER, *parts))


def beside(repo: str, *parts: str) -> str:
    """Return a path in a repo's visible folder, which holds the view."""
    return str(PurePath(repo, *parts))
