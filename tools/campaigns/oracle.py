"""One process's life with a repo, and what a later one may find there.

A life says what it will do before it does it, and says so again when it was told that it is done.
From the two follows what may be found wherever it ends: what was acknowledged last, or one of the
outcomes of what it was at. Nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from gradient.maintenance.fsck.check import check
from gradient.maintenance.fsck.repair import repair
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.repo.repository import Repository
from gradient.store.ref_record import Space

Refs: TypeAlias = dict[str, list[int]]
"""What there is: for ``heads/NAME`` and ``tags/NAME`` the steps on its line, the oldest first."""

Say: TypeAlias = Callable[[str], object]
"""Keeps a line of what a life says, whatever happens to it afterwards."""

SPACES: Final[tuple[Space, ...]] = ("heads", "tags")

EXPECTED: Final = frozenset(
    {
        *("leftover", "commit-unreachable", "view-missing", "ledger-malformed"),
        *("manifest-malformed", "manifest-stale", "manifest-missing", "view-damaged", "view-stale"),
        *("ref-empty", "ref-commit-lost"),
    }
)
"""What `fsck` may say after an interruption; none of it is an error: a file that nobody finished, a
view that is behind, the folder of a ref that was to begin, what a ref stood on before its end."""


class ViolationError(Exception):
    """A promise was broken."""


class Life:
    """What one process does with a repo, said aloud."""

    def __init__(self, path: str | Path, refs: Refs, say: Say, seed: object = 0) -> None:
        self.path = Path(path)
        self.refs = refs
        """What is there, as far as it was acknowledged."""
        self.chance = random.Random(str(seed))
        self._say = say

    def open(self) -> Repository:
        """Open the repo anew, as each command does."""
        return Repository.open(self.path, workers=1)

    @contextmanager
    def towards(
        self,
        *outcomes: Refs,
        damage: Sequence[str] = (),
        promise: Callable[[], Iterable[Path]] = tuple,
    ) -> Iterator[None]:
        """Do something that ends with the last of these; at an interruption with any of them.

        Until it is done, damage of the classes `damage` may be found, which a repair must mend.
        Once it is done, the files that `promise` returns are there as they are, until something
        else is tried.
        """
        self._say(json.dumps(["damaged", *damage]))
        self.try_for(*outcomes)
        yield
        self.arrive(outcomes[-1], promise())

    def try_for(self, *outcomes: Refs) -> None:
        """Say what may be there from now on, beside what is."""
        self._say(json.dumps(["trying", *outcomes]))

    def arrive(self, refs: Refs, files: Iterable[Path] = ()) -> None:
        """Say what was acknowledged."""
        self.refs = refs
        found = {os.path.relpath(file, self.path): _digest(file) for file in files}
        self._say(json.dumps(["done", refs, found]))

    def spoil(self, path: Path, content: bytes) -> None:
        """Let something else than the store put a file there, at once: a kill leaves either."""
        made = self.path.parent / "spoiled"
        made.write_bytes(content)
        made.replace(path)
        self._say(json.dumps(["spoiled", str(path)]))

    def with_line(self, ref: str, steps: list[int] | None) -> Refs:
        """Return what there will be when a ref has this line; None: when it is gone."""
        found = {**self.refs, ref: steps or []}
        if steps is None:
            del found[ref]
        return found


def allowed(before: Refs, said: Sequence[str]) -> list[Refs]:
    """Return everything that may be found after a life that said this."""
    last = before
    open_ends: list[Refs] = []
    for line in said:
        kind, *found = json.loads(line)
        if kind == "done":
            last, open_ends = found[0], []
        elif kind == "trying":
            open_ends = found
    return [last, *open_ends]


def _promised(said: Sequence[str]) -> dict[str, str]:
    """Return the files that must be there, with the hashes of what is in them."""
    promised: dict[str, str] = {}
    for line in said:
        kind, *found = json.loads(line)
        promised = found[1] if kind == "done" else {} if kind == "trying" else promised
    return promised


def _damage(said: Sequence[str]) -> set[str]:
    """Return the classes of damage that may be there, because somebody did it on purpose."""
    found: set[str] = set()
    for line in said:
        kind, *words = json.loads(line)
        found = set(words) if kind == "damaged" else set() if kind == "done" else found
    return found


def _digest(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes()).hexdigest() if file.is_file() else str(file.exists())


Judge: TypeAlias = Callable[[Repository, Oid, CommitRecord], bool]
"""Whether a commit's state is the one of its step."""


class Inspector:
    """Looks at a repo as the next process would, from one life to the next."""

    def __init__(self, path: str | Path, judge: Judge) -> None:
        self.path = Path(path)
        self._judge = judge
        self._judged: set[Oid] = set()
        """Their content is what it should be, as long as their hashes are right."""
        self.mended = False
        """Whether there was damage that somebody did on purpose, and it was repaired."""

    def look(self, expected: list[Refs], said: Sequence[str] = ()) -> Refs:
        """Return what is there; raises ViolationError where that is none of what is expected.

        Also where a file is not as it was promised by what was `said`.
        """
        for name, digest in _promised(said).items():
            if _digest(self.path / name) != digest:
                raise ViolationError(f"{name} is not as it was acknowledged")
        report = check(self.path, workers=1)
        damage = _damage(said)
        if any(finding.id in damage for finding in report.findings):
            self.mended = True
            report = repair(str(self.path), workers=1).after
        wrong = [finding for finding in report.findings if finding.id not in EXPECTED]
        if wrong or not report.complete:
            raise ViolationError(f"fsck finds {wrong}")
        found = self._read()
        if found not in expected:
            raise ViolationError(f"there is {found}, and not one of {expected}")
        return found

    def _read(self) -> Refs:
        repo = Repository.open(self.path, workers=1)
        found: Refs = {}
        for space in SPACES:
            for name, record in repo.refs.tips(space).items():
                line = list(repo.walk(record.commit))[::-1]
                repo.store.read(line[-1][1].tree, Kind.TREE)  # a tip is never let go of
                for oid, commit in line:
                    if oid not in self._judged and not self._judge(repo, oid, commit):
                        raise ViolationError(f"commit {oid} of step {commit.step} has other bits")
                    self._judged.add(oid)
                found[f"{space}/{name}"] = [commit.step for _, commit in line]
        return found


def scratch_folder() -> str | None:
    """Return a folder in memory, where syncing costs nothing; None where there is none."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
