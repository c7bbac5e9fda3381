"""`gradient bisect`: find the first bad commit of a branch by binary search."""

from __future__ import annotations

import os
import tempfile
import uuid
from dataclasses import asdict
from pathlib import Path

import click

from gradient.cli import launch, output
from gradient.cli.completion_words import complete_revision
from gradient.cli.diff import command as diff
from gradient.cli.launch import LaunchCommand
from gradient.cli.output import json_option
from gradient.cli.repo_options import (
    active_branch,
    find_location,
    find_repository,
    location_options,
)
from gradient.engine.launch_env import LaunchEnv
from gradient.errors import GradientError
from gradient.objects.oid import Oid
from gradient.repo import bisect
from gradient.repo.bisect import Bisection, BisectResult, Verdict
from gradient.repo.discovery import Location
from gradient.repo.repository import Repository

FILE = "GRADIENT_BISECT_FILE"
"""The variable with the path of the commit as a ``.pt`` file."""

SKIP = 125
ABORT = 128

_MOST_TENSORS = 5


@click.group("bisect")
@location_options
def command() -> None:
    """Find the first bad commit of a branch by binary search.

    Every commit before the first bad one is good, and every later one is bad. Name one bad commit
    and an earlier good one. You or a command then judge the commit in the middle of the remaining
    ones, until one is left.

    \b
    Examples:
      gradient bisect start main@20000 main@100
      gradient bisect run -- python check.py
      gradient bisect reset
    """


@command.command("start")
@location_options
@click.argument("bad", shell_complete=complete_revision)
@click.argument("good", shell_complete=complete_revision)
@click.pass_context
def start(ctx: click.Context, bad: str, good: str) -> None:
    """Start a search between a BAD commit and an earlier GOOD one.

    The verdicts of an earlier search are discarded.

    \b
    Example:
      gradient bisect start main@20000 main@100
      gradient bisect run -- python check.py
    """
    repo = find_repository(ctx)
    oids = [repo.resolve(each, branch=active_branch(repo)).oid for each in (bad, good)]
    _print_next(ctx, repo, Bisection.start(repo, *oids))


@command.command("run", cls=LaunchCommand)
@location_options
@click.option(
    "--no-file", is_flag=True, help=f"Do not write the .pt file ({FILE} is then not set)."
)
@click.pass_context
def run(ctx: click.Context, no_file: bool) -> None:
    """Judge commits by running CMD, until the first bad one is found.

    CMD must exit with 0 if the commit is good, with 125 if it cannot be judged, and with any other
    code below 128 if it is bad. A code of 128 or above, as after a signal, stops the search; run
    the same command to continue it. A signal to this command is passed on to CMD and stops the
    search as well; the exit code of CMD is then not a verdict.

    $GRADIENT_BISECT_FILE is the path of the commit as a .pt file. $GRADIENT_RESUME_REF is its id,
    for GradientEngine.attach. Commits that CMD makes go to a branch of their own, bisect/ID.

    Exits with 0 if the first bad commit was found, with 1 if skipped commits leave several
    candidates.

    \b
    Example:
      gradient bisect run -- python check.py
      gradient bisect run -- sh -c 'python eval.py "$GRADIENT_BISECT_FILE" | grep -q ok'
    """
    missing = "name the command that judges: gradient bisect run -- CMD"
    argv = launch.required_command(ctx, missing)
    repo = find_repository(ctx)
    location = find_location(ctx)
    bisection = Bisection.load(repo)

    def judge(oid: Oid) -> Verdict:
        code = _judge(repo, location, oid, argv, with_file=not no_file)
        if code >= ABORT:
            output.error(
                f"the command exited with {code} at {_name(repo, oid)}: no verdict. To continue: "
                f"gradient bisect run -- CMD"
            )
            ctx.exit(code)
        verdict: Verdict = "good" if code == 0 else "skip" if code == SKIP else "bad"
        output.note(f"{_name(repo, oid)}: {verdict}")
        return verdict

    result = bisect.search(bisection, judge)
    _print_result(ctx, repo, result)
    ctx.exit(0 if len(result.candidates) == 1 else 1)


