"""Ways to run the command `gradient` in a test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

from gradient.cli.main import cli

if TYPE_CHECKING:
    from click.testing import Result

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str, code: int = 0, **environment: str) -> Result:
    """Run a command in this process, and assert its exit code."""
    result = CliRunner().invoke(cli, list(arguments), env=environment, prog_name="gradient")
    problem = f"{result.exit_code}, not {code}: {result.output}"
    assert result.exit_code == code, f"{problem}\n{result.exc_info}"
    return result


def spawn(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command as a real process in the current folder."""
    code = "from gradient.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for the process, assert its exit code, and return its output."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, f"{process.returncode}, not {code}:\n{out}\n{err}"
    return out, err
