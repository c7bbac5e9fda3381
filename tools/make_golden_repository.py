"""Make tests/format/golden-v1b.tar: a small repo of format 1 that must be readable for ever.

The archives that are in the repository are never made anew: they are what early programs wrote, the
first one (golden-v1) before tensors of up to 512 bytes stood in the tree. Run this to see what they
consist of, and to make another one when a program writes otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import struct
import tarfile
import tempfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradient.checkpoint import reader, writer
from gradient.codec.frame import encode
from gradient.codec.mode import Mode
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo import paths
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.state import rng
from gradient.state.tensors import memory
from gradient.storage.directory import DirectoryStorage
from gradient.storage.memory import MemoryStorage
from gradient.store.object_store import ObjectStore
from gradient.store.pack import PackWriter
from gradient.store.refs import Refs

NAME = "golden-v1b"
TIME = "2026-02-10T12:34:56.000000"
FORK = "fine/LR-1e-2"
"""A branch whose name needs quoting."""

Nested = dict[str, Any]


class FixedRefs(Refs):
    """Refs whose records do not depend on when and where they are made."""

    def _writer(self) -> str:
        return "0" * 32


class Weights:
    """Numbers that look like weights and are the same everywhere."""

    def __init__(self) -> None:
        self._random = np.random.RandomState(7)

    def take(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return the next tensor."""
        drawn = torch.from_numpy(self._random.standard_normal(shape) * 0.02)
        return drawn.to(dtype)


def everything() -> Nested:
    """Return registered state with every kind of value."""
    return {
        "none": None,
        "flags": [True, False],
        "ints": [0, -1, 2**53 - 1, 2**53, -(2**127)],
        "floats": [0.1, -0.0, 1e300, 5e-324, float("inf"), float("-inf")],
        "nan": struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0],
        "complex": complex(-0.0, float("inf")),
        "texts": ["", "naïve ✓", 'a\x00\n"\\', "\udc80"],
        "bytes": [b"", bytes(range(256)), bytes(300)],
        "bytearray": bytearray(b"ab"),
        "tuple": (1, (2, [3])),
        "dict": {"b": 1, "a": 2, 0: {}, (1, "x"): None, None: b"", 1.5: 0, b"k": 1},
        "ordered": OrderedDict(z=1, a=2),
        "counter": Counter({80: 1, 120: 2}),
        "defaultdict": defaultdict(list, a=[1]),
        "deque": deque([1, 2], maxlen=4),
        "sets": [{1, "a", (2, 3)}, frozenset({b"x"})],
        "torch": [torch.Size([2, 3]), torch.float8_e4m3fn, torch.device("cuda:1")],
        "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.float16("nan")],
        "arrays": [
            np.arange(6, dtype="<i4").reshape(2, 3),
            np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
            np.array(["ab", "c"]),
            np.zeros((0, 2)),
            np.arange(600, dtype="<u2"),
            np.array(5, "<u8"),
        ],
        "generator": np.random.PCG64(12345).state,
    }


def model(weights: Weights) -> Nested:
    """Return a model's state dict: tied, in several types and memory formats."""
    tied = torch.nn.Parameter(weights.take(16, 48))
    bits = torch.tensor([0x7FC12345, -0x80000000, 0x7F800000], dtype=torch.int32)
    return {
        "wte.weight": tied,
        "blocks.0.weight": torch.nn.Parameter(weights.take(24, 64, dtype=torch.bfloat16)),
        "blocks.0.conv": weights.take(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "blocks.0.scale": weights.take(20).to(torch.float8_e4m3fn),
        "blocks.0._extra_state": {"seen": 3},
        "norm.running_mean": weights.take(8, dtype=torch.float64),
        "norm.num_batches_tracked": torch.tensor(7),
        "norm.special": bits.view(torch.float32),
        "norm.phase": torch.complex(weights.take(3), weights.take(3)),
        "norm.empty": torch.zeros(0, 3),
        "mask": torch.arange(600) % 3 == 0,
        "head.weight": tied,
    }


def optimizer(weights: Weights, step: int) -> Nested:
    """Return an AdamW's captured state; its second moments are not negative."""
    moments = {
        name: {
            "step": torch.tensor(float(step)),
            "exp_avg": weights.take(*shape),
            "exp_avg_sq": weights.take(*shape).square(),
        }
        for name, shape in {"blocks.0.weight": (24, 64), "wte.weight": (16, 48)}.items()
    }
    names = ["wte.weight", "blocks.0.weight"]
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "params": names}
    return {"class": "torch.optim.adamw.AdamW", "param_groups": [group], "state": moments}


