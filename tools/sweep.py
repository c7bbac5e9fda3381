"""Damage a small repo in every way there is, one at a time, and see that nothing goes unnoticed.

Every byte of every file with each of its eight bits flipped; every length that it could be cut to;
one byte more; each pair of files of a kind swapped; each file replaced by an empty one, a folder or
a link. Each case is *noticed* (fsck has a finding), or *harmless* (all that the refs lead to reads
exactly as before). Anything else is *silent*, and one such case fails. What reads differently from
before without an error is *wrong*: that must never happen at all, noticed or not.

    python -m tools.sweep                       every case
    python -m tools.sweep --sample 2000 --seed 1
    python -m tools.sweep --part 1/4            every fourth case, beginning with the first
"""

from __future__ import annotations

import argparse
import platform
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from gradient.checkpoint.references import parse_list, references
from gradient.codec.frame import encode
from gradient.codec.mode import Mode
from gradient.errors import GradientError
from gradient.maintenance.fsck.check import check
from gradient.maintenance.fsck.refs import SPACES
from gradient.objects import tree as trees
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo import paths
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from gradient.storage.directory import DirectoryStorage
from gradient.store.pack import PackWriter

TIME = "2026-02-10T12:34:56.000000"
Read: TypeAlias = dict[str, str]
"""What could be read of each commit on each branch: ids of all below it, each proved."""


def build(folder: Path) -> Path:
    """Make a repo of a few KiB with every codec in it; returns its folder."""
    init_workspace(folder / "w", "w")
    root = folder / "w" / "r"
    create_repo(root, "r", None, folder / "w")
    repo = Repository.open(root, workers=1)
    line = BranchWriter.open(repo, "main")
    base = random.Random(7).randbytes(260)
    near = base[:40] + bytes([base[40] ^ 1]) + base[41:]
    smooth = b"".join((1 << 20 | n * 3).to_bytes(4, "little") for n in range(66))
    for step, (body, before) in enumerate([(base, None), (near, base), (smooth, None)]):
        line.publish(step, _commit(repo, step, body, before))
    tip = repo.tip("main")
    assert tip is not None
    repo.refs.append("v1", tip, after=None, reason="tag", space="tags")
    repo.set_head("main")
    return root


def _commit(
    repo: Repository, step: int, body: bytes, base: bytes | None
) -> Callable[[str, Oid | None], Oid]:
    def made(branch: str, parent: Oid | None) -> Oid:
        with DirectoryStorage(paths.inside(repo.path)).create() as upload:
            writer = PackWriter(upload)

            def put(kind: Kind, body: bytes, base: bytes | None = None) -> Oid:
                oid = Oid.of(kind, body)
                encoded = encode(body, width=4, mode=Mode.AGGRESSIVE, base=base)
                source = Oid.of(Kind.BLOB, base) if base and encoded.codec == 3 else None
                writer.append(kind, oid, len(body), encoded, base=source)
                return oid

            size = len(body)
            spec: dict[str, Json] = {"dtype": "uint8", "shape": [size], "nbytes": size}
            spec["chunks"] = [str(put(Kind.BLOB, body, base))]
            model = Tree({"w": {"tensor": spec}})
            root = Tree({"m": {"tree": str(put(Kind.TREE, model.to_bytes()))}})
            tree = put(Kind.TREE, root.to_bytes())
            parents = () if parent is None else (parent,)
            anchor = None if base is None else parent
            commit = CommitRecord(tree, parents, anchor, step, branch, TIME)
            oid = put(Kind.COMMIT, commit.to_bytes())
            writer.publish()
        return oid

    return made


@dataclass(frozen=True, slots=True)
class Case:
    """One way to damage one repo."""

    name: str
    apply: Callable[[Path], None]
    """Does it to a copy."""


def files(root: Path) -> list[str]:
    """Return the files of a repo and its workspace, relative to the workspace."""
    above = root.parent
    return sorted(p.relative_to(above).as_posix() for p in above.rglob("*") if p.is_file())


def cases(root: Path) -> Iterator[Case]:
    """Yield every case, in a fixed order; they are applied to copies of the workspace."""
    names = files(root)
    contents = {name: (root.parent / name).read_bytes() for name in names}
    for name, content in contents.items():
        for at in range(len(content)):
            for bit in range(8):
                flipped = bytearray(content)
                flipped[at] ^= 1 << bit
                yield _write(f"flip {name} {at}.{bit}", name, flipped)
        for length in range(len(content)):
            yield _write(f"cut {name} {length}", name, content[:length])
        for octet in (0, 10, 0x7B, 0xFF):
            yield _write(f"extend {name} {octet}", name, content + bytes([octet]))
        yield Case(f"folder {name}", partial(_folder, name))
        yield Case(f"link {name}", partial(_link, name))
    for kind in ("objects/pack/", "refs/"):
        like = [name for name in names if kind in name]
        for number, one in enumerate(like):
            for two in like[number + 1 :]:
                both = {one: contents[two], two: contents[one]}
                yield Case(f"swap {one} {two}", partial(_put, both))


