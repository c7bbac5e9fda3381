"""Each parser of stored bytes, with inputs that it accepts."""

from __future__ import annotations

import contextlib
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from blake3 import blake3

from gradient.codec.frame import Codec, decode_into
from gradient.errors import GradientError
from gradient.maintenance.fsck.pack_scan import scan
from gradient.maintenance.fsck.tree_values import Judge
from gradient.objects import canonical
from gradient.objects import tree as trees
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import ValueTree
from gradient.repo import foreign_files, json_files, paths
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo
from gradient.state import tagged_json
from gradient.storage import fs
from gradient.storage.memory import MemoryStorage
from gradient.store import multi_pack_index as ledgers
from gradient.store import pack as packs
from gradient.store.object_store import ObjectStore
from gradient.store.pack import Pack
from gradient.store.pack_format import TRAILER
from gradient.store.ref_record import RefRecord
from gradient.store.retention_log import RetentionRecord

GOLDEN: Final = Path(__file__).resolve().parents[2] / "tests" / "format" / "golden-v1.tar"
_MOST_RAW: Final = 1 << 16
_MARK: Final = foreign_files.Mark("thin", Oid(bytes(32)))


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    seeds: list[bytes]
    """Inputs that it accepts."""
    parse: Callable[[bytes], object]
    """Takes any bytes; raises GradientError for those it refuses."""


class Golden:
    """The golden repo's files and objects."""

    def __init__(self, folder: Path) -> None:
        with tarfile.open(GOLDEN) as archive:
            archive.extractall(folder, filter="data")
        self.root = folder / "golden-v1" / "gpt"
        self.repo = Repository.open(self.root, workers=1)

    def files(self, pattern: str) -> list[bytes]:
        """Return the contents of the repo's files of a pattern."""
        return [path.read_bytes() for path in sorted(self.root.glob(pattern)) if path.is_file()]

    def objects(self, kind: Kind) -> list[bytes]:
        """Return the bodies of the objects of a kind."""
        store = self.repo.store
        return [store.read(oid, kind) for oid in store.find_prefix(kind, "")]

    def payloads(self) -> Iterator[bytes]:
        """Yield frames as the target `frame` takes them: codec, base or not, length, payload."""
        for content in self.files(".gradient-repo/objects/pack/*.pack"):
            offset, _, count = struct.unpack_from("<QQI", content, len(content) - TRAILER.size)
            for number in range(count):
                row = struct.unpack_from("<32sQIIBBBB", content, offset + 52 * number)
                start = row[1] + 48 + 32 * row[6]
                if row[2] < 4000 and row[3] < _MOST_RAW:
                    head = struct.pack("<BBH", row[5], row[6], row[3])
                    yield head + content[start : start + row[2]]


def targets(folder: Path) -> dict[str, Target]:
    """Return every target by name; `folder` is theirs to write in."""
    golden = Golden(folder / "seed")
    found = golden.files(".gradient-repo/objects/pack/*.pack")
    small = [content for content in found if len(content) < 4000]
    repo = _Repo(folder / "fuzzed")
    return {
        "pack": Target(small, _pack),
        "scan": Target(small, _Scan(folder / "scanned").parse),
        "index": Target([_index_of(content) for content in small], _index),
        "ledger": Target([_ledger(small)], _read_ledger),
        "frame": Target(list(golden.payloads()), _frame),
        "tree": Target(golden.objects(Kind.TREE), _tree),
        "commit": Target(golden.objects(Kind.COMMIT), CommitRecord.from_bytes),
        "ref": Target(golden.files(".gradient-repo/refs/*/*/*"), _ref),
        "retention": Target([_retention(None), _retention(("ema", "optimizer"))], _read_retention),
        "config": Target(golden.files(".gradient-repo/config.json"), repo.config),
        "head": Target([*golden.files(".gradient-repo/HEAD"), b"main\n"], repo.head),
        "manifest": Target([_MANIFEST], repo.manifest),
        "mark": Target(
            [b"PK" + bytes(40) + foreign_files.Mark("thin", Oid(bytes(32))).to_bytes()], repo.mark
        ),
        "value": Target(list(_values(golden)), _value),
    }


def _pack(data: bytes) -> None:
    """Open bytes as the pack that they say they are, and read all of it."""
    storage = MemoryStorage()
    pack_id = data[-40:-8].hex() if len(data) >= 40 else "00" * 32
    with storage.create() as upload:
        upload.write(data)
        upload.publish(packs.name_of(pack_id))
    (opened,) = packs.open_packs(storage, [pack_id])
    if isinstance(opened, Exception):
        raise opened
    store = ObjectStore(storage, workers=1)
    problem = None
    for position in range(len(opened.rows)):
        row = opened.row(position)
        try:
            store.read(row.oid, row.kind, limit=_MOST_RAW)
        except GradientError as error:
            problem = error
    if problem is not None:
        raise problem


class _Scan:
    def __init__(self, path: Path) -> None:
        self._path = path

    def parse(self, data: bytes) -> None:
        """Search bytes for frames, as `fsck --repair` does."""
        self._path.write_bytes(data)
        with fs.open_file(str(self._path)) as file:
            scan(file, lambda row, payload: len(payload) == row.stored and row.raw % 3 == 0)


def _index_of(content: bytes) -> bytes:
    offset, length, count, bases = TRAILER.unpack(content[-TRAILER.size :])[:4]
    return struct.pack("<IIQ", count, bases, offset) + content[offset : offset + length]


