"""`gradient verify`: repeat a part of a training run, and compare the result bit by bit."""

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
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.engine.launch_env import LaunchEnv
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
"""The time between SIGTERM and SIGKILL when the command is stopped."""

_MOST_SHOWN = 10


@click.command("verify", cls=LaunchCommand)
@location_options
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
    id. A must be in the first-parent history of B. Files that CMD writes elsewhere are written
    again.

    Exits with 0 if the two states are bit-identical, with 1 if they differ.

    \b
    Example:
      gradient verify main@100..main@200 -- python train.py
    """
    missing = "name the training command: gradient verify A..B -- CMD"
    argv = launch.required_command(ctx, missing)
    repo = find_repository(ctx)
    start, end = _resolve(repo, revs)
    # The command has a session of its own, so the terminal does not end it with this process.
    with launch.exit_on_signal():
        result = _verify(repo, start, end, argv, scratch=scratch, keep=keep, as_json=as_json)
    ctx.exit(0 if result.identical else 1)


def _verify(
    repo: Repository,
    start: Oid,
    end: Oid,
    argv: Sequence[str],
    *,
    scratch: str | None,
    keep: bool,
    as_json: bool,
) -> VerifyResult:
    folder = tempfile.mkdtemp(prefix="gradient-verify-", dir=scratch)
    try:
        again, base, reached_oid = _run_again(repo, start, end, folder, argv)
        # Imported here because it needs torch, and the code above does not.
        from gradient.engine.verify import Stretch, outcome

        result = outcome(Stretch(repo, start, end), Stretch(again, base, reached_oid))
        report = _report(repo, start, end, again.read_commit(reached_oid), result)
        if as_json:
            output.document(report)
        else:
            _print(report, result)
        return result
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


def _run_again(
    repo: Repository, start: Oid, end: Oid, folder: str, argv: Sequence[str]
) -> tuple[Repository, Oid, Oid]:
    """Run the command in a scratch repo from a copy of `start`.

    Return the scratch repo, the copy, and the commit that the command reached.
    """
    target = repo.read_commit(end)
    with output.progress("bytes copied") as advance:
        scratch, base = make_scratch(repo, start, target.branch, folder, progress=advance)
    launch_env = LaunchEnv(
        workspace=folder,
        repo=PurePath(repo.path).name,
        branch=target.branch,
        resume=str(base),
        id=uuid.uuid4().hex,
    )
    # If the recorded run committed the step several times, the command must do the same.
    line = line_between(repo, start, end)
    count = sum(repo.read_commit(oid).step == target.step for oid in line)

    def reached() -> Oid | None:
        return _committed(scratch, base, target.step, count)

    code = _run_until(
        argv, launch.environment(os.environ, launch_env), lambda: reached() is not None
    )
    reached_oid = reached()
    if reached_oid is None:
        raise NotFoundError(
            f"the command exited with {code} before it committed step {target.step}: it must "
            f"resume the commit in GRADIENT_RESUME_REF, and commit the same steps as the recorded "
            f"run (GRADIENT_AUTOCOMMIT)"
        )
    return scratch, base, reached_oid


def _committed(scratch: Repository, base: Oid, step: int, count: int) -> Oid | None:
    """Return the `count`-th commit of a step on any branch, not counting `base`."""
    for tip in scratch.tips().values():
        matching: list[Oid] = []
        for oid, commit in scratch.walk(tip):
            if oid == base or commit.step < step:
                break
            if commit.step == step:
                matching.append(oid)
        if len(matching) >= count:
            return matching[-count]
    return None


def _run_until(
    argv: Sequence[str], environ: Mapping[str, str], done: Callable[[], bool]
) -> int | None:
    """Run a command until it ends or `done` returns True; return its exit code in the first case.

    Its output goes to stderr. Its whole process group is stopped.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    process = subprocess.Popen(
        list(argv), env=dict(environ), stdout=sys.stderr.fileno(), start_new_session=True
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
            break  # the whole group has ended
        try:
            process.wait(seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # the user pressed Ctrl-C again
            continue
    process.wait()


def _report(
    repo: Repository, start: Oid, end: Oid, again: CommitRecord, result: VerifyResult
) -> dict[str, Any]:
    recorded = repo.read_commit(end)
    return {
        "identical": result.identical,
        "from": repo.read_commit(start).revision,
        "to": recorded.revision,
        "step": recorded.step,
        "recorded_tree": str(recorded.tree),
        "tree": str(again.tree),
        "first_differing_step": result.first_step,
        "components": [
            {
                "name": change.name,
                "tensors": [_figures(each) for each in change.tensors],
                "others": list(change.others),
            }
            for change in result.components
        ],
        "causes": list(result.causes),
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


def _print(report: Mapping[str, Any], result: VerifyResult) -> None:
    if result.identical:
        output.line(
            f"{output.bold('bit-identical')}: from {report['from']}, the command reproduced "
            f"{report['to']}"
        )
        output.line(f"  tree {report['tree']}")
        return
    output.line(f"{output.bold('differs')} from {report['to']}, starting from {report['from']}")
    if report["first_differing_step"] is not None:
        output.line(f"  the first commit that differs: step {report['first_differing_step']}")
    for change in result.components:
        output.line(f"\n{output.bold(change.name)}")
        rows = [_row(each) for each in change.tensors[:_MOST_SHOWN]]
        rows += [(name, "differs", "", "") for name in change.others[: _MOST_SHOWN - len(rows)]]
        output.table(rows)
        hidden = len(change.tensors) + len(change.others) - len(rows)
        if hidden:
            output.line(f"  {more(hidden)}")
    output.line("\nlikely cause")
    for cause in result.causes:
        output.line(f"  {cause}")


def _row(change: TensorChange) -> tuple[str, str, str, str]:
    if change.relative is None:
        return change.name, change.status, "", ""
    changed = f"{change.fraction:.1%} of {change.elements:,}"
    return change.name, f"L2 {change.relative:.2e}", f"max {change.max_abs or 0:.2e}", changed
