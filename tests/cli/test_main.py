from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from gradient.cli import suggestions
from gradient.cli.command_summaries import SUMMARIES
from gradient.cli.main import COMMANDS, EXIT_CODES, cli
from gradient.errors import GradientError
from tests.cli.command import ROOT, call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.plain_repo import PlainRepo


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


def test_commands_do_without_what_click_has_only_had_since_8_4() -> None:
    code = (
        "import importlib, click\n"
        "def refuse(*_): raise TypeError('not subscriptable')\n"
        "click.ParamType.__class_getitem__ = refuse\n"
        "from gradient.cli.main import COMMANDS\n"
        "for module in COMMANDS.values(): importlib.import_module(module)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ALL)
def test_every_command_has_help(path: str) -> None:
    text = call(*path.split(), "--help").output
    assert ALL[path].help
    assert "Usage: gradient" in text
    words = " ".join(text.split())
    if path:
        assert re.search(rf"Examples?: gradient (-w \w+ )?{path}\b", words)
        assert "Exit codes: 0 done, 1 failed, 2 usage, 3 integrity, 4 not found" in words
    assert ("if it is not found" in words) == (path in ("", "resume", "fork", "run"))


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    text = call("--help").output
    for name in COMMANDS:
        assert f"  {name}" in text
    for code, meaning in EXIT_CODES.items():
        assert f"  {code}" in text
        assert meaning.split(":")[0] in text
    assert "128 + N" in " ".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summaries_are_up_to_date(name: str) -> None:
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


def usage_error(*words: str) -> str:
    """Return the error of an invalid command line."""
    lines = call(*words, code=2).stderr.splitlines()
    assert lines[0].startswith("Usage: gradient")
    assert "--help' for help." in lines[1]
    assert lines[2] == ""
    return "\n".join(lines[3:])


def test_an_unknown_command_names_the_nearest() -> None:
    assert usage_error("branhc") == "error: no such command 'branhc'; the nearest: branch"
    assert usage_error("xyzzy") == "error: no such command 'xyzzy'; all of them: gradient --help"
    assert usage_error("repo", "lst").startswith("error: no such command 'lst'.")


@pytest.mark.parametrize("word", suggestions.COMMANDS)
def test_gits_commands_name_ours(word: str) -> None:
    assert word not in COMMANDS
    assert (
        usage_error(word, "x") == f"error: no such command {word!r}; {suggestions.COMMANDS[word]}"
    )


HABITS = [(name, option) for name, known in suggestions.OPTIONS.items() for option in known]


@pytest.mark.parametrize(("name", "option"), HABITS)
def test_gits_options_name_ours(name: str, option: str) -> None:
    advice = suggestions.OPTIONS[name][option]
    assert usage_error(name, option, "x") == f"error: no such option {option!r}; {advice}"


ADVICE = {
    *suggestions.COMMANDS.values(),
    *(suggestions.OPTIONS[name][option] for name, option in HABITS),
}


@pytest.mark.parametrize("advice", sorted(ADVICE))
def test_the_named_commands_and_options_exist(advice: str) -> None:
    for name, rest in re.findall(r"gradient ((?!\.)[a-z-]+)([^;,:]*)", advice):
        if name == "--version":
            continue
        path = f"{name} init" if name in ("workspace", "repo") else name
        known = {option for param in ALL[path].params for option in param.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z-]+\b", rest.partition(" -- ")[0])) <= known


@pytest.mark.parametrize("path", [path for path in ALL if isinstance(ALL[path], click.Group)])
def test_no_summary_is_cut_off_at_eighty_columns(path: str) -> None:
    text = call(*path.split(), "--help", COLUMNS="80").stdout
    assert "..." not in text.partition("Commands:")[2]


def test_help_is_a_command() -> None:
    assert call("help", "bisect", "run").stdout == call("bisect", "run", "--help").stdout
    assert call("help").stdout == call("--help").stdout
    assert "no such command 'lgo'; the nearest: log" in call("help", "lgo", code=2).stderr


def test_a_group_alone_shows_its_help() -> None:
    result = call("bisect", code=2)
    assert result.stderr.startswith("Usage: gradient bisect")
    assert "error:" not in result.stderr


def test_version() -> None:
    assert call("--version").output.startswith("gradient 0.")


def test_an_error_of_the_library_goes_to_stderr_with_its_code() -> None:
    result = call("status", code=4)
    assert result.stdout == ""
    assert result.stderr.startswith("error: no workspace or repo")


def test_an_interruption_is_130(empty_repo: PlainRepo, monkeypatch: pytest.MonkeyPatch) -> None:
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
"""The reading commands, except `diff`, which computes with tensors."""


@pytest.mark.parametrize("words", [each.split() for each in WITHOUT_TORCH], ids=" ".join)
def test_answers_without_torch(words: list[str], history: PlainRepo) -> None:
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


def test_completion_answers_without_torch(history: PlainRepo) -> None:
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
