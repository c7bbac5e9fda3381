"""Running the user's training command as if the shell had started it.

Rules: the child runs in the caller's folder and process group, with the caller's signal mask; every
signal that asks this process to do something is passed on, except those that the terminal has
already delivered to the whole group; the child's exit code becomes ours.

Plan: block the signals *before* the child exists (so that none is lost in between), then wait for
one of them, or for the child's end, which is a signal as well.
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
from gradient.cli.repo_options import find_place, open_repository
from gradient.engine import launch_env
from gradient.engine.launch_env import Handoff
from gradient.errors import ConfigError, ContextError, GradientError, GradientIOError
from gradient.objects import timestamp
from gradient.repo import last_run, resume_command
from gradient.repo import workspace as workspaces
from gradient.repo.discovery import Location
from gradient.repo.last_run import LastRun

PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Stopping and continuing (Ctrl-Z) is left to the terminal, which addresses the whole group."""

_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_RESET = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these; a program expects them as the system sets them."""

_PAUSE = 0.05
"""Seconds between two looks for signals and the child's end."""

CANNOT_EXECUTE = 126
NOT_FOUND = 127


class LaunchCommand(click.Command):
    """A command that ends with ``-- CMD…``; what follows the mark is nobody's options but CMD's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take everything after ``--`` out of the way of click's parser."""
        if "--" in args:
            mark = args.index("--")
            ctx.meta[_KEY] = args[mark + 1 :]
            if not args[mark + 1 :]:
                raise click.UsageError("no command follows the --; write: -- CMD…", ctx)
            args = args[:mark]
            ctx.meta[_LAUNCH] = shlex.join([str(ctx.info_name), *args])
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


_KEY = "gradient.cli.launch.command"
_LAUNCH = "gradient.cli.launch.launch"


def launched_command(ctx: click.Context) -> list[str]:
    """Return what follows the ``--``; empty where there is none."""
    return list(ctx.meta.get(_KEY, ()))


def required_command(ctx: click.Context, missing: str) -> list[str]:
    """Return the command after ``--``; raises UsageError(`missing`) without one.

    Raises ConfigError if no such program exists.
    """
    words = launched_command(ctx)
    if not words:
        raise click.UsageError(missing, ctx)
    if shutil.which(words[0]) is None:
        raise ConfigError(f"cannot run {words[0]}: not found, or not executable")
    return words


def environment(base: Mapping[str, str], told: Handoff) -> dict[str, str]:
    """Return a child's environment: the base with the handoff in place of an older one."""
    kept = {name: value for name, value in base.items() if name not in launch_env.OWNED}
    return kept | told.to_environ()


def start(
    ctx: click.Context, place: Location | None, told: Handoff, command: Sequence[str]
) -> NoReturn:
    """Note the command in its repo, run it, and exit with its code; never returns.

    Where a signal ended it, the way to go on is said: the process itself had no time to.
    """
    this = LastRun(shlex.join(command), str(Path.cwd()), timestamp.now(), ctx.meta.get(_LAUNCH))
    if place is not None and workspaces.is_repo(place.repo):
        _note(place.repo, this)
    code = run(command, environment(os.environ, told))
    # After an exception, Ctrl-C among them, the engine has said it.
    if code - 128 in list(signal.Signals) and code - 128 != signal.SIGINT:
        _print_hint(ctx, told, this, signal.Signals(code - 128))
    ctx.exit(code)


def _note(repo: str, this: LastRun) -> None:
    try:
        open_repository(repo).check_writable()
        last_run.record(repo, this)
    except GradientIOError as error:
        output.note(f"cannot record the command for `gradient status`: {error}")
    except GradientError:
        return  # another program's repo, or one of a newer Gradient: nothing in it is touched


def _print_hint(ctx: click.Context, told: Handoff, this: LastRun, number: signal.Signals) -> None:
    try:
        path = find_place(ctx).repo  # the command may have made it
    except ContextError:
        return
    hint = resume_command.hint(path, this, reason=told.reason)
    if hint is not None:
        output.note(f"ended by {number.name}; {hint}")


@contextmanager
def unwinding() -> Iterator[None]:
    """Let a signal that would end this process raise SystemExit, so that what was begun is ended.

    The first one; further ones wait for that in vain. What is ignored stays ignored, and SIGINT
    raises already.
    """
    taken = [each for each in PASSED_ON if signal.getsignal(each) == signal.SIG_DFL]

    def unwind(number: int, _: FrameType | None) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for each in taken:
        signal.signal(each, unwind)
    try:
        yield
    finally:
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def run(command: Sequence[str], environ: Mapping[str, str], heard: list[int] | None = None) -> int:
    """Run a command to its end, passing signals on; return the exit code for the shell.

    The signals that came, and are not ignored here, are added to `heard`.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it is closed
            stream.flush()
    heard = [] if heard is None else heard
    watched = {*PASSED_ON, signal.SIGCHLD}
    # Where SIGCHLD is ignored by default, it would not even be kept for `sigwait`.
    before_child = signal.signal(signal.SIGCHLD, lambda *_: None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        pid = os.posix_spawnp(
            command[0], list(command), dict(environ), setsigmask=before, setsigdef=_RESET
        )
        return _wait(pid, watched, heard)
    except FileNotFoundError:
        output.error(f"cannot run {command[0]}: not found")
        return NOT_FOUND
    except OSError as error:
        output.error(f"cannot run {command[0]}: {error.strerror}")
        return CANNOT_EXECUTE
    except ValueError:  # it is empty, or has a zero byte
        output.error(f"cannot run {command[0]!r}: not a command")
        return NOT_FOUND
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGCHLD, before_child)


def _wait(pid: int, watched: set[Any], heard: list[int]) -> int:
    while True:
        # Before each wait: the child's end may have been reported together with another's.
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        number, delivered = _next_signal(watched)
        if number == signal.SIGCHLD:
            continue
        if signal.getsignal(number) != signal.SIG_IGN:
            heard.append(number)
        if not delivered:
            os.kill(pid, number)


def _next_signal(watched: set[Any]) -> tuple[int, bool]:
    """Wait for a signal; also tell whether the child, in the same group, has got it as well."""
    if hasattr(signal, "sigtimedwait"):
        # IMPORTANT: only for what has come already. Where it waits and is stopped meanwhile (Ctrl-Z
        # and fg) CPython's returns what its memory held before: a signal that nobody sent.
        facts = signal.sigtimedwait(watched, 0)
        if facts is None:
            # Not for ever: another thread (numpy brings some) may have got SIGCHLD.
            time.sleep(_PAUSE)
            return signal.SIGCHLD, False
        # Positive: sent by the kernel, which for these signals means by the terminal.
        return facts.si_signo, facts.si_code > 0
    number = signal.sigwait(watched)
    return number, number in _FROM_TERMINAL and sys.stdin.isatty()