def _write(label: str, name: str, content: bytes | bytearray) -> Case:
    made = bytes(content)
    return Case(label, partial(_put, {name: made}))


def _put(contents: dict[str, bytes], above: Path) -> None:
    for name, content in contents.items():
        (above / name).unlink()
        (above / name).write_bytes(content)


def _folder(name: str, above: Path) -> None:
    path = above / name
    path.unlink()
    path.mkdir()


def _link(name: str, above: Path) -> None:
    path = above / name
    aside = path.with_name(path.name + ".aside")
    path.rename(aside)
    path.symlink_to(aside.name)


def read(root: Path) -> Read:
    """Read all that the refs lead to; a GradientError becomes part of what is returned."""
    found: Read = {}
    try:
        repo = Repository.open(root, workers=1)
        found["HEAD"] = repo.active_branch()
        for space in SPACES:
            for name in repo.refs.names(space):
                record = repo.refs.read(name, space)
                oid = None if record is None else record.commit
                found[f"{space}/{name}"] = str(oid)
                while oid is not None and str(oid) not in found:
                    commit = repo.read_commit(oid)
                    found[str(oid)] = _closure(repo, commit.tree)
                    oid = commit.parents[0] if commit.parents else None
    except GradientError as error:
        found["error"] = type(error).__name__
    return found


def _closure(repo: Repository, root: Oid) -> str:
    """Read a tree with all below it, and name what was read by its own hash."""
    body = repo.store.read(root, Kind.TREE)
    names = [str(Oid.of(Kind.TREE, body))]
    for kind, oid in references(trees.parse(body)):
        if kind is Kind.TREE:
            names.append(_closure(repo, oid))
        else:
            blobs = [oid] if kind is Kind.BLOB else parse_list(repo.store.read(oid, kind))
            names += [str(Oid.of(Kind.BLOB, repo.store.read(blob, Kind.BLOB))) for blob in blobs]
    return " ".join(names)


def judge(case: Case, original: Path, scratch: Path, sound: Read) -> str:
    """Return ``noticed``, ``harmless``, ``silent`` or ``wrong``."""
    shutil.copytree(original.parent, scratch)
    try:
        case.apply(scratch)
        root = scratch / original.name
        found = read(root)
        objects = {k: v for k, v in found.items() if len(k) == 64}
        if any(sound.get(name, content) != content for name, content in objects.items()):
            return "wrong"
        if check(root, workers=1).findings:
            return "noticed"
        return "harmless" if found == sound else "silent"
    finally:
        shutil.rmtree(scratch)


def sweep(
    folder: Path,
    *,
    sample: int | None = None,
    seed: int = 0,
    part: tuple[int, int] = (1, 1),
    log: Callable[[str], object] = print,
) -> Counter[str]:
    """Judge every case, or some; returns how many there were of each verdict."""
    root = build(folder)
    sound = read(root)
    assert "error" not in sound
    assert not check(root, workers=1).findings
    chosen = list(cases(root))[part[0] - 1 :: part[1]]
    if sample is not None:
        chosen = random.Random(seed).sample(chosen, min(sample, len(chosen)))
    counts: Counter[str] = Counter()
    for number, case in enumerate(chosen, 1):
        verdict = judge(case, root, folder / "case", sound)
        counts[verdict] += 1
        if verdict in ("silent", "wrong"):
            log(f"{verdict}: {case.name}")
        if number % 5000 == 0:
            log(f"{number:,} of {len(chosen):,}: {dict(counts)}")
    return counts


def main() -> int:
    """Sweep, print what was found; 1 if anything was silent or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sample", type=int, metavar="N", help="judge N cases, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="which N (default 0)")
    parser.add_argument("--part", default="1/1", metavar="N/T", help="judge the Nth of T parts")
    options = parser.parse_args()
    number, _, parts = options.part.partition("/")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        counts = sweep(
            Path(scratch),
            sample=options.sample,
            seed=options.seed,
            part=(int(number), int(parts)),
            log=lambda text: print(text, flush=True),
        )
    seconds = time.monotonic() - begun
    total = sum(counts.values())
    print(f"{total:,} cases in {seconds:.0f} s: {dict(counts)}; Python {platform.python_version()}")
    return 1 if counts["silent"] or counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
