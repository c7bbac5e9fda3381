"""The comparison of two states: their metadata, then their tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gradient.checkpoint import diff
from gradient.checkpoint.component_tensors import tensors_in
from gradient.checkpoint.diff import StateDiff, TensorSource
from gradient.checkpoint.reader import component_entries, component_tree, read_entries, read_value
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.objects.tree import Tree
from gradient.repo.repository import Repository

COMPARED: Final = ("model", "optimizer")
"""The components whose tensors are compared: the first always, the second on request."""

_Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Side:
    """One state: a commit, or a file."""

    name: str
    """Its name."""
    tensors: Mapping[str, Mapping[str, TensorSource]]
    """The tensors of the components in `COMPARED` that it has, by component and name."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Plain values by section (``hparams``, ``metrics``, …) and name; a section that it says
    nothing of is absent."""
    components: Mapping[str, Json] = field(default_factory=dict)
    """The id of each component, for comparison with another commit; none for a file."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that differs."""

    section: str
    """``hparams``, ``param groups``, ``metrics``, ``environment`` or ``code``."""
    name: str
    """Its name in the section."""
    before: Any
    """Its value; None if it is absent."""
    after: Any
    """Its value on the other side."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences between two states."""

    before: str
    """The name of the first."""
    after: str
    """The name of the second."""
    facts: tuple[Fact, ...]
    """Values that differ; only of sections that both sides have."""
    components: Mapping[str, str]
    """``equal``, ``differs``, ``added`` or ``removed`` for each component of two commits."""
    tensors: Mapping[str, StateDiff]
    """The changes of tensors, by component."""


def revision_side(repo: Repository, oid: Oid, name: str, *, optimizer: bool = True) -> Side:
    """Take a commit as one side; its tensors are found now and read when they are compared.

    Those of the optimizer only where they are wanted. Raises ForgottenError.
    """
    wanted = COMPARED if optimizer else COMPARED[:1]
    repo.check_kept(oid, components=wanted)
    commit = repo.read_commit(oid)
    entries = component_entries(repo.store, commit.tree)
    tensors: dict[str, dict[str, TensorSource]] = {}
    for component in wanted:
        if component in entries:
            found = tensors_in(repo.store, entries[component])
            tensors[component] = {leaf.name: leaf for leaf in found}
    facts: dict[str, dict[str, Any]] = {"metrics": dict(commit.metrics)}
    if commit.hparams is not None:
        facts["hparams"] = _flat(read_value(repo.store, commit.hparams))
    if "optimizer" in entries:
        facts["param groups"] = group_options(read_groups(repo, entries["optimizer"]))
    if commit.environment is not None:
        environment = read_value(repo.store, commit.environment)
        if isinstance(environment, dict):
            code = environment.pop("code", None)
            facts["environment"] = _flat(environment)
            facts["code"] = _flat(code if isinstance(code, dict) else {})
    return Side(name, tensors, facts, entries)


def compare(
    before: Side, after: Side, *, optimizer: bool = False, progress: _Progress | None = None
) -> Comparison:
    """Compare two sides; with `optimizer`, the optimizer's tensors too."""
    wanted = COMPARED if optimizer else COMPARED[:1]
    return Comparison(
        before.name,
        after.name,
        tuple(_facts(before.facts, after.facts)),
        dict(_components(before.components, after.components)),
        {
            name: diff.compare(
                before.tensors.get(name, {}), after.tensors.get(name, {}), progress=progress
            )
            for name in wanted
            if name in before.tensors or name in after.tensors
        },
    )


def group_options(groups: object) -> dict[str, Any]:
    """Return the options of an optimizer's groups by number and name."""
    options: dict[str, Any] = {}
    for number, group in enumerate(groups if isinstance(groups, list) else []):
        if isinstance(group, dict):
            kept = {key: value for key, value in group.items() if key != "params"}
            options |= {f"{number}.{name}": value for name, value in _flat(kept).items()}
    return options


def read_groups(repo: Repository, entry: Json) -> object:
    """Return the param groups of a stored optimizer; its parameters' state is not read."""
    tree = component_tree(repo.store, entry)
    if not isinstance(tree, Tree):
        return None
    opaque = tree.entries.get("opaque")
    if isinstance(opaque, dict) and opaque.keys() == {"tree"}:
        return read_groups(repo, opaque)
    others = [name for name in tree.entries if name not in ("param_groups", "opaque")]
    found = read_entries(repo.store, entry, without=others)
    inner = found.get("opaque")
    return inner.get("param_groups") if isinstance(inner, dict) else found.get("param_groups")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Name every plain value in nested mappings; what is no plain value becomes text."""
    flat: dict[str, Any] = {}
    items: Mapping[Any, Any] = value if isinstance(value, Mapping) else {"": value}
    for key, item in items.items():
        name = f"{path}.{key}" if path else str(key)
        if isinstance(item, Mapping):
            flat |= _flat(item, name)
        else:
            flat[name] = _plain(item)
    return flat


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "shape", None) == ():
        return item()
    return f"{value!r:.200}"


def _facts(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> Iterator[Fact]:
    for section in ("hparams", "param groups", "metrics", "environment", "code"):
        if section not in before or section not in after:
            continue
        one, other = before[section], after[section]
        for name in dict.fromkeys([*one, *other]):
            if not _same(one.get(name), other.get(name)):
                yield Fact(section, name, one.get(name), other.get(name))


def _same(one: Any, other: Any) -> bool:
    # By what they read as: a NaN is the same metric twice, 1 and 1.0 are not the same option.
    return type(one) is type(other) and repr(one) == repr(other)


def _components(before: Mapping[str, Json], after: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    if not before or not after:
        return
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            yield name, "added" if name in after else "removed"
        else:
            yield name, "equal" if before[name] == after[name] else "differs"
