"""One pack: it is written once from front to back, and opened by its tail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from blake3 import blake3

from gradient.errors import CorruptPackError, FormatVersionError, GradientIOError
from gradient.objects.oid import Kind, Oid
from gradient.store import pack_format
from gradient.store.pack_format import HEADER, ROW, TRAILER, FrameRow

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from gradient.codec.frame import Encoded
    from gradient.storage.base import Reader, Storage, Upload

FOLDER = "objects/pack"
"""The folder of packs in a storage."""
TRASH = "objects/trash"
"""The folder of packs that nothing needs, until they are deleted."""
SUFFIX = ".pack"

Problem: TypeAlias = CorruptPackError | FormatVersionError | GradientIOError
"""The reasons that a pack cannot be used."""

_FILE = re.compile(r"([0-9a-f]{64})\.pack")
_TAIL_BYTES = 8 << 10
_SMALL_BYTES = 64 << 10
"""Frames up to this size are gathered: a system call costs as much as copying one of them."""
_GATHERED_BYTES = 256 << 10


def name_of(pack_id: str) -> str:
    """Return the storage name of a pack."""
    return f"{FOLDER}/{pack_id}{SUFFIX}"


def id_of(name: str) -> str | None:
    """Return the id in a file name of the pack folder; None for other files."""
    match = _FILE.fullmatch(name)
    return None if match is None else match[1]


_TRASHED = re.compile(r"([0-9a-z-]{1,64})\.([0-9a-f]{64})\.pack")


def trashed_name_of(collection: str, pack_id: str) -> str:
    """Return the storage name of a pack in the trash; `collection` is the id of the collection."""
    return f"{TRASH}/{collection}.{pack_id}{SUFFIX}"


def trashed(storage: Storage) -> list[tuple[str, str]]:
    """Return the ids and storage names of the packs in the trash. A pack may be there twice."""
    found = ((_TRASHED.fullmatch(entry), entry) for entry in storage.names(TRASH))
    return [(match[2], f"{TRASH}/{entry}") for match, entry in found if match is not None]


def collection_of(name: str) -> str:
    """Return the id of the collection that trashed a pack, given its storage name there."""
    return name.rpartition("/")[2].partition(".")[0]


class Pack:
    """An index in memory: the rows as one array, no Python objects per row."""

    __slots__ = ("_bases", "_places", "id", "rows", "size")

    def __init__(self, pack_id: str, index: bytes, count: int, size: int) -> None:
        self.id = pack_id
        self.size = size
        """The length of the file."""
        self.rows = np.frombuffer(index, ROW, count)
        self._bases = index[count * ROW.itemsize :]
        self._places: dict[int, int] | None = None

    @property
    def index(self) -> pack_format.PackIndex:
        """The rows, and the numbers that they have to agree with."""
        length = self.rows.nbytes + len(self._bases)
        return pack_format.PackIndex(
            self.rows, len(self._bases) // 32, self.size - TRAILER.size - length
        )

    @property
    def index_bytes(self) -> bytes:
        """The bytes of the index in the file."""
        return self.rows.tobytes() + self._bases

    @property
    def name(self) -> str:
        """The storage name."""
        return name_of(self.id)

    def is_delta(self, position: int) -> bool:
        """Return whether a row's frame is a difference from another blob."""
        return bool(self.rows["flags"][position])

    def row(self, position: int) -> FrameRow:
        """Return one row of the index."""
        oid, offset, stored, raw, kind, codec, flags, _ = self.rows[position].item()
        base = None
        if flags:
            number = self._base_places()[position]
            base = Oid(self._bases[32 * number : 32 * number + 32])
        return FrameRow(Oid(bytes(oid)), offset, stored, raw, pack_format.KINDS[kind], codec, base)

    def based(self) -> Iterator[tuple[int, Oid]]:
        """Yield the positions and bases of the rows that have a base."""
        for position, number in self._base_places().items():
            yield position, Oid(self._bases[32 * number : 32 * number + 32])

    def _base_places(self) -> dict[int, int]:
        """Return the number of each row's base, computed once because counting is slow."""
        if self._places is None:
            flagged = np.flatnonzero(self.rows["flags"]).tolist()
            self._places = {position: number for number, position in enumerate(flagged)}
        return self._places


