"""The view after refs were moved by hand: names and manifest follow."""

from __future__ import annotations

from gradient.repo.repository import Repository
from gradient.view.files import guarded
from gradient.view.folder import Folder
from gradient.view.manifest import Manifest


def follow_refs(repo: Repository) -> None:
    """Rename files and write the manifest anew; a failure is logged and goes no further."""
    guarded("the view", Folder(repo).follow)
    guarded("manifest.json", Manifest(repo).write)
