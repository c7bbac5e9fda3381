"""The hint that a process logs when an exception ends it: the command that continues the run.

A process that is killed cannot log it; `gradient status` shows the same command.
"""

from __future__ import annotations

import atexit
import logging
import os
import shlex
import signal
import sys
from pathlib import Path

from gradient.errors import GradientError
from gradient.repo import last_run, resume_command
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.last_run import LastRun

_LOG = logging.getLogger("gradient")
_attached: dict[int, BranchWriter] = {}


def remember(writer: BranchWriter) -> None:
    """Note the branch that this process commits to; the hint is about the last one."""
    if not _attached:
        atexit.register(_log_hint)
    _attached[os.getpid()] = writer


def _log_hint() -> None:
    writer = _attached.get(os.getpid())
    if writer is None or getattr(sys, "last_value", None) is None:
        return
    # Ignore a second Ctrl-C, from an impatient user or a launcher that forwards it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = LastRun(shlex.join(sys.orig_argv), str(Path.cwd()), "")
        note = last_run.noted(writer.repo.path)
        if note is not None and note.command == run.command:
            run = note  # it names its launch as well
        hint = resume_command.hint(
            writer.repo.path, run, branch=writer.branch, committed=writer.has_moved
        )
    except (GradientError, OSError):
        return  # the exception that ended the process matters more
    finally:
        if before is not None:  # None if it was not set by Python
            signal.signal(signal.SIGINT, before)
    if hint is not None:
        _LOG.warning("%s", hint)
