"""Make a repo with a long history, quickly: commits are written, no run is trained, nothing synced.

    python tools/make_large_repository.py PATH [--commits 10000] [--branches 4]

PATH becomes a workspace with the repo `large`. Every commit changes one small tensor of the model
and one of the optimizer, carries metrics, and is a pack of its own, as commits of a real run are.
Most lie on `main`; the other branches leave it at even distances. A tag stands every 1,000 steps.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gradient.codec.frame import encode
from gradient.codec.mode import Mode
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo import paths
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage.memory import MemoryStorage
from gradient.store import ref_names
from gradient.store.pack import PackWriter
from gradient.store.ref_record import RefRecord

_START = datetime(2026, 1, 1, tzinfo=UTC)
_ANCHOR_EVERY = 50
_ELEMENTS = 256
"""Of each tensor, in float32: one chunk of 1 KiB."""


@dataclass
class Writer:
    """Writes packs and ref records into the folder of a repo's store."""

    folder: Path
    """The folder that packs and refs lie in."""
    seqs: dict[tuple[str, str], int] = field(default_factory=dict)
    """The number of each ref's newest record."""
    shared: dict[str, Oid] = field(default_factory=dict)
    """Trees that all commits have in common."""
    anchors: dict[str, Oid] = field(default_factory=dict)
    """The newest anchor of each branch."""

    def commit(self, branch: str, step: int, number: int, parents: tuple[Oid, ...]) -> Oid:
        """Write one commit with its objects as a pack, and move the branch to it."""
        storage = MemoryStorage()
        with storage.create() as upload:
            writer = PackWriter(upload)
            if not self.shared:
                self._share(writer)
            model = Tree({"weight": self._tensor(writer, number, 1)})
            optimizer = Tree({"exp_avg": self._tensor(writer, number, 2)})
            root = Tree(
                {
                    "model": {"tree": str(_put(writer, Kind.TREE, model.to_bytes()))},
                    "optimizer": {"tree": str(_put(writer, Kind.TREE, optimizer.to_bytes()))},
                }
            )
            anchor = None if number % _ANCHOR_EVERY == 0 else self.anchors.get(branch)
            commit = CommitRecord(
                tree=_put(writer, Kind.TREE, root.to_bytes()),
                parents=parents,
                anchor=anchor,
                step=step,
                branch=branch,
                time=_time(number),
                message=f"after step {step}" if step % 1000 == 0 else "",
                metrics=_metrics(step, number),
                environment=self.shared["environment"],
                hparams=self.shared["hparams"],
            )
            oid = _put(writer, Kind.COMMIT, commit.to_bytes())
            pack = writer.publish()
        (self.folder / pack.name).write_bytes(storage.contents[pack.name])
        if anchor is None:
            self.anchors[branch] = oid
        self.point("heads", branch, oid, number, "commit")
        return oid

    def point(self, space: str, name: str, oid: Oid, number: int, reason: str) -> None:
        """Write a ref's next record."""
        seq = self.seqs.get((space, name), 0) + 1
        self.seqs[space, name] = seq
        record = RefRecord(seq, oid, "move", seq - 1, _time(number), "0" * 32, reason)
        folder = self.folder / "refs" / space / ref_names.quote(name)
        folder.mkdir(exist_ok=True)
        (folder / f"{seq:016d}").write_bytes(record.to_bytes(f"{space}/{name}"))

    def _share(self, writer: PackWriter) -> None:
        facts: dict[str, dict[str, Json]] = {
            "environment": {
                "python": "3.11.9",
                "torch": "2.10.0",
                "command": "python train.py",
                "cwd": ".",
            },
            "hparams": {"lr": 0.0003, "layers": 12},
        }
        for name, entries in facts.items():
            self.shared[name] = _put(writer, Kind.TREE, Tree(entries).to_bytes())

    def _tensor(self, writer: PackWriter, number: int, part: int) -> Json:
        values = b"".join(
            (number * 7919 + part * 104729 + at).to_bytes(4, "little") for at in range(_ELEMENTS)
        )
        chunk = str(_put(writer, Kind.BLOB, values))
        return {
            "tensor": {
                "dtype": "float32",
                "shape": [_ELEMENTS],
                "chunks": [chunk],
                "nbytes": 4 * _ELEMENTS,
            }
        }


def make(path: Path, *, commits: int, branches: int) -> None:
    """Make the workspace `path` with the repo `large`."""
    init_workspace(path)
    create_repo(path / "large", name="large", workspace_path=path)
    writer = Writer(Path(paths.inside(str(path / "large"))))
    side = commits // 10
    others = {f"try-{number}": number for number in range(1, branches)}
    on_main = commits - side * len(others)
    line: list[Oid] = []
    for number in range(on_main):
        line.append(writer.commit("main", number, number, tuple(line[-1:])))
        if number and number % 1000 == 0:
            writer.point("tags", f"step-{number}", line[-1], number, "tag")
    done = on_main
    for name, number in others.items():
        step = on_main * number // branches
        parent = line[step]
        for _ in range(side):
            parent = writer.commit(name, step, done, (parent,))
            step, done = step + 1, done + 1


def _put(writer: PackWriter, kind: Kind, body: bytes) -> Oid:
    oid = Oid.of(kind, body)
    writer.append(kind, oid, len(body), encode(body, width=1, mode=Mode.OFF))
    return oid


def _time(number: int) -> str:
    return (_START + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _metrics(step: int, number: int) -> dict[str, int | float]:
    wave = math.sin(number / 50) / 20
    found: dict[str, int | float] = {"loss": 8 / math.log(step + 8) + wave}
    if step % 10 == 0:
        found["val_loss"] = 8 / math.log(step + 7) + wave * 1.5
    return found


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, make the repo, say how long it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path, help="where the workspace is made; must not exist")
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--branches", type=int, default=4, help="main included; at most 10")
    chosen = parser.parse_args(arguments)
    if chosen.path.exists():
        print(f"{chosen.path} exists", file=sys.stderr)
        return 1
    begun = time.perf_counter()
    make(chosen.path, commits=chosen.commits, branches=min(max(chosen.branches, 1), 10))
    print(f"{chosen.commits:,} commits in {time.perf_counter() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
