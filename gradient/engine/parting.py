"""The last words of a process that an exception ends: how to go on.

A process that is killed can not say it; `gradient status` does in any case.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys

from gradient.errors import GradientError
from gradient.repo import again
from gradient.repo.repository import Repository

_LOG = logging.getLogger("gradient")
_attached: dict[int, str] = {}


def remember(repo_path: str) -> None:
    """Note the repo that this process works on; the last one is meant at its end."""
    if not _attached:
        atexit.register(_say_how_to_go_on)
    _attached[os.getpid()] = repo_path


def _say_how_to_go_on() -> None:
    path = _attached.get(os.getpid())
    if path is None or getattr(sys, "last_value", None) is None:
        return
    try:
        found = again.find(Repository.open(path))
    except GradientError:
        return  # the exception that ended the process is what matters
    if found is not None:
        _LOG.warning("to go on: %s", found.resume)
