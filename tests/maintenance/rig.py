"""A small repo to damage, and what can be read out of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from gradient.checkpoint.references import parse_list, references
from gradient.codec.frame import encode
from gradient.codec.mode import Mode
from gradient.errors import GradientError
from gradient.maintenance.fsck.check import check
from gradient.maintenance.fsck.findings import FsckReport
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo import paths
from gradient.repo.branch_writer import BranchWriter, Build
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage.directory import DirectoryStorage
from gradient.store.pack import PackWriter

TIME = "2026-02-10T12:34:56.000000"


def build(folder: Path, *, steps: tuple[int, ...] = (1, 2, 3), nbytes: int = 300) -> Path:
    """Make a repo with one commit for each step; returns its folder."""
    init_workspace(folder / "work")
    root = folder / "work" / "run"
    create_repo(root, "run", None, folder / "work")
    repo = Repository.open(root, workers=1)
    line = BranchWriter.open(repo, "main")
    before = None
    for step in steps:
        body = bytes([step, 7]) * (nbytes // 2)
        before = line.publish(step, builder(repo, step, body)).commit
    assert before is not None
    repo.refs.append("best", before, after=None, reason="tag", space="tags")
    repo.set_head("main")
    return root


def builder(repo: Repository, step: int, body: bytes, base: bytes | None = None) -> Build:
    """Return what `Line.publish` asks for: a commit of one tensor in a pack of its own."""

    def build_commit(branch: str, parent: Oid | None) -> Oid:
        storage = DirectoryStorage(paths.inside(repo.path))
        with storage.create() as upload:
            writer = PackWriter(upload)
            chunk = put(writer, Kind.BLOB, body, base)
            model = put(writer, Kind.TREE, Tree({"w": tensor(body, chunk)}).to_bytes())
            root = put(writer, Kind.TREE, Tree({"model": {"tree": str(model)}}).to_bytes())
            commit = CommitRecord(
                root, () if parent is None else (parent,), None, step, branch, TIME
            )
            oid = put(writer, Kind.COMMIT, commit.to_bytes())
            writer.publish()
        return oid

    return build_commit


def tensor(body: bytes, chunk: Oid) -> Json:
    """Describe a tensor of one chunk."""
    size = len(body)
    return {"tensor": {"dtype": "uint8", "shape": [size], "nbytes": size, "chunks": [str(chunk)]}}


def put(writer: PackWriter, kind: Kind, body: bytes, base: bytes | None = None) -> Oid:
    """Append an object to a pack, whatever other packs have."""
    oid = Oid.of(kind, body)
    mode = Mode.AGGRESSIVE if kind is Kind.BLOB else Mode.OFF
    encoded = encode(body, width=4, mode=mode, base=base)
    named = Oid.of(Kind.BLOB, base) if base is not None and encoded.codec == 3 else None
    writer.append(kind, oid, len(body), encoded, base=named)
    return oid


def write_pack(root: Path, *objects: tuple[Kind, bytes]) -> str:
    """Add a pack of objects to a repo; returns the pack's id."""
    storage = DirectoryStorage(paths.inside(str(root)))
    with storage.create() as upload:
        writer = PackWriter(upload)
        for kind, body in objects:
            put(writer, kind, body)
        return writer.publish().id


def packs(root: Path) -> list[Path]:
    """Return the packs, sorted by name."""
    return sorted(root.glob(".gradient-repo/objects/pack/*.pack"))


def pack_of(root: Path, oid: Oid) -> Path:
    """Return the first pack that has an object."""
    return next(path for path in packs(root) if bytes(oid) in path.read_bytes())


def alter(path: Path, change: bytes, offset: int) -> None:
    """Overwrite some bytes of a file, whatever its mode."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(change)] = change
    replace(path, bytes(content))


def replace(path: Path, content: bytes) -> None:
    """Give a file another content."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def words(report: FsckReport) -> set[str]:
    """Return the classes that were found."""
    return {finding.id for finding in report.findings}


def look(root: Path) -> set[str]:
    """Check a repo and return the classes that were found."""
    return words(check(root, workers=1))


def contents(root: Path) -> dict[str, str]:
    """Read all that the refs of a repo lead to: names to what was met there.

    What can not be read is ``error``; nothing that is returned was not proved by its hash.
    """
    found: dict[str, str] = {}
    try:
        repo = Repository.open(root, workers=1)
        tips = {branch: repo.refs.read(branch) for branch in repo.branches()}
        for branch, record in tips.items():
            oid = None if record is None else record.commit
            while oid is not None:
                commit = repo.read_commit(oid)
                found[f"{branch} {oid}"] = closure(repo, commit.tree)
                oid = commit.parents[0] if commit.parents else None
    except GradientError:
        found["error"] = "error"
    return found


def closure(repo: Repository, root: Oid) -> str:
    """Read a tree with everything below it; returns the names of all, in order."""
    names = [str(root)]
    for kind, oid in references(trees.parse(repo.store.read(root, Kind.TREE))):
        if kind is Kind.TREE:
            names.append(closure(repo, oid))
            continue
        blobs = [oid] if kind is Kind.BLOB else parse_list(repo.store.read(oid, kind))
        for blob in blobs:
            body = repo.store.read(blob, Kind.BLOB)
            names.append(str(Oid.of(Kind.BLOB, body)))
    return " ".join(names)


def copy(root: Path, folder: Path) -> Path:
    """Copy a repo with its workspace; returns the copy's folder."""
    shutil.copytree(root.parent, folder, symlinks=True)
    return folder / root.name
