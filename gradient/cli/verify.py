"""`gradient verify`: run a stretch of training again, and compare every bit of where it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from gradient.cli import launch, output
from gradient.cli.completion_words import complete_revision
from gradient.cli.launch import LaunchCommand
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, place_options
from gradient.engine.launch_env import Handoff
from gradient.errors import ConfigError, NotFoundError
from gradient.objects.commit import CommitRecord
from gradient.objects.name_list import more
from gradient.objects.oid import Oid
from gradient.repo.bisect import line_between
from gradient.repo.repository import Repository
from gradient.repo.scratch_repo import make_scratch
from gradient.storage import fs

if TYPE_CHECKING:
    from gradient.checkpoint.diff import TensorChange
    from gradient.engine.verify import VerifyResult

POLL_SECONDS = 0.1
GRACE_SECONDS = 15.0
"""How long the command may take to end after SIGTERM, before SIGKILL."""

_MOST_SHOWN = 10


@click.command("verify", cls=LaunchCommand)
@place_options
@click.argument("revs", metavar="A..B", shell_complete=complete_revision)
@click.option("--keep", is_flag=True, help="Keep the scratch repo, and print its path.")
@click.option(
    "--scratch",
    type=click.Path(file_okay=False, exists=True),
    metavar="FOLDER",
    help="Create the scratch repo in FOLDER; it needs the space of a few commits.",
)
@json_option(
    {
        "identical": "whether the two states are bit-identical",
        "from": "the revision that the second run resumed",
        "to": "the recorded revision that it was compared with",
        "step": "the step of that revision",
        "recorded_tree": "the content id of the recorded state",
        "tree": "the content id of the second run's state",
        "first_differing_step": "the first step whose commits differ between the two runs, or null",
        "components": "the components that differ, the model first: `name`, `tensors` (`name`, "
        "`status`, `relative`, `max_abs`, `fraction`), `others` (entries that are not tensors)",
        "causes": "the likely causes, the likeliest first",
    }
)
@click.pass_context
def command(ctx: click.Context, revs: str, keep: bool, scratch: str | None, as_json: bool) -> None:
    """Prove that training from A reproduces B, bit for bit.

    CMD is the training command. It runs in the current folder and resumes A in a scratch repo. It
    is stopped once it has committed the step of B, and that commit is compared with B by content
    id. B must be a later commit of A's branch. Files that CMD writes elsewhere are written again.

    Exits with 0 if the two states are bit-identical, with 1 if they differ.

    \b
    Example:
      gradient verify main@100..main@200 -- python train.py
    """
    missing = "name the training command: gradient verify A..B -- CMD"
    words = launch.required_command(ctx, missing)
    repo = find_repository(ctx)
    start, end = _resolve(repo, revs)
    # The command is in a session of its own: nobody else ends it with us.
    with launch.unwinding():
        found = _verify(repo, start, end, words, scratch=scratch, keep=keep, as_json=as_json)
    ctx.exit(0 if found.identical else 1)


def _verify(
    repo: Repository,
    start: Oid,
    end: Oid,
    words: Sequence[str],
    *,
    scratch: str | None,
    keep: bool,
    as_json: bool,
) -> VerifyResult:
    folder = tempfile.mkdtemp(prefix="gradient-verify-", dir=scratch)
    try:
        again, began, ended = _repeat(repo, start, end, folder, words)
        # Here alone: it imports torch, which all before can do without.
        from gradient.engine.verify import Stretch, outcome

        found = outcome(Stretch(repo, start, end), Stretch(again, began, ended))
        facts = _facts(repo, start, end, again.read_commit(ended), found)
        if as_json:
            output.document(facts)
        else:
            _print(facts, found)
        return found
    finally:
        if keep:
            output.note(f"the scratch repo is in {folder}")
        else:
            fs.discard_folder(folder)


def _resolve(repo: Repository, revs: str) -> tuple[Oid, Oid]:
    first, sign, last = revs.partition("..")
    if not sign or not first or not last:
        raise ConfigError(f"{revs!r} is not a range: write A..B, such as main@100..main@200")
    start, end = (repo.resolve(rev, branch=active_branch(repo)) for rev in (first, last))
    line_between(repo, start.oid, end.oid)
    if end.commit.step <= start.commit.step:
        raise ConfigError(f"{revs}: the step of B must be above that of A")
    return start.oid, end.oid


def _repeat(
    repo: Repository, start: Oid, end: Oid, folder: str, words: Sequence[str]
) -> tuple[Repository, Oid, Oid]:
    """Run the command from a copy of `start`; return where it is, the copy, and where it ended."""
    wanted = repo.read_commit(end)
    with output.progress("bytes copied") as advance:
        scratch, began = make_scratch(repo, start, wanted.branch, folder, progress=advance)
    told = Handoff(
        workspace=folder,
        repo=PurePath(repo.path).name,
        branch=wanted.branch,
        resume=str(began),
        id=uuid.uuid4().hex,
    )
    # A step that was committed several times must be committed as often.
    line = line_between(repo, start, end)
    count = sum(repo.read_commit(oid).step == wanted.step for oid in line)

    def reached() -> Oid | None:
        return _committed(scratch, began, wanted.step, count)

    code = _run_until(words, launch.environment(os.environ, told), lambda: reached() is not None)
    ended = reached()
    if ended is None:
        raise NotFoundError(
            f"the command exited with {code} before it committed step {wanted.step}: it must "
            f"resume the commit in GRADIENT_RESUME_REF, and commit the same steps as the recorded "
            f"run (GRADIENT_AUTOCOMMIT)"
        )
    return scratch, began, ended


def _committed(scratch: Repository, began: Oid, step: int, count: int) -> Oid | None:
    """Return the `count`-th commit of a step on any line, without the one that it began with."""
    for tip in scratch.tips().values():
        found: list[Oid] = []
        for oid, commit in scratch.walk(tip):
            if oid == began or commit.step < step:
                break
            if commit.step == step:
                found.append(oid)
        if len(found) >= count:
            return found[-count]
    return None


def _run_until(
    words: Sequence[str], environ: Mapping[str, str], done: Callable[[], bool]
) -> int | None:
    """Run a command until it ends or `done` says so; return its exit code in the first case.

    Its output goes to stderr. All of its process group is stopped with it.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    process = subprocess.Popen(
        list(words), env=dict(environ), stdout=sys.stderr.fileno(), start_new_session=True
    )
    try:
        while process.poll() is None:
            if done():
                return None
            time.sleep(POLL_SECONDS)
        return process.returncode
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break  # all of the group has ended
        try:
            process.wait(seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # Ctrl-C out of impatience
            continue
    process.wait()


def _facts(
    repo: Repository, start: Oid, end: Oid, again: CommitRecord, found: VerifyResult
) -> dict[str, Any]:
    recorded = repo.read_commit(end)
    return {
        "identical": found.identical,
        "from": repo.read_commit(start).revision,
        "to": recorded.revision,
        "step": recorded.step,
        "recorded_tree": str(recorded.tree),
        "tree": str(again.tree),
        "first_differing_step": found.first_step,
        "components": [
            {
                "name": change.name,
                "tensors": [_figures(each) for each in change.tensors],
                "others": list(change.others),
            }
            for change in found.components
        ],
        "causes": list(found.causes),
    }


def _figures(change: TensorChange) -> dict[str, Any]:
    figures = {
        "relative": change.relative,
        "max_abs": change.max_abs,
        "fraction": change.fraction,
    }
    known = {name: value for name, value in figures.items() if value is not None}
    plain: dict[str, Any] = output.plain_numbers(known)
    return {"name": change.name, "status": change.status, **dict.fromkeys(figures), **plain}


def _print(facts: Mapping[str, Any], found: VerifyResult) -> None:
    if found.identical:
        output.line(
            f"{output.strong('bit-identical')}: from {facts['from']}, the command reproduced "
            f"{facts['to']}"
        )
        output.line(f"  tree {facts['tree']}")
        return
    output.line(f"{output.strong('differs')} from {facts['to']}, starting from {facts['from']}")
    if facts["first_differing_step"] is not None:
        output.line(f"  the first commit that differs: step {facts['first_differing_step']}")
    for change in found.components:
        output.line(f"\n{output.strong(change.name)}")
        rows = [_row(each) for each in change.tensors[:_MOST_SHOWN]]
        rows += [(name, "differs", "", "") for name in change.others[: _MOST_SHOWN - len(rows)]]
        output.table(rows)
        hidden = len(change.tensors) + len(change.others) - len(rows)
        if hidden:
            output.line(f"  {more(hidden)}")
    output.line("\nlikely cause")
    for cause in found.causes:
        output.line(f"  {cause}")


def _row(change: TensorChange) -> tuple[str, str, str, str]:
    if change.relative is None:
        return change.name, change.status, "", ""
    changed = f"{change.fraction:.1%} of {change.elements:,}"
    return change.name, f"L2 {change.relative:.2e}", f"max {change.max_abs or 0:.2e}", changed
