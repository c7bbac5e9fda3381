from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradient.cli.commit_format import JSON_FIELDS
from gradient.objects.oid import Oid
from tests.cli.command import call
from tests.cli.plain_repo import STATE_BYTES

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo


def forget(box: PlainRepo, step: int, drop: list[str] | None = None) -> Oid:
    (oid,) = (oid for oid, commit in box.repo.line("main") if commit.step == step)
    box.repo.retention.append([oid], drop=drop, policy="--keep-last 1")
    return oid


def test_the_log_dims_forgotten_commits(history: PlainRepo) -> None:
    forget(history, 0)
    forget(history, 50, ["model"])
    lines = call("log", "--oneline").output.splitlines()
    assert "main@50  (without model)" in lines[1]
    assert "main@0  (forgotten)" in lines[2]
    text = call("log").output
    assert "kept     forgotten since 20" in text
    assert ": gradient forget --keep-last 1" in text
    commits = json.loads(call("log", "--json").output)["commits"]
    assert [each["forgotten"] and each["forgotten"]["components"] for each in commits] == [
        None,
        ["model"],
        None,
    ]
    assert commits[0]["forgotten"] is None
    assert commits[2]["forgotten"]["policy"] == "--keep-last 1"
    assert all(f"`{name}`" in JSON_FIELDS for name in commits[0])


def test_commands_that_need_the_state_name_the_policy(history: PlainRepo) -> None:
    forget(history, 0)
    shown = json.loads(call("show", "main@0", "--json").output)
    assert shown["components"] == {}
    for words in (
        ("resume", "main@0"),
        ("fork", "main@0", "side"),
        ("ls-tree", "main@0"),
        ("merge", "--average", "main@0", "main@50", "-b", "soup"),
        ("verify", "main@0..main@50", "--", "true"),
        ("diff", "main@0", "main@50"),
        ("export", "main@0", "x.pt"),
        ("du", "main@0"),
    ):
        result = call(*words, code=4)
        assert "by: gradient forget --keep-last 1." in result.output, words
        assert "Nearest whole commit: main@50." in result.output, words
    call("du", "main@50")
    call("show", "main@50")
    call("status")
    call("metrics")


def test_forgotten_state_has_no_size(history: PlainRepo) -> None:
    def sizes() -> tuple[int, int, int]:
        status = json.loads(call("status", "--json").output)
        (branch,) = (
            each
            for each in json.loads(call("du", "--json").output)["branches"]
            if each["name"] == "main"
        )
        return status["checkpoints"], status["represented_bytes"], branch["represented_bytes"]

    commits, represented, on_main = sizes()
    forget(history, 0)
    assert sizes() == (commits, represented - STATE_BYTES, on_main - STATE_BYTES)


def test_the_launch_environment_resets_the_optimizer(history: PlainRepo) -> None:
    forget(history, 50, ["optimizer"])
    assert "the optimizer of main@50" in call("resume", "main@50", code=4).output
    printed = call("resume", "--reset-optimizer", "main@50")
    assert "export GRADIENT_RESET_OPTIMIZER=1" in printed.stdout
    assert "gradient resume --reset-optimizer main@50 -- CMD" in printed.stderr
    printed = call("resume", "main@100", GRADIENT_RESET_OPTIMIZER="1")
    assert "unset GRADIENT_RESET_OPTIMIZER" in printed.stdout
