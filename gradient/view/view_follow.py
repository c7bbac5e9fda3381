"""The view after refs were moved by hand: names and manifest follow."""

from __future__ import annotations

from gradient.repo.repository import Repository
from gradient.view.folder import ViewFolder
from gradient.view.manifest import Manifest
from gradient.view.updates import guarded


def follow_refs(repo: Repository) -> None:
    """Rename files and write the manifest anew; a failure is logged and goes no further."""
    guarded("the view", ViewFolder(repo).follow)
    guarded("manifest.json", Manifest(repo).write)
