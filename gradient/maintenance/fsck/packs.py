"""The check of packs as files: which are usable, and the damage of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from blake3 import blake3

from gradient.errors import FormatVersionError, GradientIOError
from gradient.maintenance.fsck.findings import Finding
from gradient.repo import paths as places
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store import pack, pack_format
from gradient.store.pack import Pack
from gradient.store.pack_format import HEADER, TRAILER

_BLOCK = 4 << 20
_TAIL = 64 << 10


@dataclass(slots=True)
class Shelf:
    """The packs of one repo, by usability."""

    sound: list[Pack] = field(default_factory=list)
    """The packs that the store uses."""
    broken: list[str] = field(default_factory=list)
    """The file names of the packs that it does not use."""
    newer: list[str] = field(default_factory=list)
    """The file names of packs of a newer version, which are probably intact."""
    findings: list[Finding] = field(default_factory=list)
    """The findings."""
    bytes: int = 0
    """The bytes of all packs."""


def path_of(name: str) -> str:
    """Return a pack file's path relative to the repo's folder, as findings give it."""
    return f"{places.REPO_FOLDER}/{pack.FOLDER}/{name}"


def sort_out(repo: str) -> Shelf:
    """Check every name in the folder of packs, and both ends of every pack."""
    shelf = Shelf()
    folder = places.inside(repo, pack.FOLDER)
    candidates = []
    for name in fs.names(folder):
        what = fs.kind(f"{folder}/{name}")
        pack_id = pack.id_of(name)
        if pack_id is None:
            shelf.findings.append(Finding("pack-foreign", path_of(name), f"a {what} named {name}"))
        elif what == "file":
            shelf.bytes += fs.size(f"{folder}/{name}") or 0
            candidates.append(pack_id)
        elif what is not None:
            shelf.findings.append(Finding("pack-replaced", path_of(name), f"it is a {what}"))
    storage = DirectoryStorage(places.inside(repo))
    for pack_id, opened in zip(candidates, pack.open_packs(storage, candidates), strict=True):
        if isinstance(opened, Pack):
            shelf.sound.append(opened)
            continue
        if isinstance(opened, GradientIOError) and fs.is_missing(opened):
            continue  # removed while we looked
        name = pack_id + pack.SUFFIX
        word, message = _diagnose(f"{folder}/{name}", pack_id, opened)
        shelf.findings.append(Finding(word, path_of(name), message))
        (shelf.newer if word == "pack-version" else shelf.broken).append(name)
    return shelf


def _diagnose(path: str, pack_id: str, problem: Exception) -> tuple[str, str]:
    """Return the class and the description of the damage that makes a pack unusable."""
    reason = str(getattr(problem, "reason", problem))
    try:
        with fs.open_file(path) as file:
            return _class(file, pack_id, problem), reason
    except GradientIOError as error:
        return "pack-unreadable", str(error)


def _class(file: fs.File, pack_id: str, problem: Exception) -> str:
    size = file.size()
    if size == 0:
        return "pack-empty"
    if size < HEADER.size + TRAILER.size:
        return "pack-cut"
    if isinstance(problem, FormatVersionError):
        # What a newer version wrote is whole; else it is damage that reads like a version.
        return "pack-version" if _whole_hash(file, size) == pack_id else "pack-header"
    magic, _, _ = HEADER.unpack(_read(file, 0, HEADER.size))
    if magic != pack_format.MAGIC:
        return "pack-header"
    tail = _read(file, max(size - _TAIL, 0), min(size, _TAIL))
    if not tail.endswith(pack_format.END_MAGIC):
        if pack_format.END_MAGIC in tail:
            return "pack-extended"
        return "pack-cut" if _ends_in_a_frame(file, size) else "pack-trailer"
    offset, length, _, _, digest, pack_hash, _ = TRAILER.unpack(tail[-TRAILER.size :])
    if pack_hash.hex() != pack_id:
        return "pack-name"
    if offset + length + TRAILER.size != size or offset < HEADER.size:
        return "pack-index-place"
    if blake3(_read(file, offset, length)).digest() != digest:
        return "pack-index-hash"
    return "pack-index-rows"


def _whole_hash(file: fs.File, size: int) -> str:
    hasher = blake3()
    for block in blocks(file, size - 40):
        hasher.update(block)
    return str(hasher.hexdigest())


def blocks(file: fs.File, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file in parts."""
    for start in range(0, size, _BLOCK):
        yield _read(file, start, min(_BLOCK, size - start))


def _ends_in_a_frame(file: fs.File, size: int) -> bool:
    """Return whether the frames, one after the other, run past the end of the file."""
    offset = HEADER.size
    while offset + pack_format.FRAME.size <= size:
        magic, _, _, flags, _, _, stored, _ = pack_format.FRAME.unpack(
            _read(file, offset, pack_format.FRAME.size)
        )
        if magic != pack_format.FRAME_MAGIC:
            return False
        offset += pack_format.FRAME.size + 32 * (flags & pack_format.HAS_BASE) + stored
    return offset > size or _read(file, offset, 4) == pack_format.FRAME_MAGIC[: size - offset]


def _read(file: fs.File, offset: int, length: int) -> bytes:
    content = bytearray(length)
    done = file.read_into(offset, memoryview(content))
    return bytes(content[:done])