def _index(data: bytes) -> None:
    """Judge an index whose hashes are right, and look objects up in it."""
    if len(data) < 16:
        return
    count, bases, end = struct.unpack_from("<IIQ", data)
    body = data[16:]
    if not count or len(body) != count * 52 + bases * 32:
        return
    storage = MemoryStorage()
    head = struct.pack("<8sII", b"GRADPACK", 1, 0)
    # Only the index is looked at: the frames are left out where they would be huge.
    frames = bytes(max(0, min(end, 1 << 16) - len(head)))
    offset = len(head) + len(frames)
    trailer = TRAILER.pack(
        offset, len(body), count, bases, blake3(body).digest(), bytes(32), b"GRADEND\n"
    )
    with storage.create() as upload:
        upload.write(head, frames, body, trailer)
        upload.publish(packs.name_of("00" * 32))
    (opened,) = packs.open_packs(storage, ["00" * 32])
    if not isinstance(opened, Pack):
        raise opened
    store = ObjectStore(storage, workers=1)
    for position in range(min(count, 50)):
        row = opened.row(position)
        store.is_complete(row.oid)


def _ledger(contents: list[bytes]) -> bytes:
    storage = MemoryStorage()
    for content in contents:
        with storage.create() as upload:
            upload.write(content)
            upload.publish(packs.name_of(content[-40:-8].hex()))
    names = [content[-40:-8].hex() for content in contents]
    pages = [
        ledgers.PackEntry(pack.id, pack.size, pack.index_bytes, len(pack.rows), ())
        for pack in packs.open_packs(storage, names)
        if isinstance(pack, Pack)
    ]
    ledgers.write(storage, sorted(pages, key=lambda page: page.id))
    (name,) = storage.names(ledgers.FOLDER)
    return storage.read(f"{ledgers.FOLDER}/{name}")


def _read_ledger(data: bytes) -> None:
    """Read bytes as a ledger whose name is right, so that its facts are looked at."""
    storage = MemoryStorage()
    name = ledgers.name_of(data[: ledgers.HEAD.size])
    storage.put_derived(name, data)
    ledger = ledgers.read(storage, name)
    if ledger is not None:
        ledger.packs(storage)
        for oid, _ in ledger.commits():
            ledger.link(oid)
            ledger.body(oid)


def _frame(data: bytes) -> None:
    """Decode a payload against the length that its parent would say."""
    if len(data) < 4:
        return
    codec, based, length = struct.unpack_from("<BBH", data)
    out = np.empty(length, np.uint8)
    base = np.zeros(length, np.uint8).data if based & 1 else None
    decode_into(codec % (len(Codec) + 1), data[4:], out.data, base=base)


def _tree(data: bytes) -> None:
    Judge().tree(trees.parse(data))


def _ref(data: bytes) -> None:
    RefRecord.from_bytes(data, "heads/main", 1)


def _retention(drop: tuple[str, ...] | None) -> bytes:
    oids = tuple(Oid(bytes([number]) * 32) for number in (1, 2, 3))
    time = "2026-02-10T12:34:56.000000"
    return RetentionRecord(1, oids, drop, "--keep-last 5", time).to_bytes()


def _read_retention(data: bytes) -> None:
    RetentionRecord.from_bytes(data, 1)


def _values(golden: Golden) -> Iterator[bytes]:
    for body in golden.objects(Kind.TREE):
        tree = trees.parse(body)
        nodes = [tree.value] if isinstance(tree, ValueTree) else tree.entries.values()
        for node in nodes:
            raw = canonical.dumps(node)
            if len(raw) < 3000:
                yield raw


class _NoContent:
    """Hands out memory as a reader would, without reading; refuses what would be large."""

    def tensor(self, node: canonical.Json) -> object:
        """Accept any description."""
        return None

    def data(self, node: canonical.Json) -> bytearray:
        """Return nothing."""
        return bytearray()


def _value(data: bytes) -> None:
    """Judge and decode one value."""
    node = canonical.loads(data)
    with contextlib.suppress(GradientError):  # it is no stricter than what follows
        Judge().tree(ValueTree(node))
    tagged_json.decode(node, reader=_NoContent())  # type: ignore[arg-type]


_MANIFEST: Final = b"""{
  "repo_name": "gpt", "description": "", "created_at": "2026-02-10T12:34:56.000000",
  "checkpoints": [
    {"id": "c174a8d473f354196b26b42bf949cbd572a2a7fb584bcb7818615ab91b1e45fb", "ref": "main@0",
     "step": 0, "branch": "main", "file": "/w/gpt/ckpt_main_s0.pt", "type": "anchor",
     "anchor_ref": "main@0", "created_at": "2026-02-10T12:34:56.000000", "message": "",
     "metrics": {"loss": 2.5}}
  ]
}
"""


class _Repo:
    """An empty repo, one file of which is replaced by what is to be parsed."""

    def __init__(self, root: Path) -> None:
        create_repo(root)
        self._root = root
        self._config = (root / paths.REPO_FOLDER / paths.CONFIG).read_bytes()

    def config(self, data: bytes) -> None:
        """Open a repo with this config."""
        path = self._root / paths.REPO_FOLDER / paths.CONFIG
        path.write_bytes(data)
        try:
            Repository.open(self._root, workers=1)
        finally:
            path.write_bytes(self._config)

    def head(self, data: bytes) -> None:
        """Read the active branch."""
        (self._root / paths.REPO_FOLDER / paths.HEAD).write_bytes(data)
        _ = Repository.open(self._root, workers=1).head

    def manifest(self, data: bytes) -> None:
        """Tell whose a manifest is."""
        path = self._root / paths.MANIFEST
        path.write_bytes(data)
        try:
            foreign_files.foreign_entries(data)
            foreign_files.refuse_writing(str(self._root))
            json_files.read(str(path))
        finally:
            path.unlink()

    def mark(self, data: bytes) -> None:
        """Tell whose a view file is."""
        path = self._root / "ckpt_main_s0.pt"
        path.write_bytes(data)
        foreign_files.read_mark(str(path))
        path.unlink()
