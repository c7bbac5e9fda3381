from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from gradient.cli.commit_format import JSON_FIELDS
from tests.cli.command import call
from tests.cli.stable_output import printed

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo

FULL = """\
commit <main@100>  (HEAD -> main)
at       main@100, delta
date     2026-02-10 12:02:56 UTC
metrics  loss=12.5

    a milestone
    with a second line

commit <main@50>
at       main@50, delta
date     2026-02-10 12:01:56 UTC
metrics  loss=6.25
"""

ONELINE = """\
<main@100>  main@100  (HEAD -> main)  a milestone
<main@50>  main@50
<main@0>  main@0  start
"""

GRAPH = """\
*  <high_lr@60>  high_lr@60  (high_lr)  loss=7.5
*  <high_lr@50>  high_lr@50  loss=6.25
| *  <main@100>  main@100  (HEAD -> main)  a milestone  loss=12.5
|/
*  <main@50>  main@50  loss=6.25
*  <main@0>  main@0  start  loss=0
"""

TALL = """\
*  commit <high_lr@60>  (high_lr)
|  at       high_lr@60, anchor
|  date     2026-02-10 12:04:56 UTC
|  metrics  loss=7.5
|
"""


def steps(*arguments: str) -> list[str]:
    found = json.loads(call("log", "--json", *arguments).stdout)["commits"]
    return [each["revision"] for each in found]


def test_paragraphs(history: PlainRepo) -> None:
    assert printed(history, "log", "-n", "2") == FULL


def test_oneline(history: PlainRepo) -> None:
    assert printed(history, "log", "--oneline") == ONELINE


@pytest.mark.parametrize("words", [["-2"], ["-n", "2"], ["--max-count", "2"], ["-2", "--decorate"]])
def test_the_number_of_commits_is_limited(history: PlainRepo, words: list[str]) -> None:
    shown = printed(history, "log", "--oneline", *words)
    assert shown == "".join(ONELINE.splitlines(keepends=True)[:2])


def test_graph(history: PlainRepo) -> None:
    given = ("log", "--graph", "--all", "--oneline", "--metric", "loss")
    assert printed(history, *given).replace("0.0", "0") == GRAPH
    assert printed(history, "log", "--graph", "--all", "-n", "1") == TALL


def test_json(history: PlainRepo) -> None:
    call("tag", "v1", "main@50")
    (found,) = json.loads(call("log", "main@50", "-n", "1", "--json").stdout)["commits"]
    oid = str(history.repo.resolve("main@50").oid)
    parent = str(history.repo.resolve("main@0").oid)
    assert found == {
        "id": oid,
        "revision": "main@50",
        "step": 50,
        "branch": "main",
        "type": "delta",
        "parents": [parent],
        "anchor": parent,
        "time": "2026-02-10T12:01:56.000000",
        "message": "",
        "metrics": {"loss": 6.25},
        "refs": ["v1"],
        "finite": None,
        "forgotten": None,
    }
    assert all(f"`{name}`" in JSON_FIELDS for name in found)


def test_which_commits(history: PlainRepo) -> None:
    assert steps() == ["main@100", "main@50", "main@0"]
    assert steps("high_lr") == ["high_lr@60", "high_lr@50", "main@50", "main@0"]
    assert steps("main@0..main") == ["main@100", "main@50"]
    assert steps("main..high_lr") == ["high_lr@60", "high_lr@50"]
    everything = ["high_lr@60", "high_lr@50", "main@100", "main@50", "main@0"]
    assert steps("--all") == steps("main", "high_lr") == everything
    assert steps("--all", "--since", "2026-02-10T12:02") == everything[:3]
    assert steps("--since", "2099-01-01") == []
    assert steps("--since", "2026-02-10T14:02:00+02:00") == ["main@100"]
    ago = datetime.now(UTC) - datetime(2026, 2, 10, 12, 2, tzinfo=UTC)
    assert steps("--since", f"{ago // timedelta(hours=1) + 1}h") == steps()
    assert steps("-n", "0") == []


@pytest.mark.parametrize("when", ["yesterday-ish", "2026-13-01", "3 fortnights"])
def test_invalid_times(history: PlainRepo, when: str) -> None:
    assert "not a time such as" in call("log", "--since", when, code=2).stderr


def test_without_commits(empty_repo: PlainRepo) -> None:
    assert "no commits yet" in call("log").stderr
    found = json.loads(call("log", "--all", "--json").stdout)
    assert found == {"commits": [], "unreadable": []}
    call("log", "main", code=4)
