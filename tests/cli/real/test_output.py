"""The exact output of each reading command for a real run with forks.

What differs from run to run and machine to machine has a name in the golden files: ids, times,
paths, versions, measured numbers and the bytes that compression leaves. After a wanted change:
``WRITE_GOLDEN=1 pytest tests/cli/real``, and read what changed.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradient.repo.history import History
from tests.cli.command import call

if TYPE_CHECKING:
    from gradient.repo.repository import Repository
    from tests.cli.real.conftest import Trained

GOLDEN = Path(__file__).with_name("golden")

COMMANDS = {
    "log": ("log",),
    "log-oneline": ("log", "--oneline", "-n", "3", "--metric", "seen"),
    "log-graph": ("log", "--oneline", "--graph", "--all"),
    "log-graph-paragraphs": ("log", "--graph", "--all", "-n", "4", "--metric", "seen"),
    "log-range": ("log", "--oneline", "main@10..high_lr@30"),
    "log-since": ("log", "--oneline", "--all", "--since", "2026-01-01"),
    "log-json": ("log", "--json", "-n", "2"),
    "show": ("show", "main@20"),
    "show-fork": ("show", "high_lr@20"),
    "show-json": ("show", "good", "--json"),
    "ls-tree": ("ls-tree", "main"),
    "ls-tree-recursive": ("ls-tree", "-R", "main", "model"),
    "ls-tree-json": ("ls-tree", "main", "model", "--json"),
    "cat-file": ("cat-file", "main@20"),
    "cat-file-json": ("cat-file", "main@20", "--json"),
    "rev-parse": (
        *("rev-parse", "main", "main@20", "latest", "HEAD", "good", "main~3", "main@{2}"),
        *("main@latest", "main@last-finite", "high_lr@best:seen", "high_lr@best:seen:max"),
    ),
    "rev-parse-range": ("rev-parse", "main@10..main@40"),
    "rev-parse-json": ("rev-parse", "main.old1", "--json"),
    "reflog": ("reflog",),
    "reflog-json": ("reflog", "high_lr", "--json"),
    "branch": ("branch",),
    "branch-metric": ("branch", "-v", "--metric", "seen:max"),
    "branch-json": ("branch", "--json", "--metric", "seen"),
    "tag": ("tag",),
    "tag-json": ("tag", "--json"),
    "metrics": ("metrics",),
    "metrics-csv": ("metrics", "main@10..high_lr", "--csv"),
    "metrics-json": ("metrics", "main@40", "--json"),
    "status": ("status",),
    "status-json": ("status", "--json"),
    "du": ("du", "main@20", "high_lr@20"),
    "du-json": ("du", "--json"),
    "diff": ("diff", "main@20", "high_lr@40"),
    "diff-stat": ("diff", "main@20", "high_lr@40", "--stat"),
    "diff-optimizer": ("diff", "main@30", "main@40", "--optimizer", "-n", "0"),
    "diff-equal": ("diff", "main@40", "main.old1@40"),
    "diff-fork": ("diff", "main@20", "high_lr@20", "--stat", "--optimizer"),
    "diff-json": ("diff", "main@20", "high_lr@20", "--json"),
    "bisect-log": ("bisect", "log"),
}
"""The command of each golden file."""

SCRUBBED = (
    (r"(?m)^(  )(?: *-?[\d.]+(?:e[-+]\d+)? +){3}[\d.]+% +█*░*", r"\1<measures>  "),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?", "<time>"),
    (r"(?<![\w.])-?\d+\.\d{3,}(?![\w.])|(?<![\w.])-?\d(?:\.\d+)?e[-+]\d+", "<number>"),
    (r"(?m)^(  (?:gradient|torch|numpy|python|platform|host|threads) +).*$", r"\1<machine>"),
    (
        r'("(?:gradient|torch|numpy|python|platform|host|threads)": )(?:"[^"]*"|\d+)',
        r'\1"<machine>"',
    ),
    # Whether a difference pays depends on the last bits.
    (r"(?m)^(?:an anchor|\d+ commits? after the anchor .*)$", "<where the anchor is>"),
    (r"(?<=@\d\d, )(?:anchor|delta)|(?<=\), )(?:anchor|delta)|(?<=@0, )anchor", "<type>"),
    (r"\d+ anchors?, \d+ deltas?", "<anchors and deltas>"),
    (r'"type": "(?:anchor|delta)"', '"type": <type>'),
    (r'"anchor": (?:null|"[^"]*")', '"anchor": <anchor>'),
    (r'"(anchors|deltas|since_anchor)": \d+', r'"\1": <count>'),
    # A loss whose last bit differs may have a digit more.
    (r'"size": \d+', '"size": <bytes>'),
)
MEASURED = (
    (r"-?\b[\d.]+ (?:B|[KMG]iB)(?!\w)", "<size>"),
    (r"(?<=, 1/)[\d.]+", "<ratio>"),
    (r"\b\d+%", "<part>"),
    (r"[\d,]+ more commits", "<count> more commits"),
    (r'("(?:\w*_bytes|free_commits|new|shared|stored|raw|planes|delta)": )-?\d+', r"\1<count>"),
    (r"(?:raw|planes|delta) <part>(?:, (?:raw|planes|delta) <part>)*", "<codings>"),
    (r'"raw": \{[^}]*\}', '"raw": <codings>'),
)
"""Patterns for the outputs with sizes in the store."""


def scrubbed(text: str, trained: Trained, *, measured: bool = False) -> str:
    """Return a text without the parts that differ from run to run."""
    for path, name in ((Path.cwd(), "<here>"), (trained.there, "<there>")):
        text = text.replace(str(path), name)
    text = text.replace(sys.executable, "python")
    for pattern, name in SCRUBBED + (MEASURED if measured else ()):
        text = re.sub(pattern, name, text)
    text = re.sub(r"launch [0-9a-f]{32}", "launch <launch>", named(text, trained.repo))
    # Columns are as wide as what was in them.
    return "".join(
        re.sub(r"(?<=\S) {2,}(?=\S)", "  ", line).rstrip() + "\n" for line in text.splitlines()
    )


def named(text: str, repo: Repository) -> str:
    """Return a text with revisions in place of commit ids, and without other ids."""
    for oid, entry in History(repo).entries.items():
        text = text.replace(str(oid), f"<{entry.revision}>")
        text = text.replace(oid.short, f"<{entry.revision}>")
    return re.sub(r"\b(?:[0-9a-f]{64}|[0-9a-f]{10})\b", "<id>", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_the_golden_output(name: str, trained: Trained) -> None:
    if name.startswith("bisect"):
        call("bisect", "start", "main", "main@0")
        call("bisect", "good")
        call("bisect", "bad")
    out = call(*COMMANDS[name]).stdout
    found = scrubbed(out, trained, measured=name.partition("-")[0] in ("status", "du"))
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")


def test_each_golden_file_belongs_to_a_command() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if not name.startswith("bisect")])
def test_reading_changes_nothing(name: str, trained: Trained) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("ws").rglob("*")}
    call(*COMMANDS[name])
    assert {path: path.stat().st_mtime_ns for path in Path("ws").rglob("*")} == before
