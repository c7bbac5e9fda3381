"""``manifest.json``: the list of checkpoints for other tools. Derived, never an input.

Each entry is the newest commit of a step on the branch that owns it (`History`). Times are as in
commits; NaN and infinite values are null.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from typing import Any, Final

from gradient.errors import ForeignRepoError
from gradient.objects.name_list import shorten
from gradient.repo import foreign_files, json_files, paths
from gradient.repo.history import Entry, History
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.store.retention_log import Dropped
from gradient.view.file_names import file_name

LARGE: Final = 200
"""The number of entries from which it is not written at every commit."""

INTERVAL: Final = 5.0
"""The least seconds between two writes of a large manifest; close writes the last state."""

SHARE: Final = 50
"""Between two writes lies so many times what the last one took: 2 % of a run go into them."""

_FOLDER_CHECKED = 50
"""The number of entries that are read to find out where the manifest was written."""


class Manifest:
    """The manifest of one repo, kept up to date by one writer."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._path = paths.beside(repo.path, paths.MANIFEST)
        self._lines: dict[tuple[object, ...], str] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._count = 0
        self._written = -math.inf
        self._took = 0.0
        self._due = False

    def exists(self) -> bool:
        """Return whether the file exists."""
        return fs.exists(self._path)

    def is_current(self) -> bool:
        """Return whether the file exists and has the present paths of the repo."""
        raw = json_files.read_bytes(self._path)
        if raw is None:
            return False
        try:
            entries = json.loads(raw)["checkpoints"][:_FOLDER_CHECKED]
            files = [entry["file"] for entry in entries if entry["file"] is not None]
            return all(file == self._file(file.rpartition("/")[2]) for file in files)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return False

    def update(self) -> None:
        """Write it now, or later if it is large and was just written."""
        pause = max(INTERVAL, SHARE * self._took)
        if self._count >= LARGE and time.monotonic() - self._written < pause:
            self._due = True
        else:
            self.write()

    def flush(self) -> None:
        """Write it if a write was postponed."""
        if self._due:
            self.write()

    def write(self) -> None:
        """Derive it from the repo and replace the file, atomically.

        Raises ForeignRepoError if another program added entries to it.
        """
        begun = time.monotonic()
        self._refuse_foreign()
        content = self._render(History(self._repo))
        fs.replace_file(self._path, content.encode("utf-8"))
        self._stamp = self._stamp_now()
        self._written = time.monotonic()
        self._took = self._written - begun
        self._due = False

    def _refuse_foreign(self) -> None:
        stamp = self._stamp_now()
        if stamp is None or stamp == self._stamp:
            return
        raw = json_files.read_bytes(self._path)
        theirs = foreign_files.foreign_entries(raw) if raw is not None else []
        if theirs:
            raise ForeignRepoError(
                f"{self._path} lists checkpoints that this store did not write "
                f"({shorten(theirs, 3)}); it is left as it is"
            )

    def _stamp_now(self) -> tuple[int, int, int] | None:
        facts = fs.status(self._path)
        return None if facts is None else (facts.st_ino, facts.st_size, facts.st_mtime_ns)

    def _render(self, history: History) -> str:
        config = self._repo.config
        here = set(fs.names(self._repo.path))
        entries = sorted(history.newest(), key=lambda e: (e.commit.time, e.branch, e.step))
        self._count = len(entries)
        lines: dict[tuple[object, ...], str] = {}
        for entry in entries:
            key = _key(history, entry, here)
            line = self._lines.get(key)
            lines[key] = line if line is not None else self._line(entry, *key[2:])
        self._lines = lines
        listed = ",\n".join(lines.values())
        return (
            f'{{\n  "repo_name": {_json(config.name)},\n'
            f'  "description": {_json(config.description or "")},\n'
            f'  "created_at": {_json(config.created_at)},\n'
            f'  "checkpoints": [{chr(10) + listed + chr(10) + "  " if listed else ""}]\n}}\n'
        )

    def _line(self, entry: Entry, name: object, anchor: object, dropped: object) -> str:
        commit = entry.commit
        document: dict[str, Any] = {
            "id": str(entry.oid),
            "ref": entry.revision,
            "step": commit.step,
            "branch": entry.branch,
            "file": None if name is None else self._file(str(name)),
            "type": commit.type,
            "anchor_ref": anchor,
            "created_at": commit.time,
            "message": commit.message,
            "metrics": {
                name: value if math.isfinite(value) else None
                for name, value in commit.metrics.items()
            },
        }
        if isinstance(dropped, Dropped):
            document["forgotten"] = asdict(dropped)
        return f"    {_json(document)}"

    def _file(self, name: str) -> str:
        return paths.beside(self._repo.path, name)


def _key(history: History, entry: Entry, here: set[str]) -> tuple[object, ...]:
    """Return the facts in an entry's line: id, branch, file, anchor and dropped parts."""
    name = file_name(entry.branch, entry.step)
    dropped = history.dropped.get(entry.oid)
    has_file = name in here and dropped is None
    anchor = history.entries.get(entry.commit.anchor or entry.oid)
    revision = None if anchor is None else anchor.revision
    return entry.oid, entry.branch, name if has_file else None, revision, dropped


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
