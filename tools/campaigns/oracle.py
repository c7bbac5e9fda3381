"""The process under test, and the oracle for the state that it may leave in a repo.

A client logs the possible outcomes of an operation before it begins, and logs the outcome again
when the operation is acknowledged. If the client is interrupted, the repo must be in the last
acknowledged state or in one of the outcomes of the unfinished operation.
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
"""The branches and tags: ``heads/NAME`` and ``tags/NAME`` to the steps of their history, oldest
first."""

WriteLog: TypeAlias = Callable[[str], object]
"""Stores one line of a client's log, even if the client is killed afterwards."""

SPACES: Final[tuple[Space, ...]] = ("heads", "tags")

EXPECTED: Final = frozenset(
    {
        *("leftover", "commit-unreachable", "view-missing", "ledger-malformed"),
        *("manifest-malformed", "manifest-stale", "manifest-missing", "view-damaged", "view-stale"),
        *("ref-empty", "ref-commit-lost"),
    }
)
"""The findings of `fsck` that an interruption may cause. None is an error: unfinished files, an
outdated view, the folder of a ref that was not created, commits of a ref that was deleted."""


class ViolationError(Exception):
    """A guarantee was violated."""


class Client:
    """A process that works on a repo and logs its operations."""

    def __init__(self, path: str | Path, refs: Refs, say: WriteLog, seed: object = 0) -> None:
        self.path = Path(path)
        self.refs = refs
        """The acknowledged state of branches and tags."""
        self.chance = random.Random(str(seed))
        self._say = say

    def open(self) -> Repository:
        """Open the repo, as each command does."""
        return Repository.open(self.path, workers=1)

    @contextmanager
    def attempt(
        self,
        *outcomes: Refs,
        damage: Sequence[str] = (),
        promise: Callable[[], Iterable[Path]] = tuple,
    ) -> Iterator[None]:
        """Run an operation that ends in the last outcome, or in any of them if it is interrupted.

        Until it ends, `fsck` may report damage of the classes `damage`, which a repair must mend.
        After it ends, the files that `promise` returns must stay unchanged until the next
        operation.
        """
        self._say(json.dumps(["damaged", *damage]))
        self.announce(*outcomes)
        yield
        self.acknowledge(outcomes[-1], promise())

    def announce(self, *outcomes: Refs) -> None:
        """Log outcomes that are possible from now on, in addition to the acknowledged state."""
        self._say(json.dumps(["trying", *outcomes]))

    def acknowledge(self, refs: Refs, files: Iterable[Path] = ()) -> None:
        """Log the acknowledged state."""
        self.refs = refs
        found = {os.path.relpath(file, self.path): _digest(file) for file in files}
        self._say(json.dumps(["done", refs, found]))

    def spoil(self, path: Path, content: bytes) -> None:
        """Replace a file atomically and not through the store, and log that."""
        made = self.path.parent / "spoiled"
        made.write_bytes(content)
        made.replace(path)
        self._say(json.dumps(["spoiled", str(path)]))

    def with_line(self, ref: str, steps: list[int] | None) -> Refs:
        """Return the refs with another history of one ref; None deletes the ref."""
        found = {**self.refs, ref: steps or []}
        if steps is None:
            del found[ref]
        return found


def allowed(before: Refs, said: Sequence[str]) -> list[Refs]:
    """Return the states that are allowed after a client wrote this log."""
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
    """Return the files that must exist, with the hashes of their content."""
    promised: dict[str, str] = {}
    for line in said:
        kind, *found = json.loads(line)
        promised = found[1] if kind == "done" else {} if kind == "trying" else promised
    return promised


def _damage(said: Sequence[str]) -> set[str]:
    """Return the classes of damage that the client caused on purpose."""
    found: set[str] = set()
    for line in said:
        kind, *words = json.loads(line)
        found = set(words) if kind == "damaged" else set() if kind == "done" else found
    return found


def _digest(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes()).hexdigest() if file.is_file() else str(file.exists())


StateCheck: TypeAlias = Callable[[Repository, Oid, CommitRecord], bool]
"""Returns whether a commit has the state of its step."""


class Inspector:
    """Inspects a repo as the next process would, after each client."""

    def __init__(self, path: str | Path, judge: StateCheck) -> None:
        self.path = Path(path)
        self._is_right = judge
        self._checked: set[Oid] = set()
        """Commits whose content was correct; their hashes are verified again each time."""
        self.repaired = False
        """True if the client caused damage on purpose and the repair mended it."""

    def inspect(self, expected: list[Refs], said: Sequence[str] = ()) -> Refs:
        """Return the state of the repo; raises ViolationError if it is not one of the expected
        states.

        Also raises ViolationError if a file differs from the one that the log promises.
        """
        for name, digest in _promised(said).items():
            if _digest(self.path / name) != digest:
                raise ViolationError(f"{name} is not as it was acknowledged")
        report = check(self.path, workers=1)
        damage = _damage(said)
        if any(finding.id in damage for finding in report.findings):
            self.repaired = True
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
                    if oid not in self._checked and not self._is_right(repo, oid, commit):
                        raise ViolationError(f"commit {oid} of step {commit.step} has other bits")
                    self._checked.add(oid)
                found[f"{space}/{name}"] = [commit.step for _, commit in line]
        return found


def scratch_folder() -> str | None:
    """Return a folder in memory, in which syncing is free; None if there is none."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
