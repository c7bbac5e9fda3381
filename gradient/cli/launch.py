"""The launcher: it runs the user's training command as if the shell had started it.

Rules: the child runs in the caller's folder and process group, with the caller's signal mask. Every
signal in `FORWARDED` is passed on, except those that the terminal has already delivered to the
whole group. The child's exit code becomes the exit code of this process.

Plan: block the signals *before* the child exists, so that none is lost in between. Then wait for a
signal; the end of the child is a signal as well.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from gradient.cli import output
from gradient.cli.repo_options import find_location, open_repository
from gradient.engine.launch_env import OWNED, LaunchEnv
from gradient.errors import ConfigError, ContextError, GradientError, GradientIOError
from gradient.objects import timestamp
from gradient.repo import last_run, resume_command
from gradient.repo import workspace as workspaces
from gradient.repo.discovery import Location
from gradient.repo.last_run import LastRun

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals for the child. The terminal itself stops and continues the whole group (Ctrl-Z)."""

_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_RESET = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores; the child gets the default handling back."""

_PAUSE = 0.05
"""Seconds between two checks for signals and the child's end."""

CANNOT_EXECUTE = 126
NOT_FOUND = 127


class LaunchCommand(click.Command):
    """A command that ends with ``-- CMD…``; the options after ``--`` belong to CMD."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remove everything after ``--`` before click parses the arguments."""
        if "--" in args:
            mark = args.index("--")
            ctx.meta[_COMMAND_KEY] = args[mark + 1 :]
            if not args[mark + 1 :]:
                raise click.UsageError("no command follows the --; write: -- CMD…", ctx)
            args = args[:mark]
            ctx.meta[_LAUNCH_KEY] = shlex.join([str(ctx.info_name), *args])
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "extra argument" not in error.message:
                raise
            hint = f"{error.message}; write the command to run after --"
            raise click.UsageError(hint, ctx) from None

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show the command in the usage line."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD...]"]


_COMMAND_KEY = "gradient.cli.launch.command"
_LAUNCH_KEY = "gradient.cli.launch.launch"


def launched_command(ctx: click.Context) -> list[str]:
    """Return the command after ``--``; empty if there is none."""
    return list(ctx.meta.get(_COMMAND_KEY, ()))


def required_command(ctx: click.Context, missing: str) -> list[str]:
    """Return the command after ``--``; raises UsageError(`missing`) without one.

    Raises ConfigError if no such program exists.
    """
    argv = launched_command(ctx)
    if not argv:
        raise click.UsageError(missing, ctx)
    if shutil.which(argv[0]) is None:
        raise ConfigError(f"cannot run {argv[0]}: not found, or not executable")
    return argv


def environment(base: Mapping[str, str], launch_env: LaunchEnv) -> dict[str, str]:
    """Return the child's environment: `base` with the variables of this launch."""
    kept = {name: value for name, value in base.items() if name not in OWNED}
    return kept | launch_env.to_environ()


def start(
    ctx: click.Context, location: Location | None, launch_env: LaunchEnv, command: Sequence[str]
) -> NoReturn:
    """Record the command in its repo, run it, and exit with its exit code; never return.

    If a signal ended the command, print how to go on: the command itself had no time to.
    """
    started = LastRun(
        shlex.join(command), str(Path.cwd()), timestamp.now(), ctx.meta.get(_LAUNCH_KEY)
    )
    if location is not None and workspaces.is_repo(location.repo):
        _record(location.repo, started)
    code = run(command, environment(os.environ, launch_env))
    # After an exception or Ctrl-C, the engine has printed the hint.
    if code - 128 in list(signal.Signals) and code - 128 != signal.SIGINT:
        _print_hint(ctx, launch_env, started, signal.Signals(code - 128))
    ctx.exit(code)


def _record(repo: str, started: LastRun) -> None:
    try:
        open_repository(repo).check_writable()
        last_run.record(repo, started)
    except GradientIOError as error:
        output.note(f"cannot record the command for `gradient status`: {error}")
    except GradientError:
        return  # a repo of another program or of a newer Gradient: leave it unchanged


def _print_hint(
    ctx: click.Context, launch_env: LaunchEnv, started: LastRun, number: signal.Signals
) -> None:
    try:
        path = find_location(ctx).repo  # the command may have made it
    except ContextError:
        return
    hint = resume_command.hint(path, started, reason=launch_env.reason)
    if hint is not None:
        output.note(f"ended by {number.name}; {hint}")


@contextmanager
def exit_on_signal() -> Iterator[None]:
    """Raise SystemExit for a signal that would end this process, so that `finally` blocks run.

    This holds for the first such signal; later ones are ignored. Ignored signals stay ignored, and
    SIGINT raises an exception in any case.
    """
    defaults = [each for each in FORWARDED if signal.getsignal(each) == signal.SIG_DFL]

    def unwind(number: int, _: FrameType | None) -> None:
        for each in defaults:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in defaults:
        signal.signal(each, unwind)
    try:
        yield
    finally:
        for each in defaults:
            signal.signal(each, signal.SIG_DFL)


def run(
    command: Sequence[str], environ: Mapping[str, str], received: list[int] | None = None
) -> int:
    """Run a command to its end, and pass signals on; return the exit code for the shell.

    Signals that arrived and are not ignored here are added to `received`.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None if it is closed
            stream.flush()
    received = [] if received is None else received
    watched = {*FORWARDED, signal.SIGCHLD}
    # With the default handling, some systems discard SIGCHLD, and `sigwait` would not see it.
    before_child = signal.signal(signal.SIGCHLD, lambda *_: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        pid = os.posix_spawnp(
            command[0], list(command), dict(environ), setsigmask=before, setsigdef=_RESET
        )
        return _wait(pid, watched, received)
    except FileNotFoundError:
        output.error(f"cannot run {command[0]}: not found")
        return NOT_FOUND
    except OSError as error:
        output.error(f"cannot run {command[0]}: {error.strerror}")
        return CANNOT_EXECUTE
    except ValueError:  # the name is empty, or has a zero byte
        output.error(f"cannot run {command[0]!r}: not a command")
        return NOT_FOUND
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGCHLD, before_child)


def _wait(pid: int, watched: set[Any], received: list[int]) -> int:
    while True:
        # Check before each wait: one SIGCHLD may stand for the end of two children.
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        number, delivered = _next_signal(watched)
        if number == signal.SIGCHLD:
            continue
        if signal.getsignal(number) != signal.SIG_IGN:
            received.append(number)
        if not delivered:
            os.kill(pid, number)


def _next_signal(watched: set[Any]) -> tuple[int, bool]:
    """Wait for a signal; also return whether the terminal has sent it to the child as well."""
    if hasattr(signal, "sigtimedwait"):
        # IMPORTANT: with a timeout of 0, so that it never waits. If the process is stopped during
        # a wait (Ctrl-Z and fg), CPython returns uninitialized memory: a signal that was not sent.
        info = signal.sigtimedwait(watched, 0)
        if info is None:
            # Poll, because another thread (numpy starts some) may have received SIGCHLD.
            time.sleep(_PAUSE)
            return signal.SIGCHLD, False
        # A positive code means the kernel: for these signals, the terminal.
        return info.si_signo, info.si_code > 0
    number = signal.sigwait(watched)
    return number, number in _FROM_TERMINAL and sys.stdin.isatty()
