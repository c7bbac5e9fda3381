"""The check of commits: every object that they depend on must exist and follow the format.

Each tree is read and checked once, however many commits share it. For blobs, only the index and the
results of the frame check are used. A tree remembers the bad objects below it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gradient.checkpoint.references import parse_list
from gradient.errors import (
    CorruptObjectError,
    CorruptPackError,
    GradientIOError,
    IntegrityError,
    MalformedObjectError,
    MissingObjectError,
)
from gradient.maintenance.fsck.findings import Finding
from gradient.maintenance.fsck.tree_values import Judge, MalformedTensorError
from gradient.objects import tree as trees
from gradient.objects.canonical import MAX_DEPTH
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.retention.partial_tree import remaining
from gradient.store.object_index import ObjectIndex
from gradient.store.object_store import ObjectStore
from gradient.store.retention_log import Dropped

_NOTHING: frozenset[Oid] = frozenset()


@dataclass(frozen=True, slots=True)
class _Below:
    """The dependencies of a tree."""

    bad: frozenset[Oid]
    """The bad objects, including the tree itself."""
    alone: bool
    """True if each chunk has a frame without a base."""


class ObjectCheck:
    """Walks commits. `lost` are the objects without an intact frame.

    Dropped components (`dropped`) may be missing.
    """

    def __init__(
        self,
        store: ObjectStore,
        index: ObjectIndex,
        lost: Collection[Oid],
        progress: Callable[[int], object] = lambda _: None,
        dropped: Mapping[Oid, Dropped] | None = None,
    ) -> None:
        self._store = store
        self._dropped = dropped or {}
        self._index = index
        self._lost = lost
        self._progress = progress
        self._trees: dict[Oid, _Below] = {}
        self._lists: dict[Oid, _Below] = {}
        self._found: dict[Oid, Finding] = {}
        self.findings: list[Finding] = []
        """The findings, without the affected commits."""
        self.commits: dict[Oid, CommitRecord] = {}
        """The readable commits."""
        self.bad: dict[Oid, frozenset[Oid]] = {}
        """The bad objects that each checked commit depends on; itself, if it is lost."""
        self.names: dict[Oid, str] = {}
        """The revision of each checked commit."""

    def walk(self, tip: Oid, branch: str) -> None:
        """Check a commit and all unchecked commits before it."""
        pending = [(tip, branch)]
        while pending:
            oid, branch = pending.pop()
            if oid in self.bad:
                continue
            commit = self._commit(oid, branch)
            if commit is None:
                continue
            pending += [(parent, commit.branch) for parent in reversed(commit.parents)]

    def leave_out(self, commits: Iterable[Oid]) -> None:
        """Mark commits as unchecked."""
        for oid in commits:
            del self.bad[oid], self.names[oid]
            self.commits.pop(oid, None)

    def conclude(self) -> None:
        """Check the relations between commits, after all of them were checked."""
        for oid, commit in self.commits.items():
            self.findings += self._judge_lineage(oid, commit)

    def explain(self, oid: Oid) -> Finding | None:
        """Return the finding about an object, if any."""
        return self._found.get(oid)

    def _commit(self, oid: Oid, branch: str) -> CommitRecord | None:
        self._progress(1)
        body = self._read(oid, Kind.COMMIT)
        commit = None
        if body is not None:
            try:
                commit = CommitRecord.from_bytes(body)
            except MalformedObjectError as error:
                self._note("commit-malformed", oid, f"commit {oid}: {error}")
        if commit is None:
            self.bad[oid] = frozenset([oid])
            self.names[oid] = f"{branch} ({oid.short})"
            return None
        self.commits[oid] = commit
        self.names[oid] = commit.revision
        below = self._state(oid, commit.tree)
        bad = set(below.bad)
        for each in (commit.environment, commit.hparams, commit.fork):
            if each is not None:
                bad |= self._tree(each, 0).bad
        self.bad[oid] = frozenset(bad)
        if commit.anchor is None and not below.alone and not bad:
            message = f"{commit.revision} is an anchor, and has chunks that are differences alone"
            self.findings.append(Finding("commit-dependent", "", message, str(oid)))
        return commit

    def _judge_lineage(self, oid: Oid, commit: CommitRecord) -> Iterator[Finding]:
        for parent in commit.parents:
            if parent not in self.commits:
                message = f"{commit.revision} follows {parent}, which is lost"
                yield Finding("commit-parent", "", message, str(oid))
        first = self.commits.get(commit.parents[0]) if commit.parents else None
        if first is not None and first.step > commit.step:
            message = f"{commit.revision} follows step {first.step}"
            yield Finding("commit-step", "", message, str(oid))
        if commit.anchor is not None:
            anchor = self.commits.get(commit.anchor)
            if anchor is None or anchor.anchor is not None:
                what = "is no anchor" if anchor is not None else "no branch leads to"
                message = f"{commit.revision} names the anchor {commit.anchor}: {what}"
                yield Finding("commit-anchor", "", message, str(oid))

    def _state(self, commit: Oid, root: Oid) -> _Below:
        """Check the parts of a commit's tree that were not dropped."""
        dropped = self._dropped.get(commit)
        if dropped is None:
            return self._root(root)
        if dropped.components is None:
            return _Below(_NOTHING, True)
        bad: set[Oid] = set()
        parts: set[Oid] = set()
        try:
            for kind, oid in remaining(self._store, root, dropped, parts):
                if kind is Kind.TREE:
                    bad |= self._tree(oid, 1).bad
                elif self._fault(oid, kind) is not None:
                    bad.add(oid)
        except IntegrityError as error:
            lost = next((oid for oid in (root, *parts) if self._read(oid, Kind.TREE) is None), root)
            self._note("object-damaged", lost, str(error))
            bad.add(lost)
        return _Below(frozenset(bad), True)

    def _root(self, oid: Oid) -> _Below:
        known = self._trees.get(oid)
        below = known or self._tree(oid, 0)
        body = self._read(oid, Kind.TREE) if known is None and not below.bad else None
        if body is not None:
            tree = trees.parse(body)
            fits = isinstance(tree, Tree) and not tree.flat and tree.type == "dict"
            if fits and isinstance(tree, Tree):
                fits = list(tree.entries) == sorted(tree.entries) and all(
                    type(entry) is dict and entry.keys() == {"tree"}
                    for entry in tree.entries.values()
                )
            if not fits or tree.storages:
                self._note("root-malformed", oid, f"{oid} is not what a root tree is")
                below = self._trees[oid] = _Below(below.bad | {oid}, below.alone)
        return below

    def _tree(self, oid: Oid, depth: int) -> _Below:
        known = self._trees.get(oid)
        if known is not None:
            return known
        if depth > MAX_DEPTH + 1:
            self._note("tree-deep", oid, f"trees are nested deeper than {MAX_DEPTH} levels")
            return _Below(frozenset([oid]), True)
        body = self._read(oid, Kind.TREE)
        judge, bad, alone = Judge(), set(), True
        if body is not None:
            try:
                tree = trees.parse(body)
                if depth > 1 and tree.storages:
                    raise MalformedObjectError("a tree below a component's has storages")
                judge.tree(tree)
            except MalformedTensorError as error:
                self._note("tensor-malformed", oid, f"tree {oid}: {error}")
            except MalformedObjectError as error:
                word = "value-malformed" if str(error).startswith("no ") else "tree-malformed"
                self._note(word, oid, f"tree {oid}: {error}")
        if oid in self._found:
            bad.add(oid)
        for below in self._under(oid, judge, depth):
            bad |= below.bad
            alone = alone and below.alone
        result = _Below(frozenset(bad) if bad else _NOTHING, alone)
        self._trees[oid] = result
        return result

    def _under(self, oid: Oid, judge: Judge, depth: int) -> Iterator[_Below]:
        for subtree in judge.subtrees:
            yield self._tree(subtree, depth + 1)
        for bulk in judge.bulks:
            chunks = bulk.chunks
            if bulk.listed is not None:
                found = self._list(bulk.listed)
                if found is None:
                    yield _Below(frozenset([bulk.listed]), True)
                    continue
                chunks = found
            lengths = list(bulk.lengths()) if len(chunks) == bulk.count else []
            if not lengths:
                self._note("list-malformed", oid, f"{len(chunks)} chunks for {bulk.nbytes} bytes")
                yield _Below(frozenset([oid]), True)
            for chunk, length in zip(chunks, lengths, strict=False):
                yield self._blob(oid, chunk, length)

    def _list(self, oid: Oid) -> tuple[Oid, ...] | None:
        body = self._read(oid, Kind.LIST)
        if body is None:
            return None
        try:
            return tuple(parse_list(body))
        except MalformedObjectError as error:
            self._note("list-malformed", oid, f"list {oid}: {error}")
            return None

    def _blob(self, tree: Oid, oid: Oid, length: int) -> _Below:
        places = self._index.find(oid)
        word = self._fault(oid, Kind.BLOB)
        if word is None and places[0][1].raw != length:
            message = f"chunk {oid} has {places[0][1].raw} bytes, and {length} in tree {tree}"
            self._note("chunk-length", oid, message)
        if oid in self._found:
            return _Below(frozenset([oid]), True)
        return _Below(_NOTHING, places[0][1].base is None)

    def _fault(self, oid: Oid, kind: Kind) -> str | None:
        """Note the damage of an object that the index and the frames show; return its class."""
        places = self._index.find(oid)
        if not places:
            return self._note("object-missing", oid, f"no pack has {kind.value} {oid}")
        if all(row.kind is not kind for _, row in places):
            what = places[0][1].kind.value
            return self._note("object-kind", oid, f"{oid} is a {what}, needed as {kind.value}")
        if oid in self._lost:
            return self._note("object-damaged", oid, f"no frame of {kind.value} {oid} is right")
        return None

    def _read(self, oid: Oid, kind: Kind) -> bytes | None:
        if self._fault(oid, kind) is not None:
            return None
        try:
            return self._store.read(oid, kind)
        except MissingObjectError as error:
            self._note("object-missing", oid, str(error))
        except (CorruptObjectError, CorruptPackError, GradientIOError) as error:
            self._note("object-damaged", oid, str(error))
        return None

    def _note(self, word: str, oid: Oid, message: str) -> str:
        if oid not in self._found:
            self._found[oid] = Finding(word, "", message, str(oid))
        return word
