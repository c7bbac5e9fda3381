"""How fast is `gradient fsck`, against BLAKE3 over the same files?

    python -m tools.bench.fsck FOLDER --mib 512

Makes a repo of incompressible chunks (the worst case: every stored byte is hashed twice, as part of
its object and of its pack) and one of weights, checks each, and hashes the packs with as many
threads. The files are in the page cache both times. Ratios are of time: 1 is as fast as hashing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from blake3 import blake3

from gradient.codec.mode import Mode
from gradient.maintenance.fsck.check import check
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo

_CHUNK = 1 << 20
_CHUNKS = 32
"""MiB in one commit."""


def make(root: Path, mib: int, mode: Mode, draw: Callable[[], bytes]) -> None:
    """Fill a repo with commits of chunks."""
    create_repo(root)
    repo = Repository.open(root)
    line = BranchWriter.open(repo, "main")

    def build(branch: str, parent: Oid | None) -> Oid:
        with repo.store.begin(mode=mode) as transaction:
            chunks = [draw() for _ in range(_CHUNKS)]
            oids = transaction.put_chunks(chunks, width=4)
            entries = {}
            for number, oid in enumerate(oids):
                size = len(chunks[number])
                spec = {"dtype": "uint8", "shape": [size], "nbytes": size, "chunks": [str(oid)]}
                entries[f"w{number:02d}"] = {"tensor": spec}
            model = transaction.put(Kind.TREE, Tree(entries).to_bytes())  # type: ignore[arg-type]
            tree = transaction.put(Kind.TREE, Tree({"m": {"tree": str(model)}}).to_bytes())
            parents = () if parent is None else (parent,)
            body = CommitRecord(
                tree, parents, None, 0, branch, "2026-02-10T12:34:56.000000"
            ).to_bytes()
            oid = transaction.put(Kind.COMMIT, body)
            transaction.seal()
        return oid

    for _ in range(max(1, mib // _CHUNKS)):
        line.publish(0, build)


def hashing(root: Path) -> float:
    """Return the seconds that BLAKE3 takes over the packs, with as many threads."""
    threads = len(os.sched_getaffinity(0))
    begun = time.perf_counter()
    for path in root.glob(".gradient-repo/objects/pack/*.pack"):
        content = path.read_bytes()
        blake3(content, max_threads=threads).digest()
    return time.perf_counter() - begun


def measure(name: str, root: Path) -> None:
    """Print the best of three."""
    hashed = min(hashing(root) for _ in range(3))
    checked, report = 1e9, None
    for _ in range(3):
        begun = time.perf_counter()
        report = check(root)
        checked = min(checked, time.perf_counter() - begun)
    assert report is not None
    assert report.is_sound
    stored = report.all_bytes
    print(
        f"{name}: {stored >> 20} MiB; BLAKE3 {stored / hashed / 1e9:.2f} GB/s, "
        f"fsck {stored / checked / 1e9:.2f} GB/s of stored bytes, ratio {hashed / checked:.2f}"
    )


def main() -> None:
    """Make the repos and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where there is room")
    parser.add_argument("--mib", type=int, default=512, help="state in each repo (default 512)")
    options = parser.parse_args()
    chance = np.random.default_rng(7)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        raw, weights = Path(scratch, "raw"), Path(scratch, "weights")
        make(raw, options.mib, Mode.OFF, lambda: chance.bytes(_CHUNK))
        measure("stored as they are", raw)
        draw = lambda: (chance.standard_normal(_CHUNK // 4) * 0.02).astype("f4").tobytes()  # noqa: E731
        make(weights, options.mib, Mode.AUTO, draw)
        measure("compressed weights", weights)


if __name__ == "__main__":
    main()
