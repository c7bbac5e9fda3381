"""The view after refs were moved by hand: names and manifest follow."""

from __future__ import annotations

from gradient.objects.oid import Oid
from gradient.repo.repository import Repository
from gradient.view.folder import ViewFolder
from gradient.view.manifest import Manifest
from gradient.view.updates import ViewUpdater, guarded


def add_commit(repo: Repository, oid: Oid) -> None:
    """Write the thin file of a commit that no engine made, if the repo has view files."""
    view = ViewUpdater(repo, "thin" if ViewFolder(repo).marks() else "off")
    view.add(oid)
    view.close()


def follow_refs(repo: Repository) -> None:
    """Rename files and write the manifest anew; a failure is logged and goes no further."""
    guarded("the view", ViewFolder(repo).follow)
    guarded("manifest.json", Manifest(repo).write)
