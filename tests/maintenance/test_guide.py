"""The guide lists every class of damage with the texts of the table, and every remedy works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from gradient.cli.main import cli
from gradient.maintenance.fsck.findings import CLASSES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide-fsck.md"
ROW = re.compile(r"^\| `([a-z-]+)` \| (\w+) \| (.*) \| (.*) \|$", re.MULTILINE)
TEXTS = (GUIDE.read_text(encoding="utf-8"), *(each.remedy for each in CLASSES.values()))
COMMANDS = sorted({found for text in TEXTS for found in re.findall(r"`(gradient [^`]+)`", text)})


def test_the_guide_has_the_table() -> None:
    listed = {row[0]: tuple(row[1:]) for row in ROW.findall(TEXTS[0])}
    assert listed == {
        word: (each.severity, each.meaning, each.remedy) for word, each in CLASSES.items()
    }


@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_is_accepted(text: str) -> None:
    """Its name, its options and the number of its arguments; nothing is run."""
    command: click.Command = cli
    words = shlex.split(text)[1:]
    context = click.Context(cli)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"{words[0]} is not a command"
        command, words = found, words[1:]
        context = click.Context(command, parent=context, info_name=text)
    if text in TAKES_MORE:
        words.append(TAKES_MORE[text])
    command.parse_args(context, words)


TAKES_MORE = {"gradient import": "run.pt", "gradient forget": "--keep-last=1"}
"""Commands that a text names without their arguments."""
