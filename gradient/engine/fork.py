"""Forking: a new branch that starts at a commit, with some options changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gradient.checkpoint import reader, writer
from gradient.checkpoint.delta_bases import DeltaBases
from gradient.engine import ranks
from gradient.engine.commit.commit_writer import CommitWriter
from gradient.engine.fork_options import ForkOptions
from gradient.engine.restore import Restored, restore_run
from gradient.engine.session import Session
from gradient.errors import ConfigError
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.objects.tree import Tree
from gradient.repo import failed_commits
from gradient.repo.branch_writer import BranchWriter, Published
from gradient.repo.repository import Repository
from gradient.state import overrides, rng
from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects
from gradient.state.loader import is_loader_name, reseeded
from gradient.state.overrides import Baseline
from gradient.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Forked:
    """An acknowledged fork."""

    published: Published | None
    """Its commit; None if another rank makes it."""
    restored: Restored
    """The same commit (or the source), as the run's position."""


def fork_run(session: Session, writer: BranchWriter, source: Oid, options: ForkOptions) -> Forked:
    """Restore `source`, apply the options, and record the result on a new branch.

    Only the first rank records it. Raises what `restore_run` and the commit writer raise, and
    ConfigError for an option that does not fit; the run is then as it was.

    On a full disk the fork may wait, but it is never skipped: the branch would not exist.
    """
    repo, objects, baseline = session.repo, session.objects, session.baseline
    _check(objects, options)
    without = {"optimizer"} if options.reset_optimizer else set()
    without |= {"scheduler"} if options.reset_scheduler else set()
    done: list[Forked] = []

    def finish(restored: Restored) -> None:
        changed = _edit(repo, objects, restored, baseline, options)
        reseeded_states = _reseed(repo, objects, restored, options.reset_rng_seed)
        state = capture(objects) | reseeded_states
        changed |= dict.fromkeys(reseeded_states, True)
        published = None
        if ranks.commits():
            record = partial(
                _record, repo, session.commit_writer, writer, restored, state, changed, options
            )
            published = session.disk_full.apply(record, optional=False)
            failed_commits.clear(repo.path, writer.branch, published.branch)
        at = restored if published is None else Restored.of(repo, published.commit)
        at.generators = state["rng"]
        done.append(Forked(published, at))

    decided = set(options.set or {})
    if options.reset_scheduler:
        decided |= {name for group in baseline.groups for name in group}
    restore_run(
        repo,
        objects,
        source,
        strict=options.strict,
        without=without,
        then=finish,
        settled=decided,
    )
    return done[0]


def _record(
    repo: Repository,
    commit_writer: CommitWriter,
    branch_writer: BranchWriter,
    source: Restored,
    state: Mapping[str, Any],
    changed: Mapping[str, bool],
    options: ForkOptions,
) -> Published:
    def write_tree(transaction: Transaction, _: DeltaBases | None) -> Oid:
        if not options.strict:
            carried = {k: node for k, node in source.entries.items() if k not in state}
            return writer.write_state(transaction, state, carried=carried)
        return _rewrite(repo, transaction, source, state, changed)

    return commit_writer.record(
        branch_writer,
        source.commit.step,
        write_tree,
        sharing=True,
        message=options.message,
        origin=source.origin | options.record,
        finite=source.commit.finite,
    )


def _check(run: LiveObjects, options: ForkOptions) -> None:
    if options.reset_scheduler and run.scheduler is None:
        raise ConfigError("reset_scheduler: this run has no scheduler")
    overrides.check_options(run.optimizer, options.set or {})


def _edit(
    repo: Repository, run: LiveObjects, restored: Restored, baseline: Baseline, options: ForkOptions
) -> dict[str, bool]:
    """Change the live objects; return the changed components, and whether all of each changed."""
    changed: dict[str, bool] = {}
    if options.reset_optimizer:
        restart_optimizer(repo, run, restored)
        changed["optimizer"] = True
    if options.reset_scheduler:
        overrides.reset_scheduler(run.optimizer, run.scheduler, baseline)
        changed["scheduler"] = True
    if options.set:
        overrides.set_options(run.optimizer, run.scheduler, options.set)
    if options.scale_lr is not None:
        overrides.scale_lr(run.optimizer, run.scheduler, options.scale_lr)
    if options.reset_scheduler or options.set or options.scale_lr is not None:
        changed.setdefault("optimizer", False)
        changed["scheduler"] = True
    return changed


def restart_optimizer(repo: Repository, run: LiveObjects, restored: Restored) -> None:
    """Empty the optimizer's state, and restore the options that the commit has for it."""
    entry = restored.entries.get("optimizer") or restored.lost.get("optimizer")
    saved = None if entry is None else reader.read_entries(repo.store, entry, without={"state"})
    overrides.reset_optimizer(run.optimizer, saved)


def _reseed(
    repo: Repository, run: LiveObjects, restored: Restored, seed: int | None
) -> dict[str, Any]:
    """Reseed every generator, including those of loaders in mid-epoch.

    Returns the new generators, and the states of loaders, which scripts often register later.
    """
    if seed is None:
        return {}
    rng.reseed(seed)
    changed = {"rng": rng.capture()}
    for name in filter(is_loader_name, restored.entries):
        tree = restored.commit.tree
        state = reader.read_state(repo.store, tree, components=[name])[name]
        changed[name] = reseeded(state)
        if name in run.registered:
            run.registered[name].setter(changed[name])
    return changed


def _rewrite(
    repo: Repository,
    transaction: Transaction,
    restored: Restored,
    state: Mapping[str, Any],
    changed: Mapping[str, bool],
) -> Oid:
    """Write the source's root tree with the changed components, without reading any tensor."""
    entries = dict(restored.entries)
    writer.reuse_entries(
        transaction, {k: node for k, node in entries.items() if not changed.get(k)}
    )
    for name, wholly in changed.items():
        if name in state:
            old = None if wholly else entries.get(name)
            oid = _rewrite_component(repo, transaction, name, state[name], old)
            entries[name] = {"tree": str(oid)}
    return writer.write_root(transaction, entries)


def _rewrite_component(
    repo: Repository, transaction: Transaction, name: str, value: Any, old: Json
) -> Oid:
    """Write one component, keeping the subtree ``state`` of `old` (an optimizer's moments)."""
    tree = None if old is None else reader.component_tree(repo.store, old)
    if isinstance(tree, Tree) and "state" in tree.entries:
        rest = {key: item for key, item in value.items() if key != "state"}
        # A tied parameter may have another name in this model; a state under its old name would
        # then belong to no parameter.
        saved = reader.read_entries(repo.store, old, without={"state"})
        if _parameters(saved) != _parameters(rest):
            return writer.write_value(transaction, value, name=name)
        oid = writer.replace_entries(transaction, tree, rest, name=name)
        if oid is not None:
            return oid
    return writer.write_value(transaction, value, name=name)


def _parameters(optimizer: Mapping[str, Any]) -> list[list[str]]:
    return [group["params"] for group in optimizer.get("param_groups", ())]
