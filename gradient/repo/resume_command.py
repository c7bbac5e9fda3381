"""The exact command that continues the last run of a repo, from any folder."""

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
    """The last run, and the command that continues it."""

    run: LastRun
    """Its command line."""
    branch: str | None
    """The branch with the newest commit; None without commits."""
    revision: str | None
    """The newest commit; None without commits."""
    resume: str
    """The command for the current folder."""


def find(
    repo: Repository,
    *,
    branch: str | None = None,
    run: LastRun | None = None,
    committed: bool = False,
) -> ResumeCommand | None:
    """Return the command that continues the last run; None if no run is known.

    Several runs may train in one repo at a time. A caller that knows its run passes it, with its
    `branch` and whether it has `committed`.
    """
    tips = repo.tips()
    newest = branch if branch in tips else None
    if branch is None:
        newest = max(tips, key=lambda name: repo.read_commit(tips[name]).time, default=None)
    history = repo.walk(None if newest is None else tips[newest], on_damage="skip")
    commits = [commit for _, commit in islice(history, last_run.MOST_COMMITS)]
    last = run or last_run.last_run(repo, commits)
    if last is None:
        return None
    revision = f"{newest}@{commits[0].step}" if commits else None
    behind = not commits or commits[0].time < last.time
    if last.launch is not None and behind and not committed:
        how = last.launch  # without a commit, only the same launch gives this state
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
    """Return the command for a branch; None if the last run was on it, or it has no commits."""
    if last is None or last.branch == branch or repo.tip(branch) is None:
        return None
    own = find(repo, branch=branch, committed=True)
    command = own or find(repo, branch=branch, run=last.run, committed=True)
    return None if command is None else command.resume


def _options(repo: Repository, start: str) -> list[str]:
    """Return the options that a command in `start` needs to find this repo."""
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
