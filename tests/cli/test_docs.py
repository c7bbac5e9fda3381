from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gradient.cli.main import EXIT_CODES
from tests.cli.command import ROOT
from tests.cli.test_main import ALL


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "build_cli_docs.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_is_up_to_date() -> None:
    done = build("--check")
    assert done.returncode == 0, done.stderr


def test_the_page_has_every_command_and_exit_code() -> None:
    text = Path(ROOT, "docs", "cli.md").read_text(encoding="utf-8")
    for path, command in ALL.items():
        if not hasattr(command, "commands") and path:
            assert f"## gradient {path}\n" in text
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in text