def generators() -> Nested:
    """Return the generators' states, without those of devices."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    return rng.capture_cpu()


def state(step: int) -> Nested:
    """Return a whole run's state at a step."""
    weights = Weights()
    return {
        "model": model(weights),
        "optimizer": optimizer(weights, step),
        "scheduler": {"milestones": Counter({80: 1}), "last_epoch": step, "base_lrs": [1e-3]},
        "rng": generators(),
        "env": everything(),
    }


class Golden:
    """Builds the repo, commit by commit."""

    def __init__(self, folder: Path) -> None:
        workspace, path = folder / NAME, folder / NAME / "gpt"
        init_workspace(workspace, "golden")
        create_repo(path, "gpt", "a golden repo", workspace)
        for config in (workspace / ".gradient", path / paths.REPO_FOLDER):
            _fix_date(config / paths.CONFIG)
        self.repo = Repository.open(path, workers=1)
        self.repo.refs = FixedRefs(
            DirectoryStorage(paths.inside(self.repo.path)), clock=lambda: TIME
        )

    def build(self) -> None:
        """Make everything."""
        main = BranchWriter.open(self.repo, "main")
        self.commit(main, 0, state(0), message="the start")
        second = self.commit(main, 10, self.later(10), metrics={"val/loss": 2.5, "tokens": 2**60})
        third = self.commit(main, 20, self.later(20), metrics={"loss": float("inf")})
        self.repo.refs.append("v1", third, after=None, reason="tag", space="tags")
        self.difference(main, 30, third)
        fork = BranchWriter.create(self.repo, FORK).moved_to(third)
        origin = {"from": str(third), "revision": "main@20", "scale_lr": 10.0}
        self.commit(fork, 20, self.later(20, lr=1e-2), origin=origin, message="ten times\nthe rate")
        # 65 chunks of zeros: one blob, and a list.
        big = {"cache": {"zeros": torch.zeros(65 << 18)}}
        self.commit(fork, 25, self.later(25, lr=1e-2) | big)
        # Back to step 10: what main had becomes main.old1.
        main.moved_to(second)
        self.commit(main, 15, self.later(15))
        gone = self.repo.refs.append("gone", third, after=None, reason="a test")
        self.repo.refs.delete("gone", after=gone, reason="a test")
        self.repo.set_head(FORK)

    def later(self, step: int, *, lr: float = 1e-3) -> Nested:
        """Return a state of which only small parts differ from the first one."""
        later = state(step)
        later["optimizer"]["param_groups"][0]["lr"] = lr
        later["model"]["norm.running_mean"] += step
        return later

    def commit(self, line: BranchWriter, step: int, content: Nested, **fields: Any) -> Oid:
        """Publish one commit."""

        def build(branch: str, parent: Oid | None) -> Oid:
            with self.repo.store.begin(mode=Mode.AUTO) as transaction:
                origin = fields.get("origin")
                made = CommitRecord(
                    tree=writer.write_state(transaction, content),
                    parents=() if parent is None else (parent,),
                    anchor=None,
                    step=step,
                    branch=branch,
                    time=TIME,
                    message=fields.get("message", ""),
                    metrics=fields.get("metrics", {}),
                    environment=writer.write_value(transaction, {"gradient": "0.2.0"}, name="e"),
                    hparams=writer.write_value(transaction, {"layers": 1}, name="h"),
                    fork=writer.write_value(transaction, origin, name="f") if origin else None,
                )
                oid = transaction.put(Kind.COMMIT, made.to_bytes())
                transaction.seal()
            return oid

        return line.publish(step, build).commit

    def difference(self, line: BranchWriter, step: int, anchor: Oid) -> None:
        """Publish a commit whose embedding is stored as the difference from an earlier one's.

        Frame by frame, so that it does not depend on when a writer finds that this pays.
        """
        content = self.later(step)
        before = bytes(memory(content["model"]["wte.weight"]))
        with torch.no_grad():
            content["model"]["wte.weight"].mul_(1.0001)
        aside = ObjectStore(MemoryStorage(), workers=1)

        def build(branch: str, parent: Oid | None) -> Oid:
            with aside.begin(mode=Mode.OFF) as transaction:
                tree = writer.write_state(transaction, content)
                transaction.seal()
            made = CommitRecord(
                tree=tree,
                parents=() if parent is None else (parent,),
                anchor=anchor,
                step=step,
                branch=branch,
                time=TIME,
            )
            pack = PackWriter(DirectoryStorage(paths.inside(self.repo.path)).create())
            for kind, oid, body in _objects(aside, tree):
                if oid in self.repo.store:
                    continue
                base = before if kind is Kind.BLOB and len(body) == len(before) else None
                encoded = encode(body, width=4, mode=Mode.AGGRESSIVE, base=base)
                name = Oid.of(Kind.BLOB, before) if encoded.codec == 3 else None
                pack.append(kind, oid, len(body), encoded, base=name)
            body = made.to_bytes()
            pack.append(Kind.COMMIT, made.oid, len(body), encode(body, width=1, mode=Mode.OFF))
            pack.publish()
            return made.oid

        line.publish(step, build)


