"""The last words of a process that an exception ends: how to go on.

A process that is killed can not say it; `gradient status` does in any case.
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


def remember(line: BranchWriter) -> None:
    """Note the line that this process works on; the last one is meant at its end."""
    if not _attached:
        atexit.register(_say_how_to_go_on)
    _attached[os.getpid()] = line


def _say_how_to_go_on() -> None:
    line = _attached.get(os.getpid())
    if line is None or getattr(sys, "last_value", None) is None:
        return
    # A second Ctrl-C, out of impatience or from a launcher that passes it on, comes too late.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = LastRun(shlex.join(sys.orig_argv), str(Path.cwd()), "")
        note = last_run.noted(line.repo.path)
        if note is not None and note.command == run.command:
            run = note  # it says what launched it
        hint = resume_command.hint(
            line.repo.path, run, branch=line.branch, committed=line.has_moved
        )
    except (GradientError, OSError):
        return  # the exception that ended the process is what matters
    finally:
        if before is not None:  # it was not set by Python
            signal.signal(signal.SIGINT, before)
    if hint is not None:
        _LOG.warning("%s", hint)