class PackWriter:
    """Appends frames to an upload and publishes it as a pack. One thread at a time."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._hasher = blake3()
        self._rows: list[FrameRow] = []
        self._small = bytearray(HEADER.pack(pack_format.MAGIC, pack_format.VERSION, 0))
        self.pack_id: str | None = None
        """The id, known once everything is written, even if publishing then failed."""

    @property
    def size(self) -> int:
        """The bytes appended so far."""
        return self._upload.size + len(self._small)

    def append(
        self, kind: Kind, oid: Oid, raw: int, encoded: Encoded, *, base: Oid | None = None
    ) -> None:
        """Write one frame of an object of `raw` bytes; each oid at most once."""
        row = FrameRow(oid, self.size, encoded.size, raw, kind, int(encoded.codec), base)
        self._rows.append(row)
        if encoded.size > _SMALL_BYTES:
            self._write(row.header, *encoded.parts)
            return
        self._small += row.header
        for part in encoded.parts:
            self._small += part
        if len(self._small) >= _GATHERED_BYTES:
            self._write()

    def publish(self) -> Pack:
        """Write index and trailer, make the pack durable, and return it."""
        offset = self.size
        index, bases = pack_format.index_bytes(self._rows)
        digest = blake3(index).digest()
        count = len(self._rows)
        trailer = TRAILER.pack(
            offset, len(index), count, bases, digest, bytes(32), pack_format.END_MAGIC
        )
        self._write(index, trailer[: pack_format.HASHED_TRAILER_BYTES])
        pack_hash = self._hasher.digest()
        self._upload.write(pack_hash, pack_format.END_MAGIC)
        self.pack_id = pack_hash.hex()
        pack = Pack(self.pack_id, index, count, self.size)
        self._upload.publish(pack.name)
        return pack

    def discard(self) -> None:
        """Discard everything; does nothing after `publish`."""
        self._upload.discard()

    def _write(self, *buffers: Buffer) -> None:
        """Write the gathered small frames, then the buffers."""
        small, self._small = self._small, bytearray()
        for buffer in (small, *buffers):
            self._hasher.update(buffer)
        self._upload.write(small, *buffers)


def open_packs(
    storage: Storage, pack_ids: Iterable[str], *, named: Callable[[str], str] = name_of
) -> Iterator[Pack | Problem]:
    """Yield each pack or its problem, in order: opened one by one, checked together.

    `named` returns the storage name of a pack.
    """
    opened: list[Pack | Problem] = []
    for pack_id in pack_ids:
        try:
            with storage.open(named(pack_id)) as reader:
                pack: Pack | Problem = _open(pack_id, reader)
        except (CorruptPackError, FormatVersionError, GradientIOError) as problem:
            pack = problem
        opened.append(pack)
    packs = [pack for pack in opened if isinstance(pack, Pack)]
    faulty = pack_format.faulty([pack.index for pack in packs])
    damaged = {packs[number].id: reason for number, reason in faulty.items()}
    for each in opened:
        if isinstance(each, Pack) and each.id in damaged:
            yield CorruptPackError(each.id, damaged[each.id])
        else:
            yield each


def _open(pack_id: str, reader: Reader) -> Pack:
    """Read and check header, trailer and the index's hash, but not the rows of the index."""
    size = reader.size
    if size < HEADER.size + TRAILER.size:
        raise CorruptPackError(pack_id, f"it is cut off after {size} bytes")
    tail = _read(reader, max(size - _TAIL_BYTES, 0), min(size, _TAIL_BYTES))
    head = tail if len(tail) == size else _read(reader, 0, HEADER.size)
    magic, version, reserved = HEADER.unpack_from(head)
    if magic != pack_format.MAGIC:
        raise CorruptPackError(pack_id, "it does not start like a pack")
    if version != pack_format.VERSION or reserved:
        raise FormatVersionError(
            f"pack {pack_id} has version {version}; "
            f"this Gradient reads version {pack_format.VERSION}"
        )
    offset, length, count, bases, digest, pack_hash, magic = TRAILER.unpack(tail[-TRAILER.size :])
    if magic != pack_format.END_MAGIC:
        raise CorruptPackError(pack_id, "it does not end like a pack: cut off or overwritten")
    if pack_hash.hex() != pack_id:
        raise CorruptPackError(pack_id, f"it is pack {pack_hash.hex()} by its own account")
    fits = offset + length + TRAILER.size == size and offset >= HEADER.size
    if count == 0 or length != count * ROW.itemsize + bases * 32 or not fits:
        raise CorruptPackError(pack_id, "its index does not fit into it")
    inside = length + TRAILER.size <= len(tail)
    start = len(tail) - TRAILER.size - length
    index = tail[start:][:length] if inside else _read(reader, offset, length)
    if blake3(index).digest() != digest:
        raise CorruptPackError(pack_id, "its index is damaged")
    return Pack(pack_id, index, count, size)


def _read(reader: Reader, offset: int, size: int) -> bytes:
    """Read a part; missing bytes read as zeros, which fail every check."""
    content = bytearray(size)
    reader.read_into(offset, memoryview(content))
    return bytes(content)
