"""A multi-pack index: the footers of many packs, and the commits in them, in one derived file.

    head | facts: a row per pack, a row per commit, branches, the commits' bodies | indexes

The format calls such a file a ledger. To open a repo with 10,000 packs, a few multi-pack indexes
are read instead of 10,000 footers; to read history, only their facts. Rules: a file is written as a
whole, and named by the hash of its head, which holds the hashes of the other parts. A file whose
hashes do not match is ignored. A pack never changes, so a file is never wrong about a pack that
exists; it does not cover packs that came later. It may vanish at any time: then the packs are
opened one by one.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from blake3 import blake3

from gradient.errors import GradientIOError
from gradient.objects.commit import Link
from gradient.objects.oid import Kind, Oid
from gradient.storage.base import Storage
from gradient.store import pack_format
from gradient.store.pack import Pack
from gradient.store.pack_format import ROW, TRAILER

FOLDER: Final = "ledgers"
"""The folder of multi-pack indexes in a storage."""
SUFFIX: Final = ".ledger"
VERSION: Final = 1
MAGIC: Final = b"GRADLEDG"

HEAD: Final = struct.Struct("<8sIIIIQQ32s32s")
"""magic, version, packs, commits, length of the branches' names, length of the facts, length of the
indexes, the BLAKE3 of both."""
PACK: Final = np.dtype([("id", "V32"), ("size", "<u8"), ("rows", "<u4"), ("bases", "<u4")])
"""One pack: id, length of the file, rows and bases of its index. 48 bytes."""
COMMIT: Final = np.dtype(
    [
        ("oid", "V32"),
        ("parent", "V32"),
        ("step", "<u8"),
        ("pack", "<u4"),
        ("length", "<u4"),
        ("branch", "<u4"),
        ("flags", "<u4"),
    ]
)
"""One commit: id, first parent (zeros without one), step, the numbers of its pack and of its branch
in their tables, length of the body, flags. 88 bytes."""
HAS_PARENT: Final = 1
IS_ANCHOR: Final = 2
MERGES: Final = 4

MAX_MERGED_BYTES: Final = 64 << 20
"""The length up to which multi-pack indexes are merged."""


@dataclass(frozen=True, slots=True)
class PackEntry:
    """The contents of a multi-pack index about one pack."""

    id: str
    """The pack's id."""
    size: int
    """The length of its file."""
    index: bytes
    """Its index, the same bytes as in the pack."""
    rows: int
    """The number of rows of the index."""
    commits: tuple[tuple[Oid, Link, bytes], ...]
    """The commits in it: id, place in history and body of each."""