def _objects(store: ObjectStore, root: Oid) -> Iterator[tuple[Kind, Oid, bytes]]:
    """Yield the objects of a tree, children first."""
    body = store.read(root, Kind.TREE)
    for kind, word in _mentioned(json.loads(body)):
        oid = Oid.parse(word)
        if kind is Kind.TREE:
            yield from _objects(store, oid)
        else:
            yield kind, oid, store.read(oid, kind)
    yield Kind.TREE, root, body


def _mentioned(node: Any) -> Iterator[tuple[Kind, str]]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "tree" and isinstance(value, str):
                yield Kind.TREE, value
            elif name == "chunks":
                yield from ((Kind.BLOB, word) for word in value)
            else:
                yield from _mentioned(value)
    elif isinstance(node, list):
        for value in node:
            yield from _mentioned(value)


def _fix_date(config: Path) -> None:
    document = json.loads(config.read_text(encoding="utf-8"))
    document["created_at"] = TIME
    config.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def pack_folder(folder: Path) -> bytes:
    """Return a tar archive of a folder that depends on names and contents alone."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def digest(value: Any) -> str:
    """Hash a nested value: types, bits, dtypes, strides. Knows nothing of Gradient."""
    seen = hashlib.sha256()
    for piece in _pieces(value):
        seen.update(len(piece).to_bytes(8, "little"))
        seen.update(piece)
    return seen.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    yield type(value).__qualname__.encode()
    if isinstance(value, torch.Tensor):
        flat = value.detach().contiguous().reshape(-1).view(torch.uint8)
        yield f"{value.dtype} {tuple(value.shape)} {value.stride()} {value.requires_grad}".encode()
        yield flat.numpy().tobytes()
    elif isinstance(value, np.ndarray | np.generic):
        yield f"{value.dtype.str} {value.shape} {value.flags.f_contiguous}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        yield repr(getattr(value, "default_factory", None)).encode()
        for key, item in value.items():
            yield from _pieces(key)
            yield from _pieces(item)
    elif isinstance(value, set | frozenset):
        yield from sorted(digest(item).encode() for item in value)
    elif isinstance(value, list | tuple | deque):
        yield str(getattr(value, "maxlen", None)).encode()
        for item in value:
            yield from _pieces(item)
        yield b"end"
    elif isinstance(value, float):
        yield struct.pack("<d", value)
    elif isinstance(value, complex):
        yield struct.pack("<dd", value.real, value.imag)
    elif isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    else:
        yield repr(value).encode()


def describe(repo: Repository) -> dict[str, Any]:
    """Return what a repo says, with a digest of every component of every commit."""
    store = repo.store
    commits = {}
    for oid in store.commits():
        commit = repo.read_commit(oid)
        content = reader.read_state(store, commit.tree)
        commits[str(oid)] = {
            "revision": commit.revision,
            "type": commit.type,
            "parents": [str(parent) for parent in commit.parents],
            "message": commit.message,
            "metrics": {name: repr(number) for name, number in commit.metrics.items()},
            "fork": None if commit.fork is None else reader.read_value(store, commit.fork),
            "components": {name: digest(value) for name, value in sorted(content.items())},
        }
    return {
        "name": repo.config.name,
        "head": repo.head,
        "branches": {name: str(oid) for name, oid in repo.tips().items()},
        "tags": {name: _target(repo, name) for name in repo.refs.names(space="tags")},
        "commits": commits,
    }


def _target(repo: Repository, tag: str) -> str:
    record = repo.refs.read(tag, space="tags")
    assert record is not None
    return str(record.commit)


def make(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Build the repo inside a folder; return its archive and its description."""
    golden = Golden(folder)
    golden.build()
    return pack_folder(folder), describe(golden.repo)


def main() -> None:
    """Write the archive and the description into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where to write the two files")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as scratch:
        archive, description = make(Path(scratch))
    text = json.dumps(description, indent=1, ensure_ascii=True) + "\n"
    (folder / f"{NAME}.tar").write_bytes(archive)
    (folder / f"{NAME}.json").write_text(text, encoding="utf-8")
    print(f"{len(archive):,} bytes, {len(description['commits'])} commits")


if __name__ == "__main__":
    main()
