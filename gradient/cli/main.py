"""The command `gradient`: it imports the command's module, and maps errors to exit codes."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from gradient._version import __version__
from gradient.cli import output, suggestions
from gradient.cli.command_summaries import SUMMARIES
from gradient.cli.repo_options import OPENED, location_options
from gradient.errors import GradientError, IntegrityError

COMMANDS: dict[str, str] = {
    "workspace": "gradient.cli.workspace",
    "repo": "gradient.cli.repo",
    "status": "gradient.cli.status",
    "branch": "gradient.cli.branch",
    "switch": "gradient.cli.switch",
    "run": "gradient.cli.run",
    "resume": "gradient.cli.resume",
    "fork": "gradient.cli.fork",
    "log": "gradient.cli.log",
    "show": "gradient.cli.show",
    "diff": "gradient.cli.diff",
    "metrics": "gradient.cli.metrics",
    "tag": "gradient.cli.tag",
    "reset": "gradient.cli.reset",
    "reflog": "gradient.cli.reflog",
    "rev-parse": "gradient.cli.rev_parse",
    "ls-tree": "gradient.cli.ls_tree",
    "cat-file": "gradient.cli.cat_file",
    "du": "gradient.cli.du",
    "view": "gradient.cli.view",
    "export": "gradient.cli.export",
    "gc": "gradient.cli.gc",
    "forget": "gradient.cli.forget",
    "import": "gradient.cli.import_",
    "merge": "gradient.cli.merge",
    "bisect": "gradient.cli.bisect",
    "verify": "gradient.cli.verify",
    "fsck": "gradient.cli.fsck",
    "doctor": "gradient.cli.doctor",
    "login": "gradient.cli.login",
    "logout": "gradient.cli.logout",
    "whoami": "gradient.cli.whoami",
    "completion": "gradient.cli.completion",
    "help": "gradient.cli.help",
}
"""The module of each command, in the order of `--help`; its attribute `command` is the command."""

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "failed",
    2: "usage: an invalid option, name or revision",
    3: "integrity: stored data is damaged",
    4: "not found or ambiguous: workspace, repo or revision",
    5: "conflict: the request contradicts the state of the repo",
    75: "preempted, requeue the job",
    130: "interrupted",
}
"""The exit codes of commands that do not launch another command."""

LAUNCHED = (
    "resume, fork and run return the exit code of the command that they launch: 128 + N if signal "
    "N ended it, 126 if it cannot be executed, 127 if it is not found."
)

LAUNCHING = ("resume", "fork", "run")
"""The commands to which `LAUNCHED` applies."""


class Gradient(click.Group):
    """A group that imports a command when it is used, and maps errors to exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = importlib.import_module(module).command
        assert isinstance(command, click.Command)
        _add_exit_codes(command, LAUNCHED if cmd_name in LAUNCHING else "")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; raise UsageError with advice if it does not exist."""
        name = args[0]
        if name not in COMMANDS and name[:1].isalpha() and not ctx.resilient_parsing:
            raise click.UsageError(suggestions.unknown_command(name, COMMANDS), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their summaries; import only commands without a summary."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        rows = []
        for name in names:
            noted = SUMMARIES.get(name)
            command = self.get_command(ctx, name) if noted is None else None
            shown = command or click.Command(name, help=noted)
            rows.append((name, shown.get_short_help_str(room)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(LAUNCHED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; add the affected commits to an error about damage."""
        try:
            return super().invoke(ctx)
        except IntegrityError:
            repo = ctx.meta.get(OPENED)
            if repo is None:
                raise
            from gradient.repo.damage import naming_commits

            with naming_commits(repo):
                raise

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run, report an error on stderr, exit with its code."""
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        sys.exit(self._run(args, **extra))

    def _run(self, args: Sequence[str] | None, **extra: Any) -> int:
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except click.Abort:
            return 130
        except click.ClickException as error:
            _print_usage_error(error)
            return error.exit_code
        except GradientError as error:
            output.error(str(error))
            return error.exit_code
        except OSError as error:
            output.error(str(error))
            return 1
        return code if isinstance(code, int) else 0


def _print_usage_error(error: click.ClickException) -> None:
    """Print the usage, and then the error in the common form."""
    if isinstance(error, _HELP):
        error.show()
        return
    message = error.format_message()
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is not None:
        output.note(f"{ctx.get_usage()}\nTry '{ctx.command_path} --help' for help.\n")
        if isinstance(error, click.NoSuchOption):
            advice = suggestions.unknown_option(ctx.command.name, error.option_name)
            message = f"no such option {error.option_name!r}; {advice}" if advice else message
    output.error(message[:1].lower() + message[1:])


_HELP: type[click.ClickException] | tuple[()] = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""The error of a group without a command; click before 8.2 does not have it."""


def _add_exit_codes(command: click.Command, more: str) -> None:
    """Add the exit codes to the help of a command and of its subcommands."""
    short = {code: text.partition(":")[0].partition(",")[0] for code, text in EXIT_CODES.items()}
    codes = ", ".join(f"{code} {text}" for code, text in short.items())
    command.epilog = " ".join([f"Exit codes: {codes}.", more])
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _add_exit_codes(each, more)


@click.group(
    cls=Gradient,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@location_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Git for training runs: commit, resume and fork a PyTorch run, bit for bit."""
    ctx.color = output.colour()


def main() -> None:
    """Run the command line: the entry point."""
    # Reading a long history creates many objects and no garbage; the collector took a fifth of the
    # time.
    gc.set_threshold(100_000, 20, 20)
    output.relax_encoding(sys.stdout)
    cli.main(prog_name="gradient")


if __name__ == "__main__":
    main()