class MultiPackIndex:
    """A file whose facts were read and proved. Its indexes are read on demand."""

    def __init__(self, name: str, head: bytes, facts: bytes) -> None:
        _, _, packs, commits, names, _, length, _, digest = HEAD.unpack(head)
        self._length: int = length
        self._digest: bytes = digest
        self.name = name
        """Its name in the storage."""
        self._start = HEAD.size + len(facts)
        self._facts = facts
        table, listed = _tables(head, facts)
        ids = table["id"].tobytes().hex()
        self.ids = [ids[at : at + 64] for at in range(0, 64 * packs, 64)]
        """The packs that it covers."""
        self._places = {pack_id: number for number, pack_id in enumerate(self.ids)}
        self._sizes: list[int] = table["size"].tolist()
        self._rows: list[int] = table["rows"].tolist()
        self._bases: list[int] = table["bases"].tolist()
        raw = listed["oid"].tobytes()
        self._numbers = {raw[32 * at : 32 * at + 32]: at for at in range(commits)}
        self._parents = listed["parent"].tobytes()
        self._steps: list[int] = listed["step"].tolist()
        self._packs: list[int] = listed["pack"].tolist()
        self._flags: list[int] = listed["flags"].tolist()
        self._made_on: list[int] = listed["branch"].tolist()
        start = table.nbytes + listed.nbytes
        self._branches: list[str] = json.loads(facts[start : start + names])
        ends = start + names + np.cumsum(listed["length"], dtype=np.int64)
        self._ends: list[int] = ends.tolist()
        self._starts: list[int] = (ends - listed["length"]).tolist()

    @property
    def length(self) -> int:
        """The length of the file."""
        return self._start + self._length

    def size(self, pack_id: str) -> int:
        """Return the length of a covered pack."""
        return self._sizes[self._places[pack_id]]

    def commits(self) -> Iterator[tuple[bytes, str]]:
        """Yield the ids of every commit and of its pack."""
        return ((oid, self.ids[self._packs[number]]) for oid, number in self._numbers.items())

    def link(self, oid: bytes) -> Link | None:
        """Return a commit's place in history; None if no covered pack has it."""
        number = self._numbers.get(oid)
        if number is None:
            return None
        flags = self._flags[number]
        parent = None
        if flags & HAS_PARENT:
            parent = Oid(self._parents[32 * number : 32 * number + 32])
        branch = self._branches[self._made_on[number]]
        anchored, merges = bool(flags & IS_ANCHOR), bool(flags & MERGES)
        return Link(parent, self._steps[number], anchored, branch, merges)

    def body(self, oid: bytes) -> bytes | None:
        """Return a commit's body, proved by its hash; None if no covered pack has it."""
        number = self._numbers.get(oid)
        if number is None:
            return None
        body = self._facts[self._starts[number] : self._ends[number]]
        return body if Oid.of(Kind.COMMIT, body) == oid else None

    def indexes(self, storage: Storage) -> list[tuple[bytes, int]] | None:
        """Return every pack's index and its number of rows; None if their hash does not match."""
        try:
            raw = storage.read(self.name, offset=self._start)
        except GradientIOError:
            return None
        if blake3(raw).digest() != self._digest:
            return None
        found, start = [], 0
        for rows, bases in zip(self._rows, self._bases, strict=True):
            end = start + rows * ROW.itemsize + bases * 32
            found.append((raw[start:end], rows))
            start = end
        return found

    def packs(self, storage: Storage) -> list[Pack] | None:
        """Return every pack, its index checked like a footer; None if any index is damaged."""
        found = self.indexes(storage)
        if found is None:
            return None
        opened = [
            Pack(pack_id, index, rows, size)
            for pack_id, size, (index, rows) in zip(self.ids, self._sizes, found, strict=True)
        ]
        return None if pack_format.faulty([pack.index for pack in opened]) else opened

    def entries(self, storage: Storage) -> list[PackEntry] | None:
        """Return all entries, to be written again; None if any of them is damaged."""
        found = self.indexes(storage)
        if found is None:
            return None
        held: list[list[tuple[Oid, Link, bytes]]] = [[] for _ in self.ids]
        for oid, number in self._numbers.items():
            link, body = self.link(oid), self.body(oid)
            if link is None or body is None:
                return None
            held[self._packs[number]].append((Oid(oid), link, body))
        return [
            PackEntry(pack_id, size, index, rows, tuple(commits))
            for pack_id, size, (index, rows), commits in zip(
                self.ids, self._sizes, found, held, strict=True
            )
        ]


def name_of(head: bytes) -> str:
    """Return the storage name of the file that begins with these bytes."""
    return f"{FOLDER}/{blake3(head).hexdigest()}{SUFFIX}"


