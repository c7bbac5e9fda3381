"""Restoring a commit into live objects: read and verify everything, check the fit, then change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from gradient.checkpoint import reader
from gradient.errors import ConfigError, MisfitError
from gradient.objects.canonical import Json
from gradient.objects.commit import CommitRecord
from gradient.objects.name_list import shorten
from gradient.objects.oid import Oid
from gradient.repo.repository import Repository
from gradient.state.live_objects import BUILT_IN, LiveObjects, Registered
from gradient.state.restore import RestoreReport, prepare, unpack

_LOG = logging.getLogger("gradient")

_SHOWN = 3


@dataclass(slots=True)
class Restored:
    """The commit that a run was restored from, with the components that can still be claimed."""

    oid: Oid
    """Its id."""
    commit: CommitRecord
    """Its content."""
    entries: Mapping[str, Json]
    """Its components: names to trees."""
    lost: Mapping[str, Json] = field(default_factory=dict)
    """The components that retention dropped; an optimizer's options are still stored."""
    generators: Any = None
    """The generators' state that was restored; None if it was not."""

    @property
    def origin(self) -> dict[str, Any]:
        """The record of this commit in a commit on another branch that starts from it."""
        return {"from": str(self.oid), "revision": self.commit.revision}

    @classmethod
    def of(cls, repo: Repository, oid: Oid) -> Self:
        """Read a commit's components; raise ForgottenError if all of them were dropped."""
        repo.check_kept(oid, components=())
        commit = repo.read_commit(oid)
        entries = reader.component_entries(repo.store, commit.tree)
        dropped = repo.dropped().get(oid)
        lost = {name for name in entries if dropped is not None and dropped.covers(name)}
        return cls(
            oid,
            commit,
            {name: node for name, node in entries.items() if name not in lost},
            {name: node for name, node in entries.items() if name in lost},
        )

    @torch.inference_mode(mode=False)
    def claim(self, repo: Repository, name: str, registered: Registered) -> None:
        """Restore a state that was registered after the resume.

        Raises MisfitError if the commit does not have the state and it is required, and
        ForgottenError if it was dropped.
        """
        if name in self.lost and registered.required:
            repo.check_kept(self.oid, components=[name])
        if name in self.entries:
            value = reader.read_state(repo.store, self.commit.tree, components=[name])[name]
            registered.setter(unpack(name, registered, value))
        elif registered.required:
            raise MisfitError(
                f"{self.commit.revision}, which this run was resumed from, has no state "
                f"{name!r}. Register it with required=False to start from scratch.",
                missing=[name],
            )


# Tensors created in inference mode could never be trained.
@torch.inference_mode(mode=False)
def restore_run(
    repo: Repository,
    run: LiveObjects,
    oid: Oid,
    *,
    strict: bool = True,
    components: Sequence[str] | None = None,
    without: Collection[str] = (),
    then: Callable[[Restored], None] | None = None,
    settled: Collection[str] = (),
) -> Restored:
    """Restore a commit: all components, the named ones, or all `without` some.

    `then` is part of the restore: if it raises, the run is as it was. It decides the options in
    `settled`, so differences between script and checkpoint are not logged for these. Raises
    MisfitError, IntegrityError, ForgottenError or ConfigError before anything has changed.
    """
    restored = Restored.of(repo, oid)
    if components is not None:
        repo.check_kept(oid, components=components)
    names = _wanted(run, restored, components, without)
    repo.check_kept(oid, components=names)
    present = [name for name in names if name in restored.entries]
    state = reader.read_state(repo.store, restored.commit.tree, components=present)
    plan = prepare(run, state, strict=strict, components=names)
    if "rng" in plan.components:
        restored.generators = state["rng"]
    report = plan.apply(None if then is None else lambda: then(restored))
    _tell(restored.commit.revision, report, strict=strict, settled=settled)
    return restored


def _wanted(
    run: LiveObjects,
    restored: Restored,
    components: Sequence[str] | None,
    without: Collection[str],
) -> list[str]:
    if components is None:
        live = [*BUILT_IN, *run.registered]
        absent = {"optimizer"} if run.optimizer is None else set()
        absent |= {"scheduler"} if run.scheduler is None else set()
        absent = {name for name in absent if name not in restored.entries}
        absent |= {
            name
            for name, registered in run.registered.items()
            if not registered.required and name not in restored.entries
        }
        return [name for name in live if name not in absent and name not in without]
    unknown = [name for name in components if name not in restored.entries]
    if isinstance(components, str) or unknown or not components:
        written = f"; write components=({components!r},)" if isinstance(components, str) else ""
        raise ConfigError(
            f"components={components!r}: {restored.commit.revision} has the components "
            f"{', '.join(sorted(restored.entries))}{written}"
        )
    return list(components)


def _tell(revision: str, report: RestoreReport, *, strict: bool, settled: Collection[str]) -> None:
    """Log the differences between the checkpoint and the run."""
    for difference in report.differences:
        option = difference.option
        if option in settled:
            continue
        remedy = ""
        if difference.where.startswith("optimizer") and option != "initial_lr":
            remedy = (
                f"; for the script's: fork(…, set={{{option!r}: {difference.script!r}}}), or "
                f"gradient fork … --set {option}={difference.script}"
            )
        _LOG.warning("%s (the checkpoint's is used%s)", difference, remedy)
    if report.frozen:
        _LOG.warning(
            "%d parameters are frozen here, but the optimizer of %s has state for them: %s; "
            "commits do not record what is frozen, so set requires_grad as it was then",
            len(report.frozen),
            revision,
            shorten(report.frozen, _SHOWN),
        )
    if strict:
        return
    for what, names in (
        ("missing from the checkpoint, left unchanged", report.missing),
        ("not in this run, ignored", report.unexpected),
        ("differs in the checkpoint, left unchanged", tuple(report.mismatched or ())),
        ("optimizer state reset", report.reset),
    ):
        if names:
            _LOG.warning("%s: %s: %s", revision, what, ", ".join(names))
