from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradient.cli.branch import command
from gradient.cli.output import JSON_FIELDS
from tests.cli.command import call

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def test_lists_tips_steps_and_fork_points(history: PlainRepo) -> None:
    lines = call("branch").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["high_lr", "step", "60", "2", "commits", "from", "main@50", lines[0].split()[-1]],
        ["*", "main", "step", "100", "3", "commits", lines[1].split()[-1]],
    ]
    assert lines[1].endswith(str(history.repo.tip("main"))[:10])


def test_verbose_adds_time_and_the_message_s_first_line(history: PlainRepo) -> None:
    line = call("branch", "-v").stdout.splitlines()[1]
    assert line.endswith("2026-02-10 12:02:56 UTC  a milestone")


def test_json(history: PlainRepo) -> None:
    found = json.loads(call("branch", "--json").stdout)
    assert list(found) == list(getattr(command.callback, JSON_FIELDS))
    assert found["active"] == "main"
    (high, main) = found["branches"]
    assert main == {
        "name": "main",
        "active": True,
        "tip": str(history.repo.tip("main")),
        "step": 100,
        "commits": 3,
        "anchors": 1,
        "deltas": 2,
        "fork_point": None,
        "set_aside": False,
        "time": "2026-02-10T12:02:56.000000",
        "message": "a milestone\nwith a second line",
        "metrics": {"loss": 12.5},
    }
    assert high["fork_point"] == "main@50"
    documented = getattr(command.callback, JSON_FIELDS)["branches"]
    assert all(f"`{name}`" in documented for name in main)


def test_without_commits(empty_repo: PlainRepo) -> None:
    result = call("branch")
    assert result.stdout == ""
    assert "active branch is main" in result.stderr
    assert json.loads(call("branch", "--json").stdout) == {"active": "main", "branches": []}


def test_switch_moves_head(history: PlainRepo) -> None:
    call("switch", "high_lr")
    assert history.reopen().head == "high_lr"
    assert json.loads(call("branch", "--json").stdout)["active"] == "high_lr"


def test_switch_notes_that_the_environment_takes_precedence(history: PlainRepo) -> None:
    assert "takes precedence" in call("switch", "high_lr", GRADIENT_BRANCH="main").stderr


def test_switch_to_a_missing_branch(history: PlainRepo) -> None:
    err = call("switch", "high_l", code=4).stderr
    assert "there is no branch 'high_l'; to make it: gradient switch -c high_l REV" in err
    assert "Nearest: high_lr." in err
    call("switch", "a..b", code=2)
    call("switch", "high_lr", "main@50", code=2)
    assert history.reopen().head is None


def test_switch_creates_a_branch(history: PlainRepo) -> None:
    assert call("switch", "-c", "idea", "main@50").stdout == "on branch idea at step 50\n"
    assert history.reopen().tip("idea") == history.repo.resolve("main@50").oid
    assert history.reopen().head == "idea"
    call("switch", "-c", "high_lr", code=5)
    call("switch", "-c", "other", "gone@3", code=4)
    assert history.reopen().head == "idea"
    assert "other" not in history.reopen().branches()
