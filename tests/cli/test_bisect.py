from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from gradient.cli import bisect, launch
from gradient.repo.discovery import Location
from gradient.repo.repository import Repository
from tests.cli.command import ROOT, call, finish, spawn
from tests.cli.plain_repo import PlainRepo

CHECK = """
import os, sys
sys.path.insert(0, {root!r})
import torch
state = torch.load(os.environ["GRADIENT_BISECT_FILE"], weights_only=True)
print(os.environ["GRADIENT_BRANCH"], os.environ["GRADIENT_REPO"], os.environ["GRADIENT_RESUME_REF"])
sys.exit(1 if state["step"] >= 40 else 0)
"""


@pytest.fixture
def line(empty_repo: PlainRepo) -> PlainRepo:
    for step in range(0, 100, 10):
        empty_repo.commit("main", step, message=f"step {step}")
    return empty_repo


def script(text: str) -> list[str]:
    Path("check.py").write_text(text, encoding="utf-8")
    return ["--", sys.executable, "check.py"]


def by_counting(rule: str) -> list[str]:
    """Return a command without torch that reads the step of the commit."""
    steps = Path("steps")
    steps.write_text("")
    return script(
        "import os, sys, json\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from gradient.repo.repository import Repository\n"
        "place = os.path.join(os.environ['GRADIENT_WORKSPACE'], os.environ['GRADIENT_REPO'])\n"
        "step = Repository.open(place).resolve(os.environ['GRADIENT_RESUME_REF']).commit.step\n"
        "open('steps', 'a').write(f'{step} ')\n"
        "assert 'GRADIENT_BISECT_FILE' not in os.environ\n"
        f"sys.exit({rule})\n"
    )


def test_a_command_finds_the_first_bad_commit(line: PlainRepo) -> None:
    """With a real process, a real file, and torch."""
    call("bisect", "start", "main@90", "main@0")
    words = script(CHECK.format(root=str(ROOT)))
    out, err = finish(
        spawn("bisect", "run", *words, env={**os.environ, "GRADIENT_WORKSPACE": "ws"})
    )
    oids = [oid for oid, _ in line.reopen().line("main")][::-1]
    assert f"main@40 ({oids[4].short}) is the first bad commit" in out
    assert f"gradient diff {oids[3].short} {oids[4].short}" in out
    assert "100.0%" in out.partition("gradient diff")[2]
    assert f"bisect/{oids[4].short} gpt {oids[4]}" in out
    assert "main@30" in err
    assert line.reopen().branches() == ["main"]


@pytest.mark.parametrize(
    ("rule", "code", "expected"),
    [
        ("0 if step < 70 else 3", 0, "main@70"),
        ("125 if step == 40 else int(step > 40)", 1, "each of these may be"),
        ("130", 130, "no verdict"),
    ],
)
def test_exit_codes_are_verdicts(line: PlainRepo, rule: str, code: int, expected: str) -> None:
    call("bisect", "start", "main", "main@0")
    words = by_counting(rule)
    out, err = finish(spawn("bisect", "run", "--no-file", *words), code=code)
    assert expected in out + err
    assert len(Path("steps").read_text().split()) <= 5


def test_a_missing_command_gives_no_verdict(line: PlainRepo) -> None:
    call("bisect", "start", "main", "main@0")
    assert "not found" in call("bisect", "run", "--", "./absent", code=2).output
    assert "CMD" in call("bisect", "run", code=2).output
    assert len(json.loads(call("bisect", "log", "--json").stdout)["log"]) == 2


def test_by_hand(line: PlainRepo) -> None:
    assert "no search was started" in call("bisect", "log", code=4).output
    assert call("bisect", "start", "main", "main@0").stdout.startswith("next: main@40 ")
    assert call("bisect", "good").stdout.startswith("next: main@60 ")
    assert call("bisect", "skip").stdout.startswith("next: main@50 ")
    assert call("bisect", "bad", "main@60").stdout.startswith("next: main@50 ")
    done = call("bisect", "bad").stdout
    assert done.startswith("main@50 (")
    assert "is the first bad commit" in done
    assert "step 50" in done
    assert "is not between" in call("bisect", "good", "main@60", code=5).output
    shown = call("bisect", "log").stdout.splitlines()
    assert [row.split()[0] for row in shown] == ["bad", "good", "good", "skip", "bad", "bad"]
    assert "search ended" in call("bisect", "reset").stdout
    assert "no search" in call("bisect", "reset").stdout


def test_commits_of_the_command_set_no_branch_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from gradient.engine.engine import GradientEngine

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workspace = tmp_path / "ws"
    with GradientEngine.attach(model, optimizer, workspace=workspace, repo="gpt") as engine:
        for step in range(4):
            engine.commit(step)
    place = Location(str(workspace), str(workspace / "gpt"))
    repo = Repository.open(place.repo)
    oid = repo.resolve("main@1").oid
    judged: list[int] = []

    def run(words: list[str], environ: dict[str, str], heard: list[int]) -> int:
        with monkeypatch.context() as patched:
            for name in ("WORKSPACE", "REPO", "BRANCH", "RESUME_REF", "HANDOFF_ID"):
                patched.setenv(f"GRADIENT_{name}", environ[f"GRADIENT_{name}"])
            with GradientEngine.attach(model, optimizer) as engine:
                judged.append(engine.current_step)
                engine.commit(engine.current_step + 1)
        return 0

    monkeypatch.setattr(launch, "run", run)
    assert bisect._judge(repo, place, oid, ["train"], with_file=False) == 0
    again = Repository.open(place.repo)
    assert judged == [1]
    assert again.branches() == [f"bisect/{oid.short}", "main"]
    assert again.tip("main") == repo.tip("main")


def test_a_signal_stops_the_search_whatever_the_command_exits_with(line: PlainRepo) -> None:
    call("bisect", "start", "main", "main@0")
    words = script(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = spawn("bisect", "run", "--no-file", *words)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, code=128 + signal.SIGTERM)
    assert "no verdict" in err
    assert len(json.loads(call("bisect", "log", "--json").stdout)["log"]) == 2
