"""`metrics` and `du`: the numbers of each commit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradient.cli import du, metrics
from tests.cli.command import call
from tests.cli.plain_repo import STATE_BYTES
from tests.cli.stable_output import fields, printed

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo

CSV = """\
id,branch,step,time,loss
<main@50>,main,50,2026-02-10T12:01:56.000000,6.25
<main@100>,main,100,2026-02-10T12:02:56.000000,12.5
"""


def test_table(history: PlainRepo) -> None:
    assert call("metrics").stdout == "commit    loss\nmain@0    0\nmain@50   6.25\nmain@100  12.5\n"


def test_csv(history: PlainRepo) -> None:
    assert printed(history, "metrics", "main@0..main", "--csv") == CSV


def test_json(history: PlainRepo) -> None:
    found = json.loads(call("metrics", "main", "high_lr", "--json", "--metric", "loss").stdout)
    assert found["metrics"] == ["loss"]
    assert [each["revision"] for each in found["commits"]] == [
        "main@0",
        "main@50",
        "main@100",
        "high_lr@50",
        "high_lr@60",
    ]
    documented = fields(metrics.command.callback, "commits")
    assert all(f"`{name}`" in documented for name in found["commits"][0])


def test_an_unknown_metric(history: PlainRepo) -> None:
    assert call("metrics", "--metric", "acc").stderr == "no metric acc; recorded: loss\n"
    assert json.loads(call("metrics", "--metric", "acc", "--json").stdout)["commits"] == []


def test_only_the_newest(history: PlainRepo) -> None:
    head, *rows = call("metrics").stdout.splitlines()
    assert len(rows) > 1
    assert call("metrics", "-n", "1").stdout.split()[-2:] == rows[-1].split()
    assert call("metrics", "-n", "99").stdout.splitlines() == [head, *rows]
    assert call("metrics", "-n", "0").stdout == ""


def test_du(history: PlainRepo) -> None:
    found = json.loads(call("du", "main@50", "high_lr@50", "--json").stdout)
    first, second = found["commits"]
    assert first["components"] == [
        {
            "component": "model",
            "represented": STATE_BYTES,
            "stored": STATE_BYTES,
            "new": STATE_BYTES,
            "shared": 0,
            "raw": {"raw": STATE_BYTES},
        }
    ]
    # The fork has the same tensor.
    (component,) = second["components"]
    assert (component["new"], component["shared"]) == (0, STATE_BYTES)
    documented = fields(du.command.callback, "commits")
    assert all(f"`{name}`" in documented for name in component)
    assert found["branches"][1] == {
        "name": "main",
        "commits": 3,
        "represented_bytes": 3 * STATE_BYTES,
    }


def test_du_text(history: PlainRepo) -> None:
    lines = call("du").stdout.splitlines()
    assert lines[0].endswith("for about 14.6 KiB of state, 1/1.2") or "5 packs" in lines[0]
    assert lines[1].split() == ["high_lr", "2", "commits", "5.9", "KiB"]
    assert lines[-1].split() == [
        "model",
        "2.9",
        "KiB",
        "2.9",
        "KiB",
        "2.9",
        "KiB",
        "0",
        "B",
        "raw",
        "100%",
    ]


def test_du_without_commits(empty_repo: PlainRepo) -> None:
    assert "0 packs" in call("du").stdout
