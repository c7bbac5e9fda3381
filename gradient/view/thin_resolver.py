"""The payload of a thin file, from the repo that it names or one around the current folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from gradient.errors import ContextError, GradientError, MissingObjectError
from gradient.objects.oid import Oid
from gradient.repo import discovery, paths
from gradient.repo.repository import Repository
from gradient.repo.workspace import list_repos


def find_payload(commit: str, revision: str, repo: str) -> dict[str, Any]:
    """Return the payload of a commit from the first repo that has it.

    If the repo was moved, the repos around the current directory are searched. Raises ContextError
    if none has the commit, IntegrityError for damage.
    """
    from gradient.view import desc_payload  # lazily: the cheap checks come before torch

    oid = Oid.parse(commit)
    for path in dict.fromkeys(_candidates(repo)):
        try:
            found = Repository.open(path)
            found.read_commit(oid)
        except (ContextError, MissingObjectError):
            continue
        return desc_payload.read(found, oid)
    raise ContextError(
        f"this thin file stands for {revision} (commit {commit[:10]}) of the repo {repo}, which is "
        f"not there, and no repo around the current directory has that commit. Run this in the "
        f"moved workspace, or make a file that needs no store: gradient export {revision} PATH"
    )


def _candidates(repo: str) -> Iterator[str]:
    if PurePath(repo).is_absolute():
        yield repo
    inside = discovery.find_repo()
    if inside is not None:
        yield inside
    try:
        workspace = discovery.locate_workspace()
    except GradientError:
        return
    for name in list_repos(workspace):
        yield paths.beside(workspace, name)
