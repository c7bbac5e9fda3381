"""Repos with commits of random chunks, some stored as deltas, written without torch."""

from __future__ import annotations

import random
from pathlib import Path

from gradient.checkpoint.references import references
from gradient.codec.mode import Mode
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo

TIME = "2026-02-10T12:34:56.000000"
BYTES = 4096


def make(path: Path) -> Repository:
    """Create and open a repo."""
    create_repo(path)
    return Repository.open(path, workers=1)


def content(number: int) -> bytes:
    """Return one of many different chunks; chunks of the same family differ little."""
    family, member = divmod(number, 8)
    raw = bytearray(random.Random(family).randbytes(BYTES))
    for place in range(0, BYTES, 64):
        raw[place] = (raw[place] + member) % 256
    return bytes(raw)


def tree_of(chunks: list[Oid]) -> list[bytes]:
    """Return the trees of a state with these chunks, the root last."""
    spec: dict[str, Json] = {"dtype": "uint8", "shape": [BYTES], "nbytes": BYTES}
    tensors: list[Json] = [{"tensor": {**spec, "chunks": [str(oid)]}} for oid in chunks]
    model = Tree({f"w{place}": tensor for place, tensor in enumerate(tensors)}).to_bytes()
    return [model, Tree({"model": {"tree": str(Oid.of(Kind.TREE, model))}}).to_bytes()]


def commit(line: BranchWriter, step: int, *numbers: int, lean: bool = False) -> Oid:
    """Commit a state with these chunks; with `lean`, as deltas from the first of their family."""
    repo = line.repo

    def build(branch: str, parent: Oid | None) -> Oid:
        with repo.store.begin(mode=Mode.AUTO, whole=not lean) as transaction:
            bases = [Oid.of(Kind.BLOB, content(number - number % 8)) for number in numbers]
            chunks = transaction.put_chunks(
                map(content, numbers), width=4, bases=bases if lean else None
            )
            made = CommitRecord(
                tree=[transaction.put(Kind.TREE, body) for body in tree_of(chunks)][-1],
                parents=() if parent is None else (parent,),
                anchor=parent if lean else None,
                step=step,
                branch=branch,
                time=TIME,
            )
            oid = transaction.put(Kind.COMMIT, made.to_bytes())
            transaction.seal()
        return oid

    return line.publish(step, build).commit


def go_on(repo: Repository, branch: str) -> BranchWriter:
    """Return a writer at the tip of a branch."""
    return BranchWriter.open(repo, branch).moved_to(repo.tip(branch))


def delete(repo: Repository, branch: str) -> None:
    """Delete a branch."""
    tip = repo.refs.read(branch)
    assert tip is not None
    repo.refs.delete(branch, after=tip, reason="test")


def read_everything(path: str | Path) -> dict[str, list[int]]:
    """Read every object reachable from a branch; return the steps of each branch."""
    repo = Repository.open(path, workers=1)
    done: set[Oid] = set()
    found: dict[str, list[int]] = {}
    for branch, record in repo.refs.tips().items():
        found[branch] = []
        for oid, commit in repo.walk(record.commit):
            repo.store.read(oid, Kind.COMMIT)
            found[branch].append(commit.step)
            pending = [(Kind.TREE, commit.tree)]
            while pending:
                kind, each = pending.pop()
                if each not in done:
                    done.add(each)
                    body = repo.store.read(each, kind)
                    if kind is Kind.TREE:
                        pending += references(trees.parse(body))
        found[branch].reverse()
    return found


def packs_of(repo: Repository) -> list[str]:
    """Return the names of the packs outside the trash."""
    return repo.storage.names("objects/pack")


def trash_of(repo: Repository) -> list[str]:
    """Return the names in the trash."""
    return repo.storage.names("objects/trash")
