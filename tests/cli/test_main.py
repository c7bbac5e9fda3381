from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from gradient.cli.main import COMMANDS, EXIT_CODES, cli
from gradient.cli.summaries import SUMMARIES
from gradient.errors import GradientError
from tests.cli.sandbox import ROOT, call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.sandbox import Sandbox


def walk(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, f"{path} {name}".strip())


ALL = dict(walk(cli))


def errors(kind: type[GradientError] = GradientError) -> Iterator[type[GradientError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from errors(below)


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_help(path: str) -> None:
    text = call(*path.split(), "--help").output
    assert ALL[path].help
    assert "Usage: gradient" in text
    words = " ".join(text.split())
    if path:
        assert re.search(rf"Examples?: gradient (-w \w+ )?{path}\b", words)
        assert "Exit codes: 0 done, 1 failed, 2 usage, 3 integrity, 4 not found" in words
    assert ("where it is not found" in words) == (path in ("", "resume", "fork", "run"))


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    text = call("--help").output
    for name in COMMANDS:
        assert f"  {name}" in text
    for code, meaning in EXIT_CODES.items():
        assert f"  {code}" in text
        assert meaning.split(":")[0] in text
    assert "128 + N" in " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_noted_summaries_are_the_commands_own(name: str) -> None:
    if name in SUMMARIES:
        assert SUMMARIES[name] == ALL[name].get_short_help_str(1000)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_what_needs_no_repo_imports_neither_numpy_nor_torch(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom gradient.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", sorted(set(errors()), key=lambda kind: kind.__name__))
def test_every_error_has_a_documented_exit_code(kind: type[GradientError]) -> None:
    assert kind.exit_code in EXIT_CODES


def test_every_option_says_what_it_does() -> None:
    for path, command in ALL.items():
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.help, f"{path} {option.opts}"


def test_an_unknown_command_is_a_usage_error() -> None:
    assert "No such command" in call("branhc", code=2).output


def test_version() -> None:
    assert call("--version").output.startswith("gradient 0.")


def test_an_error_of_the_library_goes_to_stderr_with_its_code() -> None:
    result = call("status", code=4)
    assert result.stdout == ""
    assert result.stderr.startswith("error: no workspace or repo")


def test_an_interruption_is_130(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gradient.cli.branch.find_repository", interrupt)
    call("branch", code=130)


WITHOUT_TORCH = [
    "--help",
    "status",
    "branch -v",
    "workspace status",
    "resume main@50",
    "log",
    "show latest",
    "metrics",
    "tag",
    "reflog",
    "rev-parse latest",
    "ls-tree latest",
    "cat-file latest",
    "du",
    "fsck",
    "gc --dry-run",
]
"""What reads, `diff` left aside: that calculates with tensors."""


@pytest.mark.parametrize("words", [each.split() for each in WITHOUT_TORCH], ids=" ".join)
def test_answers_without_torch(words: list[str], history: Sandbox) -> None:
    code = (
        "import sys; from gradient.cli.main import cli\n"
        "try: cli.main(sys.argv[1:], prog_name='gradient')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_completion_answers_without_torch(history: Sandbox) -> None:
    code = (
        "import sys; from gradient.cli.main import cli\n"
        "try: cli.main(prog_name='gradient')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": "",
        "_GRADIENT_COMPLETE": "zsh_complete",
        "COMP_WORDS": "gradient resume main@",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "main@100" in done.stdout
