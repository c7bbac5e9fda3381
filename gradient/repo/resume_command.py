"""The exact command that goes on with the last run of a repo, wherever it is typed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from gradient.errors import GradientError
from gradient.repo import discovery, last_run
from gradient.repo.last_run import LastRun
from gradient.repo.repository import Repository


@dataclass(frozen=True, slots=True)
class ResumeCommand:
    """The last run, and how to go on with it."""

    run: LastRun
    """Its command line."""
    branch: str | None
    """The branch that has the newest commit; None where there is none yet."""
    revision: str | None
    """The newest commit; None where there is none yet."""
    resume: str
    """What to type here."""


def find(
    repo: Repository,
    *,
    branch: str | None = None,
    run: LastRun | None = None,
    committed: bool = False,
) -> ResumeCommand | None:
    """Return how to go on with the last run; None where none is known.

    Several may train in one repo at a time. Who knows more than the repo says it: which `run` is
    meant, which `branch` it stands on, and whether it has `committed`.
    """
    tips = repo.tips()
    newest = branch if branch in tips else None
    if branch is None:
        newest = max(tips, key=lambda name: repo.read_commit(tips[name]).time, default=None)
    line = repo.walk(None if newest is None else tips[newest], on_damage="skip")
    commits = [commit for _, commit in islice(line, last_run.MOST_COMMITS)]
    last = run or last_run.last_run(repo, commits)
    if last is None:
        return None
    revision = f"{newest}@{commits[0].step}" if commits else None
    behind = not commits or commits[0].time < last.time
    if last.launch is not None and behind and not committed:
        how = last.launch  # it has not committed: nothing but itself leads there again
    else:
        how = f"resume {shlex.quote(revision)}" if revision is not None else "run"
    words = shlex.join(["gradient", *_options(repo, last.cwd)])
    where = "" if _same_folder(last.cwd) else f"cd {shlex.quote(last.cwd)} && "
    return ResumeCommand(last, newest, revision, f"{where}{words} {how} -- {last.command}")


def hint(
    path: str,
    run: LastRun,
    *,
    branch: str | None = None,
    committed: bool = False,
    reason: str | None = None,
) -> str | None:
    """Return ``to go on: COMMAND`` for a run that has just ended early; None if nothing is known.

    With `reason`, the reason that the run gave for its moves, the reflogs name the branch.
    """
    try:
        repo = Repository.open(path)
        if reason is not None:
            branch = last_run.branch_moved_by(repo, reason)
            committed = branch is not None
        found = find(repo, branch=branch, run=run, committed=committed)
    except (GradientError, OSError):
        return None  # the end of the run is what matters; `gradient status` reports the error
    return None if found is None else f"to go on: {found.resume}"


def on_branch(repo: Repository, branch: str, last: ResumeCommand | None) -> str | None:
    """Return what goes on on a branch, where the last run stood on another; else None."""
    if last is None or last.branch == branch or repo.tip(branch) is None:
        return None
    own = find(repo, branch=branch, committed=True)
    found = own or find(repo, branch=branch, run=last.run, committed=True)
    return None if found is None else found.resume


def _options(repo: Repository, start: str) -> list[str]:
    """Return the options without which a command in `start` would not find this repo."""
    try:
        if discovery.locate(start).repo == repo.path:
            return []
    except GradientError:
        pass
    workspace = repo.config.workspace_path or str(PurePath(repo.path).parent)
    return ["-w", workspace, "-r", PurePath(repo.path).name]


def _same_folder(folder: str) -> bool:
    try:
        return Path(folder).samefile(".")
    except OSError:
        return False
