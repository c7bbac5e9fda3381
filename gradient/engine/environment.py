"""The environment that a commit records: versions, host, command line, code."""

from __future__ import annotations

import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gradient._version import __version__

_GIT_SECONDS = 5


def capture_environment() -> dict[str, Any]:
    """Return plain data about this process; all of its commits record the same."""
    cuda = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
    return {
        "gradient": __version__,
        "torch": torch.__version__ + "",
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "command": shlex.join(sys.orig_argv),
        "cwd": _cwd(),
        "threads": torch.get_num_threads(),
        "seed": torch.initial_seed(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if cuda
        else [],
        "code": _code_revision(),
    }


def _cwd() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # the folder was removed
        return None


def _code_revision() -> dict[str, Any] | None:
    """Return the git commit of the training script's folder, and whether it has changes."""
    cwd = _cwd()
    if cwd is None:
        return None
    script = Path(cwd, sys.argv[0] if sys.argv else "")
    folder = (script if script.is_dir() else script.parent).resolve()
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
