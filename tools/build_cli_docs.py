"""Write docs/cli.md, and the summaries that `gradient --help` shows, from the commands themselves.

With --check nothing is written; fails with status 1 if one is not what it would be.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from gradient.cli.main import EXIT_CODES, LAUNCHED, cli
from gradient.cli.output import JSON_FIELDS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"
SUMMARIES = ROOT / "gradient" / "cli" / "command_summaries.py"

SUMMARIES_HEAD = '''\
"""What `gradient --help` says of each command, so that it need not import them all.

Made by tools/build_cli_docs.py from the commands themselves: change those, then run it.
"""

from __future__ import annotations

from typing import Final

SUMMARIES: Final[dict[str, str]] = {
'''
SUMMARIES_TAIL = '''\
"""The first sentence of each command's help; a command that is not here is imported for it."""
'''

HEAD = """\
# Command line

<!-- Made by tools/build_cli_docs.py from the commands themselves: change those, then run it. -->

```console
$ gradient run -- python train.py                               # the latest commit, or fresh
$ gradient status                                               # where it stands, how to go on
$ gradient resume main@100 -- python train.py                   # from this commit
$ gradient fork main@100 high_lr --scale-lr 10 -- python train.py
```

## Which repo

Every command that needs one takes these options, before its name or after it:

| option | meaning |
|---|---|
{place}

What they leave open, the variables `GRADIENT_WORKSPACE` and `GRADIENT_REPO` decide; then the
folders from here upwards (from `-C PATH`, if given); then the only workspace in a direct subfolder,
and its only repo. Where several could be meant, they are listed, with the option to type. Other
paths are from the current folder, whatever `-C` says; but for that of `workspace init`.

A repo of another user is read like any other. To write to it, name it, or the folder above, in
`GRADIENT_SAFE_DIRECTORY`, with colons between several: `/shared/gpt`, `/shared/*`, or `*` for all.
(git calls it `safe.directory`.)

## Revisions

`main@100` is the newest commit of step 100 on the branch main, `main` its newest commit, `latest`
that of the active branch, `main~2` two commits before it; a tag and the first digits of a commit
id (four or more) name commits as well. The active branch is the one that `GRADIENT_BRANCH` names,
else the one that `gradient switch` chose, else main. As in git, `HEAD` and `@` are `latest`,
`main^` is `main~1`, and before an `@` the active branch may be left out: `@100`, `@{{1}}`.

| form | the commit |
|---|---|
| `main@{{1}}` | that main stood on one move ago, by its reflog; also of a deleted branch |
| `main@last-finite` | the newest on main's line whose weights and metrics are all finite |
| `main@best:val_loss` | on main's line with the lowest `val_loss`; of several the newest |
| `main@best:acc:max` | with the highest `acc` |
| `main@100..main@500` | all after 100 up to 500; an end that is left out is `latest` |

## Launching a command

`run`, `resume` and `fork` set variables that `GradientEngine.attach` reads, and run what follows
`--` in the current folder: `GRADIENT_WORKSPACE`, `GRADIENT_REPO`, `GRADIENT_BRANCH`,
`GRADIENT_RESUME_REF`, `GRADIENT_FORK` and `GRADIENT_HANDOFF_ID` are replaced, everything else of
the environment stays, `GRADIENT_AUTOCOMMIT` included. Signals are passed on.

{launched}

## Output

Results go to stdout, everything else to stderr. Colour and progress are shown on a terminal only;
`NO_COLOR` turns colour off. Commands that read take `--json` and print one object; its fields,
listed below, stay what they are, and more may join them.

## Exit codes

| code | meaning |
|---|---|
{codes}

A command that was launched returns its own.
"""


def page() -> str:
    """Return what docs/cli.md should be."""
    context = click.Context(cli, info_name="gradient")
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    sections = [
        HEAD.format(place=_rows(cli, context), launched=textwrap.fill(LAUNCHED, 100), codes=codes)
    ]
    for command, inner in _commands(cli, context):
        sections.append(_section(command, inner))
    return "\n".join(sections)


def _commands(
    group: click.Group, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield command, inner


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    text = inspect.cleandoc(command.help or "")
    if "\b" in text:
        text = text.replace("\b\n", "```text\n") + "\n```"
    parts = [f"## {context.command_path}", f"```text\n{context.command_path} {usage}\n```", text]
    rows = _rows(command, context, place=False)
    if rows:
        parts.append(f"| option | meaning |\n|---|---|\n{rows}")
    fields = getattr(command.callback, JSON_FIELDS, None)
    if fields is not None:
        table = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in fields.items())
        parts.append(f"With `--json`:\n\n| field | what it is |\n|---|---|\n{table}")
    return "\n\n".join(parts) + "\n"


def _rows(command: click.Command, context: click.Context, *, place: bool = True) -> str:
    """Return the options as rows of a table; those of place stand in one table for all."""
    rows = []
    for option in command.get_params(context):
        if not isinstance(option, click.Option) or option.hidden or "--help" in option.opts:
            continue
        if (option.name in ("workspace", "repo", "directory")) != place:
            continue
        record = option.get_help_record(context)
        assert record is not None
        spelled, meaning = record
        rows.append(f"| `{spelled.replace('|', ' or ')}` | {meaning} |")
    return "\n".join(rows)


def summaries() -> str:
    """Return what gradient/cli/command_summaries.py should be."""
    context = click.Context(cli, info_name="gradient")
    rows = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        text = json.dumps(command.get_short_help_str(1000), ensure_ascii=False)
        row = f'    "{name}": {text},'
        rows.append(row if len(row) <= 100 else f'    "{name}": (\n        {text}\n    ),')
    return SUMMARIES_HEAD + "\n".join(rows) + "\n}\n" + SUMMARIES_TAIL


def main() -> int:
    """Write or check both; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    status = 0
    for path, made in ((SUMMARIES, summaries()), (PAGE, page())):
        if not check:
            path.write_text(made, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != made:
            name = path.relative_to(ROOT)
            print(
                f"{name} is not what the commands say: run tools/build_cli_docs.py",
                file=sys.stderr,
            )
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