def _verdict_command(verdict: Verdict, text: str) -> click.Command:
    @command.command(verdict, help=f"{text}\n\n\b\nExample:\n  gradient bisect {verdict} main@100")
    @location_options
    @click.argument("rev", required=False, shell_complete=complete_revision)
    @click.pass_context
    def judge(ctx: click.Context, rev: str | None) -> None:
        repo = find_repository(ctx)
        bisection = Bisection.load(repo)
        oid = bisection.next() if rev is None else repo.resolve(rev, branch=active_branch(repo)).oid
        if oid is not None:
            bisection.judge(verdict, oid)
        _print_next(ctx, repo, bisection)

    return judge


good = _verdict_command("good", "Mark REV as good; without REV, the commit to judge next.")
bad = _verdict_command("bad", "Mark REV as bad; without REV, the commit to judge next.")
skip = _verdict_command("skip", "Skip REV as not testable; without REV, the commit to judge next.")


@command.command("log")
@location_options
@json_option(
    {
        "good": "the id of the newest commit known to be good",
        "bad": "the id of the oldest commit known to be bad",
        "log": "all verdicts, the oldest first: `verdict`, `commit`, `revision`, `time`",
    }
)
@click.pass_context
def log(ctx: click.Context, as_json: bool) -> None:
    """Show the verdicts so far.

    \b
    Example:
      gradient bisect log
    """
    state = bisect.load_state(find_repository(ctx))
    if as_json:
        output.document({**asdict(state), "log": [asdict(each) for each in state.log]})
        return
    rows = [
        (each.verdict, each.revision, each.commit[:10], output.utc(each.time)) for each in state.log
    ]
    output.table(rows, indent=0)


@command.command("reset")
@location_options
@click.pass_context
def reset(ctx: click.Context) -> None:
    """End the search and discard its verdicts.

    \b
    Example:
      gradient bisect reset
    """
    known = bisect.reset(find_repository(ctx))
    output.line("search ended" if known else "no search in progress")


def _judge(
    repo: Repository, location: Location, oid: Oid, argv: list[str], *, with_file: bool
) -> int:
    launch_env = LaunchEnv(
        workspace=location.workspace,
        repo=location.repo_name,
        # A branch of its own, so that the command's commits set no other branch aside.
        branch=f"bisect/{oid.short}",
        resume=str(oid),
        id=uuid.uuid4().hex,
    )
    environ = launch.environment(os.environ, launch_env)
    environ.pop(FILE, None)
    received: list[int] = []
    with launch.exit_on_signal(), tempfile.TemporaryDirectory(prefix="gradient-bisect-") as folder:
        if with_file:
            # Imported here because it needs torch, and the search does not.
            from gradient.view.export import export

            path = str(Path(folder, f"{oid.short}.pt"))
            export(repo, oid, path)
            environ[FILE] = path
        code = launch.run(argv, environ, received)
    return ABORT + received[0] if received else code


def _print_next(ctx: click.Context, repo: Repository, bisection: Bisection) -> None:
    result = bisection.found()
    if result is not None:
        _print_result(ctx, repo, result)
        return
    oid = bisection.next()
    assert oid is not None
    output.line(f"next: {output.bold(_name(repo, oid))}")
    output.note(
        f"{output.plural(bisection.open, 'commit')} left, about {bisection.rounds} to judge: "
        f"gradient bisect good, bad or skip; or: gradient bisect run -- CMD"
    )


def _print_result(ctx: click.Context, repo: Repository, result: BisectResult) -> None:
    if len(result.candidates) > 1:
        output.line("commits were skipped; each of these may be the first bad one:")
        output.table([(_name(repo, oid),) for oid in result.candidates])
    else:
        output.line(f"{output.bold(_name(repo, result.first_bad))} is the first bad commit")
    message = repo.read_commit(result.first_bad).message
    if message:
        output.line(f"  {message.splitlines()[0]}")
    before, after = result.before.short, result.first_bad.short
    output.line(f"to see its changes: gradient diff {before} {after}")
    if len(result.candidates) == 1:
        output.line()
        try:
            ctx.invoke(diff, a=before, b=after, limit=_MOST_TENSORS)
        except GradientError as error:
            output.note(f"cannot compare the two commits: {error}")


def _name(repo: Repository, oid: Oid) -> str:
    return f"{repo.read_commit(oid).revision} ({oid.short})"