def write(storage: Storage, entries: Sequence[PackEntry]) -> MultiPackIndex:
    """Write a multi-pack index. It is not synced, because losing it costs nothing but time."""
    table = np.zeros(len(entries), PACK)
    listed = np.zeros(sum(len(entry.commits) for entry in entries), COMMIT)
    branches: dict[str, int] = {}
    bodies: list[bytes] = []
    for number, entry in enumerate(entries):
        bases = (len(entry.index) - entry.rows * ROW.itemsize) // 32
        table[number] = (bytes.fromhex(entry.id), entry.size, entry.rows, bases)
        for oid, link, body in entry.commits:
            flags = HAS_PARENT if link.parent is not None else 0
            flags |= IS_ANCHOR if link.anchored else 0
            flags |= MERGES if link.merges else 0
            branch = branches.setdefault(link.branch, len(branches))
            parent = link.parent or bytes(32)
            row = (oid, parent, link.step, number, len(body), branch, flags)
            listed[len(bodies)] = row
            bodies.append(body)
    names = json.dumps([*branches]).encode("ascii")
    facts = b"".join([table.tobytes(), listed.tobytes(), names, *bodies])
    indexes = b"".join(entry.index for entry in entries)
    head = HEAD.pack(
        MAGIC,
        VERSION,
        len(table),
        len(listed),
        len(names),
        len(facts),
        len(indexes),
        blake3(facts).digest(),
        blake3(indexes).digest(),
    )
    name = name_of(head)
    storage.put_derived(name, head, facts, indexes)
    return MultiPackIndex(name, head, facts)


def read_all(storage: Storage, *, but: Container[str] = ()) -> list[MultiPackIndex]:
    """Return the multi-pack indexes of a storage, except damaged ones and those named in `but`."""
    try:
        names = [f"{FOLDER}/{each}" for each in storage.names(FOLDER) if each.endswith(SUFFIX)]
    except GradientIOError:
        return []
    found = (read(storage, name) for name in names if name not in but)
    return [index for index in found if index is not None]


def read(storage: Storage, name: str) -> MultiPackIndex | None:
    """Read the facts of a multi-pack index; None if it is damaged."""
    try:
        with storage.open(name) as reader:
            head = bytearray(HEAD.size)
            reader.read_into(0, memoryview(head))
            if name_of(bytes(head)) != name:
                return None
            magic, version, packs, commits, names, length, rest, digest, _ = HEAD.unpack(head)
            fits = HEAD.size + length + rest == reader.size
            fits &= packs * PACK.itemsize + commits * COMMIT.itemsize + names <= length
            if magic != MAGIC or version != VERSION or not fits:
                return None
            facts = bytearray(length)
            reader.read_into(HEAD.size, memoryview(facts))
    except GradientIOError:
        return None
    if blake3(facts).digest() != digest or not _consistent(bytes(head), facts):
        return None
    return MultiPackIndex(name, bytes(head), bytes(facts))


def _tables(head: bytes, facts: bytes | bytearray) -> tuple[pack_format.Rows, pack_format.Rows]:
    _, _, packs, commits, _, _, _, _, _ = HEAD.unpack(head)
    table = np.frombuffer(facts, PACK, packs)
    return table, np.frombuffer(facts, COMMIT, commits, table.nbytes)


def _consistent(head: bytes, facts: bytearray) -> bool:
    """Return whether the numbers in the tables add up to the lengths of the parts after them."""
    _, _, packs, _, names, length, rest, _, _ = HEAD.unpack(head)
    if not packs:
        return False
    table, listed = _tables(head, facts)
    bodies = int(listed["length"].sum(dtype=np.uint64))
    own = table["rows"].astype(np.uint64) * np.uint64(ROW.itemsize)
    own += table["bases"].astype(np.uint64) * np.uint64(32)
    start = table.nbytes + listed.nbytes
    if start + names + bodies != length or int(own.sum()) != rest:
        return False
    try:
        branches = json.loads(facts[start : start + names])
    except (ValueError, RecursionError):
        return False
    if type(branches) is not list or any(type(branch) is not str for branch in branches):
        return False
    if (listed["pack"] >= packs).any() or (listed["branch"] >= len(branches)).any():
        return False
    inside = (own > 0) & (own + np.uint64(TRAILER.size) < table["size"])
    return bool(inside.all())
