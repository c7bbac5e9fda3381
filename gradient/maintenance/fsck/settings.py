"""The checks of the folders, the config files and HEAD."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from gradient.errors import GradientIOError, MalformedObjectError
from gradient.maintenance.fsck.findings import Finding
from gradient.repo import branch_names, json_files, paths
from gradient.repo.json_files import MAX_BYTES
from gradient.storage import fs

_TEXTS = ("repo_name", "description", "created_at")
_CONFIG = f"{paths.REPO_FOLDER}/{paths.CONFIG}"
_HEAD = f"{paths.REPO_FOLDER}/{paths.HEAD}"


def check_folders(repo: str) -> Iterator[Finding]:
    """Check the folders that the store needs; links are not followed."""
    wanted = {part for folder in paths.FOLDERS for part in (folder.partition("/")[0], folder)}
    for folder in ["", *sorted(wanted)]:
        what = fs.kind(paths.inside(repo, folder))
        path = str(PurePath(paths.REPO_FOLDER, folder))
        if what is None:
            # A copy made by git or the like lacks empty folders; a writer makes them again.
            if folder in ("objects", "objects/pack", "refs", "refs/heads"):
                yield Finding("folder-missing", path, "it is not there")
        elif what != "folder":
            yield Finding("folder-replaced", path, f"it is a {what}")


def check_config(repo: str) -> Iterator[Finding]:
    """Check the repo's config file."""
    path = paths.inside(repo, paths.CONFIG)
    what = fs.kind(path)
    if what is None:
        yield Finding("config-missing", _CONFIG, "it is not there")
    elif what != "file":
        yield Finding("config-replaced", _CONFIG, f"it is a {what}")
    else:
        yield from _judge_config(path)


def _judge_config(path: str) -> Iterator[Finding]:
    document: dict[str, Any] | None
    try:
        document = json_files.read(path)
    except (MalformedObjectError, GradientIOError) as error:
        yield Finding("config-malformed", _CONFIG, str(error))
        return
    if document is None:
        yield Finding("config-missing", _CONFIG, "it is not there")
        return
    version = document.get("format")
    if version is None:
        yield Finding("config-unversioned", _CONFIG, "it has no member format")
    elif type(version) is not int or not 1 <= version <= paths.FORMAT:
        message = f"format {version!r:.40}; this version knows up to {paths.FORMAT}"
        yield Finding("config-version", _CONFIG, message)
    for name in _TEXTS:
        if json_files.text(document, name) is None:
            yield Finding("config-field", _CONFIG, f"{name} is no text")


def check_workspace(repo: str) -> Iterator[Finding]:
    """Check the config file of the workspace around the repo, if there is one."""
    path = paths.workspace_config(str(PurePath(repo).parent))
    shown = str(PurePath("..", paths.WORKSPACE_FOLDER, paths.CONFIG))
    what = fs.kind(path)
    if what not in (None, "file"):
        yield Finding("workspace-config", shown, f"it is a {what}")
        return
    try:
        document = json_files.read(path)
    except (MalformedObjectError, GradientIOError) as error:
        yield Finding("workspace-config", shown, str(error))
        return
    if document is not None and document.get("format") != paths.FORMAT:
        version = document.get("format")
        yield Finding("workspace-config", shown, f"its format is {version!r:.40}")
    elif document is None and fs.kind(str(PurePath(path).parent)) is not None:
        yield Finding("workspace-config", shown, "it is not there, though its folder is")


def check_head(repo: str, branches: list[str]) -> Iterator[Finding]:
    """Check HEAD; `branches` are the existing ones."""
    path = paths.inside(repo, paths.HEAD)
    what = fs.kind(path)
    if what is None:
        return
    if what != "file":
        yield Finding("head-replaced", _HEAD, f"it is a {what}")
        return
    try:
        raw = fs.read_file(path, limit=MAX_BYTES)
        branch = raw.decode("utf-8").removesuffix("\n")
    except (GradientIOError, UnicodeDecodeError) as error:
        yield Finding("head-malformed", _HEAD, str(error))
        return
    if not branch_names.is_branch_name(branch):
        yield Finding("head-malformed", _HEAD, f"{branch!r:.80} can not be a branch")
    elif branch not in branches and branches:
        there = ", ".join(branches[:5])
        yield Finding("head-unborn", _HEAD, f"{branch!r} has no commits; there are {there}")
