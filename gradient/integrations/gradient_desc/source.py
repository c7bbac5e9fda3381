"""The checkpoints of a repo of the published package: its manifest, and unlisted files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gradient.errors import MalformedObjectError, NotFoundError
from gradient.integrations import untrusted_pickle
from gradient.objects.commit import MAX_STEP
from gradient.repo import foreign_files, json_files, paths
from gradient.storage import fs


@dataclass(frozen=True, slots=True)
class Listed:
    """A checkpoint, as the manifest lists it."""

    branch: str
    step: int
    file: str
    """Its absolute path on this machine."""
    created_at: str | None
    id: str | None

    @property
    def ref(self) -> str:
        """Its ref at the source."""
        return f"{self.branch}@{self.step}"


@dataclass(frozen=True, slots=True)
class DescRepo:
    """A repo of the published package."""

    path: str
    """Its folder."""
    name: str
    """Its name."""
    description: str
    """Its message."""
    checkpoints: tuple[Listed, ...]
    """The checkpoints by branch and step; sources of forks come before the forks."""
    absent: tuple[str, ...] = ()
    """The listed refs whose files are missing on this machine."""


def open_source(path: str) -> DescRepo:
    """Read the checkpoint list of a repo of the published package.

    Raises NotFoundError if there is none, and MalformedObjectError for a damaged manifest.
    """
    root = fs.absolute(path)
    raw = json_files.read_bytes(paths.beside(root, paths.MANIFEST))
    files = foreign_files.checkpoint_names(root) if fs.is_folder(root) else []
    if raw is None and not files:
        raise NotFoundError(f"{root} holds neither a manifest.json nor ckpt_*.pt files")
    config = json_files.read(paths.inside(root, paths.CONFIG)) or {}
    if "format" in config:
        raise NotFoundError(f"{root} is a repo of this Gradient: there is nothing to import")
    manifest = _manifest(root, raw)
    found = [_listed(root, entry) for entry in manifest["checkpoints"]]
    listed = [each for each in found if isinstance(each, Listed)]
    absent = [each for each in found if isinstance(each, str)]
    known = {PurePath(each.file).name for each in listed}
    unlisted = [paths.beside(root, name) for name in files if name not in known]
    listed.extend(_read_unlisted(unlisted, {each.ref for each in listed}))
    return DescRepo(
        path=root,
        name=json_files.text(config, "repo_name") or PurePath(root).name,
        description=str(manifest.get("description") or config.get("description") or ""),
        checkpoints=tuple(sorted(listed, key=lambda each: (each.branch, each.step))),
        absent=tuple(absent),
    )


def _manifest(root: str, raw: bytes | None) -> dict[str, Any]:
    if raw is None:
        return {"checkpoints": []}
    try:
        manifest = json.loads(raw)
        if type(manifest["checkpoints"]) is list:
            return dict(manifest)
    except (ValueError, RecursionError, KeyError, TypeError):
        pass
    raise MalformedObjectError(f"{root}/manifest.json is damaged; move it away to go by the files")


def _listed(root: str, entry: Any) -> Listed | str:
    """Parse one entry; return only its ref if its file is missing on this machine."""
    try:
        branch, step = str(entry["branch"]), _step(entry["step"])
    except (KeyError, TypeError, ValueError):
        raise MalformedObjectError(f"{root}/manifest.json: not a checkpoint: {entry}") from None
    file = entry.get("file")
    name = PurePath(file).name if type(file) is str else f"ckpt_{branch}_s{step}.pt"
    # Beside the manifest first: the repo may have been moved, and the path be stale.
    for path in (paths.beside(root, name), file):
        if type(path) is str and fs.is_file(path):
            return Listed(
                branch=branch,
                step=step,
                file=path,
                created_at=json_files.text(entry, "created_at"),
                id=json_files.text(entry, "id"),
            )
    return f"{branch}@{step}"


def _read_unlisted(files: list[str], known: set[str]) -> Iterator[Listed]:
    """Add the files that the manifest lacks, by their own records."""
    for file in files:
        payload = untrusted_pickle.load(file)
        data = payload.get("data") if isinstance(payload, dict) else None
        meta = data.get("meta") if isinstance(data, dict) else None
        if isinstance(data, dict) and isinstance(meta, dict) and type(meta.get("branch")) is str:
            listed = Listed(meta["branch"], _step(data.get("step")), file, None, None)
            if listed.ref not in known:
                known.add(listed.ref)
                yield listed


def _step(value: object) -> int:
    """Check a step; raise ValueError if it is invalid."""
    if type(value) is not int or not 0 <= value <= MAX_STEP:
        raise ValueError(f"{value!r:.40} is not a step")
    return value
