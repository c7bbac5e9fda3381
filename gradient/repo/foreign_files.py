"""The distinction between our files and those of other programs, which are never changed.

In a repo of the published gradient-desc, ``manifest.json`` and ``ckpt_*.pt`` *are* the data; in
ours they are a view. Each of our view files ends with a mark, the comment of the zip archive that a
``.pt`` file is, and our manifest's entries have commit ids. Neither needs a second file that could
be lost.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from gradient.errors import (
    ForeignRepoError,
    FormatVersionError,
    GradientIOError,
    MalformedObjectError,
)
from gradient.objects.name_list import shorten
from gradient.objects.oid import Oid
from gradient.repo import json_files, paths
from gradient.storage import fs

FileKind: TypeAlias = Literal["full", "thin"]
Other: TypeAlias = Literal["foreign", "damaged", "no file"]

_MARK = re.compile(rb"gradient-view/1 (full|thin) ([0-9a-f]{64})\Z")
_MARK_BYTES = len(b"gradient-view/1 full ") + 64
_CHECKPOINT = re.compile(r"ckpt_.*\.pt", re.DOTALL)
_ZIP_END: Final = b"PK\x05\x06"
_ZIP_END_BYTES = 22
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark at the end of one of our view files."""

    kind: FileKind
    """``"full"`` if the file holds the state, ``"thin"`` if it refers to the repo."""
    commit: Oid
    """The commit of the file."""

    def to_bytes(self) -> bytes:
        """Encode to the bytes that end the file."""
        return f"gradient-view/1 {self.kind} {self.commit}".encode("ascii")


def read_mark(path: str) -> Mark | Other:
    """Return a file's mark, or the reason why it has none.

    ``"damaged"`` is a zip archive without its end, or an empty file: a power cut leaves such a file
    if it was never synced, and no program can load it. ``"no file"`` is a link or a folder.
    """
    if not fs.is_regular_file(path):
        return "no file"
    head, tail = _ends(path, _MARK_BYTES + _ZIP_END_BYTES)
    found = _MARK.search(tail)
    if found is not None:
        kind: FileKind = "full" if found[1] == b"full" else "thin"
        return Mark(kind, Oid.parse(found[2].decode("ascii")))
    if not head.strip(b"\0"):
        return "damaged"
    return "foreign" if _ZIP_END in tail or not head.startswith(b"PK") else "damaged"


def is_checkpoint_name(name: str) -> bool:
    """Return whether a file name is that of a checkpoint."""
    return _CHECKPOINT.fullmatch(name) is not None


def checkpoint_names(repo: str) -> list[str]:
    """Return the names of all checkpoint files in a repo's visible folder."""
    return list(filter(is_checkpoint_name, fs.names(repo)))


def check_format(repo: str) -> None:
    """Raise FormatVersionError or ForeignRepoError for a repo that this version cannot read."""
    document = json_files.read(paths.inside(repo, paths.CONFIG))
    if document is None:
        return
    version = document.get("format")
    if version is None:
        raise ForeignRepoError(_remedy(repo, "its config.json carries no format version"))
    if type(version) is not int or version < 1:
        raise FormatVersionError(f"{repo}: {version!r:.40} is not a format version")
    if version > paths.FORMAT:
        raise FormatVersionError(
            f"{repo} was written in format {version}; this Gradient knows formats up to "
            f"{paths.FORMAT}. Nothing was changed; install a newer gradient-desc to open it"
        )


def refuse_without_store(repo: str) -> None:
    """Raise ForeignRepoError for a repo of the published package, damaged or not.

    A folder with any part of a store is ours, and the content of its config may be damage.
    """
    stores = {folder.partition("/")[0] for folder in paths.FOLDERS}
    if any(fs.kind(paths.inside(repo, name)) for name in stores):
        return
    with contextlib.suppress(MalformedObjectError, FormatVersionError, GradientIOError):
        check_format(repo)


def refuse_writing(repo: str) -> None:
    """Raise ForeignRepoError if the folder holds checkpoints that our store did not write."""
    check_format(repo)
    if not fs.is_folder(repo):
        return
    reasons = [
        f"{name} is not one of its view files"
        for name in checkpoint_names(repo)
        if _is_foreign(repo, name)
    ]
    reasons += [f"manifest.json lists {ref}, which it did not write" for ref in _entries(repo)]
    if reasons:
        raise ForeignRepoError(_remedy(repo, shorten(reasons, _SHOWN, separator="; ")))


def _ends(path: str, length: int) -> tuple[bytes, bytes]:
    with fs.open_file(path) as file:
        size = file.size()
        head, tail = bytearray(min(size, length)), bytearray(min(size, length))
        file.read_into(0, memoryview(head))
        file.read_into(max(size - length, 0), memoryview(tail))
    return bytes(head), bytes(tail)


def _is_foreign(repo: str, name: str) -> bool:
    whose = read_mark(paths.beside(repo, name))
    if whose == "damaged":
        # Outside of our repos, a damaged file cannot be ours.
        return not fs.is_file(paths.inside(repo, paths.CONFIG))
    return whose == "foreign"


def foreign_entries(raw: bytes) -> list[str]:
    """Return the refs of a manifest's entries without a commit id of ours.

    Bytes that are not a manifest have no entries: the file is not synced, so a power cut may leave
    a torn one, which must not stop the next commit.
    """
    try:
        manifest = json.loads(raw)
        entries = manifest["checkpoints"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return []
    if type(entries) is not list:
        return []
    return [_name_of(entry) for entry in entries if not is_ours(entry)]


def _entries(repo: str) -> list[str]:
    raw = json_files.read_bytes(paths.beside(repo, paths.MANIFEST))
    return [] if raw is None else foreign_entries(raw)


def is_ours(entry: object) -> bool:
    """Return whether an entry of a manifest has a commit id, as ours do."""
    try:
        Oid.parse(entry.get("id") if type(entry) is dict else None)
    except MalformedObjectError:
        return False
    return True


def _name_of(entry: object) -> str:
    if type(entry) is not dict:
        return repr(entry)[:80]
    return str(entry.get("ref") or f"{entry.get('branch')}@{entry.get('step')}")


def _remedy(repo: str, reason: str) -> str:
    return (
        f"{repo} holds checkpoints that this store did not write: {reason}. Nothing was changed. "
        f"Copy them into a new repo with: gradient import {repo}"
    )
