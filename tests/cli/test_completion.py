from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import ROOT, call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def complete(*words: str) -> list[str]:
    """Request completions as the zsh script does."""
    result = call(
        _GRADIENT_COMPLETE="zsh_complete",
        COMP_WORDS=" ".join(["gradient", *words[:-1], words[-1]]),
        COMP_CWORD=str(len(words)),
    )
    return result.stdout.splitlines()[1::3]


def test_commands() -> None:
    assert complete("re")[:2] == ["repo", "resume"]


@pytest.mark.parametrize("command", ["resume", "fork", "export"])
def test_revisions(command: str, history: PlainRepo) -> None:
    assert complete(command, "") == ["latest", "high_lr", "main"]
    words = ["main@last-finite", "main@best:loss"]
    assert complete(command, "main@") == ["main@100", "main@50", "main@0", *words]
    assert complete(command, "main@5") == ["main@50"]
    assert complete(command, "nobody@") == []


def test_ranges_and_the_active_branch(history: PlainRepo) -> None:
    assert complete("log", "main@0..ma") == ["main@0..main"]
    assert complete("diff", "main@0..main@5") == ["main@0..main@50"]
    assert complete("diff", "@1") == ["@100"]


def test_tags(history: PlainRepo) -> None:
    call("tag", "good", "main@50")
    assert complete("tag", "-d", "g") == ["good"]
    assert complete("tag", "v1", "g") == ["good"]


def test_an_unknown_command_completes_to_nothing_without_an_error() -> None:
    assert complete("checkout", "ma") == []


def test_help() -> None:
    assert complete("help", "lo") == ["log", "login", "logout"]


def test_branches(history: PlainRepo) -> None:
    assert complete("switch", "h") == ["high_lr"]
    assert complete("run", "--branch", "m") == ["main"]


def test_repos(history: PlainRepo) -> None:
    call("repo", "init", "other")
    assert complete("-r", "") == ["gpt", "other"]
    assert complete("-r", "gpt", "resume", "main@1") == ["main@100"]


def test_without_a_repo_nothing_is_completed_without_an_error() -> None:
    assert complete("resume", "") == []
    assert complete("switch", "") == []
    assert complete("-r", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_valid(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("no bash here")
    text = call("completion", shell).stdout
    assert "_GRADIENT_COMPLETE" in text
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=text, text=True, check=False)
        assert done.returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_in_a_real_bash(history: PlainRepo) -> None:
    """Bash splits words at ``@`` unless COMP_WORDBREAKS excludes it."""
    command = Path("bin/gradient")
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from gradient.cli.main import main\nmain()\n"
    )
    command.chmod(0o755)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PATH"] = f"{command.parent.resolve()}:{os.environ['PATH']}"
        os.environ["TERM"] = "dumb"
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    os.write(terminal, b'eval "$(gradient completion bash)"; echo re""ady\n')
    assert b"ready" in read_until(terminal, b"ready")
    os.write(terminal, b"gradient resume main@10\t")
    seen = read_until(terminal, b"main@100")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)
    assert b"main@100" in seen


def read_until(terminal: int, wanted: bytes) -> bytes:
    seen = b""
    end = time.monotonic() + 30
    while wanted not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 4096)
    return seen
