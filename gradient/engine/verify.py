"""The comparison behind `gradient verify`: two commits of the same step, by content id.

If the ids differ, the differing tensors and the recorded environments are read to find the cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gradient.checkpoint import diff
from gradient.checkpoint.component_tensors import tensors_in
from gradient.checkpoint.diff import TensorChange
from gradient.checkpoint.reader import component_entries, component_tree, read_value
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Oid
from gradient.objects.tree import Tree
from gradient.repo.repository import Repository

_ORDER: Final = ("model", "optimizer", "scheduler", "rng")
_CIRCUMSTANCES: Final = (
    *("torch", "threads", "devices", "numpy", "python", "gradient", "platform", "host", "code"),
)
_SMALL: Final = 1e-3
"""The order of floating-point additions explains relative changes below this."""


@dataclass(frozen=True, slots=True)
class ComponentChange:
    """A component that differs."""

    name: str
    """Its name."""
    tensors: tuple[TensorChange, ...]
    """The differing tensors, the most changed first."""
    others: tuple[str, ...]
    """The differing entries that are not tensors."""


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The result of comparing the second run with the first."""

    components: tuple[ComponentChange, ...]
    """The differing components, the model first; empty if all bits are equal."""
    first_step: int | None
    """The first differing step that both runs committed."""
    causes: tuple[str, ...]
    """The likely causes, the likeliest first."""

    @property
    def identical(self) -> bool:
        """True if every bit is equal."""
        return not self.components


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a branch's history: from a commit to a later one."""

    repo: Repository
    """The repo."""
    start: Oid
    """The commit before the first one."""
    end: Oid
    """The last commit."""

    def commits(self) -> Iterator[tuple[Oid, CommitRecord]]:
        """Yield the commits after the start, the newest first."""
        # Strict, because the first differing commit may be a damaged one.
        for oid, commit in self.repo.walk(self.end, on_damage="raise"):
            if oid == self.start:
                return
            yield oid, commit


def outcome(recorded: Stretch, again: Stretch) -> VerifyResult:
    """Compare the ends of two stretches that start from the same state.

    Equal ids prove equality. The differences need a state that is kept: otherwise this raises
    ForgottenError.
    """
    one, other = (each.repo.read_commit(each.end) for each in (recorded, again))
    if one.tree == other.tree:
        return VerifyResult((), None, ())
    recorded.repo.check_kept(recorded.end)
    changes = tuple(_components(recorded.repo, one, again.repo, other))
    steps = _first_step(recorded, again)
    return VerifyResult(changes, steps, tuple(_causes(recorded, again, changes)))


def _components(
    repo: Repository, one: CommitRecord, scratch: Repository, other: CommitRecord
) -> Iterator[ComponentChange]:
    before = component_entries(repo.store, one.tree)
    after = component_entries(scratch.store, other.tree)
    known = [name for name in _ORDER if name in before or name in after]
    for name in dict.fromkeys([*known, *before, *after]):
        if before.get(name) == after.get(name):
            continue
        mine, theirs = (
            {leaf.name: leaf for leaf in tensors_in(store, entries[name])}
            if name in entries
            else {}
            for store, entries in ((repo.store, before), (scratch.store, after))
        )
        found = diff.compare(mine, theirs).tensors
        tensors = tuple(each for each in found if each.status != "equal" or each.retyped)
        others = _others(_entries(repo, before.get(name)), _entries(scratch, after.get(name)))
        # The differing tensors already account for their module.
        named = {each.name.partition(".")[0] for each in tensors}
        yield ComponentChange(name, tensors, tuple(each for each in others if each not in named))


def _entries(repo: Repository, entry: Json) -> Mapping[str, Json]:
    tree = None if entry is None else component_tree(repo.store, entry)
    return tree.entries if isinstance(tree, Tree) else {}


def _others(before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        one, other = before.get(name), after.get(name)
        shown = [node for node in (one, other) if type(node) is dict]
        of_tensors = any(node.keys() == {"tensor"} for node in shown)
        if one != other and not of_tensors:
            yield name


def _first_step(recorded: Stretch, again: Stretch) -> int | None:
    # The newest commit of a step counts; reversed order lets it overwrite the older ones.
    one, other = (
        {commit.step: commit.tree for _, commit in reversed([*each.commits()])}
        for each in (recorded, again)
    )
    return min((step for step, tree in one.items() if other.get(step, tree) != tree), default=None)


def _causes(
    recorded: Stretch, again: Stretch, changes: tuple[ComponentChange, ...]
) -> Iterator[str]:
    for _, commit in recorded.commits():
        if commit.fork is not None:
            yield (
                f"{commit.revision} starts with a fork, a merge or a warm start, which the "
                f"command did not repeat: verify from there"
            )
    end = recorded.repo.read_commit(recorded.end)
    one = _environment(recorded.repo, end)
    other = _environment(again.repo, again.repo.read_commit(again.end))
    for name in _CIRCUMSTANCES:
        if name in one and name in other and one[name] != other[name]:
            yield f"the environment differs: {name} was {one[name]}, and is {other[name]} now"
    if any(change.name == "rng" for change in changes):
        yield (
            "the generators differ as well: the run drew other random numbers, in code that runs "
            "only sometimes, or between attach and the loop (call engine.start() after that code)"
        )
        return
    far = [each.relative for change in changes for each in change.tensors]
    if far and all(each is not None and each < _SMALL for each in far):
        yield (
            "the generators agree and the differences are small: non-deterministic kernels "
            "(torch.use_deterministic_algorithms(True), CUBLAS_WORKSPACE_CONFIG), or another "
            "number of threads"
        )
    else:
        yield (
            "the generators agree: the run depends on something outside its state, such as "
            "the clock, the order of files, or a torch.Generator or a counter that was not "
            "registered (engine.register_state, engine.loader)"
        )


def _environment(repo: Repository, commit: CommitRecord) -> dict[str, Any]:
    told = None if commit.environment is None else read_value(repo.store, commit.environment)
    return told if isinstance(told, dict) else {}
