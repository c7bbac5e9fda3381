"""Automatic maintenance: it follows the rules, keeps its interval and never delays the run."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gradient import ConfigError, GradientConfig, Keep
from gradient.engine import auto_maintenance
from gradient.engine.auto_maintenance import AutoMaintenance
from gradient.engine.maintenance_worker import maintain
from gradient.maintenance.fsck.check import check
from gradient.maintenance.lock import exclusive
from gradient.repo.repository import Repository
from tests.engine.training_rig import Rig, assert_same, config, trained

ROOT = Path(__file__).resolve().parents[2]


def opened() -> Repository:
    return Repository.open("work/run", workers=1)


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for another process."""
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def rounds(engine: object) -> AutoMaintenance:
    found = engine._session.maintenance  # type: ignore[attr-defined]
    assert isinstance(found, AutoMaintenance)
    return found


def whole() -> list[int]:
    repo = opened()
    dropped = repo.dropped()
    return [commit.step for oid, commit in repo.line("main") if oid not in dropped][::-1]


@pytest.mark.parametrize("background", [False, True])
def test_the_rules_are_kept_to_as_the_run_goes_on(background: bool) -> None:
    rig = Rig()
    settings = config(
        keep=Keep(last=2, every=10, grace="0"),
        maintenance=6,
        background=background,
        view="full",
    )
    with rig.attach(config=settings) as engine:
        rig.train(engine, *range(1, 7))
        engine.flush()
        until(lambda: whole() == [5, 6], "the rules")
        until(lambda: not Path("work/run/ckpt_main_s1.pt").exists(), "the view")
        until(lambda: not rounds(engine)._running, "the round")
        rig.train(engine, *range(7, 13))
        engine.flush()
        until(lambda: whole() == [10, 11, 12], "the rules, again")
        expected = rig.state()
    assert check("work/run", workers=1).is_sound
    other = Rig()
    with other.attach(resume="latest"):
        assert_same(other.state(), expected)


def test_what_earlier_runs_left_is_looked_after() -> None:
    trained(*range(1, 5))[1].close()
    rig = Rig()
    settings = config(keep=Keep(last=1), maintenance=5)
    with rig.attach(config=settings, resume="latest") as engine:
        rig.train(engine, 5)
        until(lambda: whole() == [5], "the rules")


def test_it_can_be_switched_off() -> None:
    rig = Rig()
    with rig.attach(config=config(maintenance=0)) as engine:
        rig.train(engine, 1, 2)
        found = rounds(engine)
        found._due = 10**6
        found.committed()
        assert not found._running
    with rig.attach(config=config(), resume="latest") as engine:
        assert rounds(engine)._every == auto_maintenance.EVERY
    with rig.attach(config=config(keep=Keep(last=3)), resume="latest") as engine:
        assert rounds(engine)._every == auto_maintenance.EVERY_KEPT


@pytest.mark.parametrize(
    "settings",
    [{"keep": "last"}, {"keep": {"last": 5}}, {"maintenance": -1}, {"maintenance": True}],
)
def test_settings_that_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        GradientConfig(**settings)  # type: ignore[arg-type]


def test_rules_without_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="keep needs maintenance"):
        GradientConfig(keep=Keep(last=5), maintenance=0)


def test_a_failure_is_logged_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(auto_maintenance, "_CHILD", "raise SystemExit('no such luck')")
    rig = Rig()
    with rig.attach(config=config(maintenance=1)) as engine:
        rig.train(engine, 1)
        until(lambda: "no such luck" in caplog.text, "the failure")
        rig.train(engine, 2)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with rig.attach(config=config(maintenance=1), resume="latest") as engine:
        rig.train(engine, 3)
        until(lambda: "maintenance of the repo failed: " in caplog.text, "the missing program")
    assert whole() == [1, 2, 3]


def test_a_round_says_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    """And ends well: a thread of it that waits must not keep the interpreter from ending."""
    caplog.set_level(logging.INFO)
    rig = Rig()
    with rig.attach(config=config(maintenance=1)) as engine:
        rig.train(engine, 1)
        until(lambda: "maintained" in caplog.text, "the round")
    assert "maintained the repo: 0 commits forgotten" in caplog.text


def test_closing_ends_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(auto_maintenance, "_CHILD", "import time; time.sleep(600)")
    rig = Rig()
    engine = rig.attach(config=config(maintenance=1))
    rig.train(engine, 1)
    found = rounds(engine)
    until(lambda: found._child is not None, "the child")
    child = found._child
    assert child is not None
    engine.close()
    assert child.wait(60) == -signal.SIGTERM
    until(lambda: not found._running, "the round")
    found.committed()
    assert not found._running
    assert caplog.text == ""


SCRIPT = """
import os, sys, time
from gradient.repo.repository import Repository
from gradient.engine import auto_maintenance
auto_maintenance._CHILD = (
    "import sys, time; sys.path.insert(0, sys.argv[1]); "
    "from gradient.engine import maintenance_worker as worker; "
    "worker.maintain = lambda *_: time.sleep(600); worker.main(sys.argv[2], sys.argv[3])"
)
repo = Repository.open("work/run", workers=1)
found = auto_maintenance.AutoMaintenance(repo, None, 1)
found.committed()
while found._child is None:
    time.sleep(0.01)
print(found._child.pid, flush=True)
if sys.argv[1] == "killed":
    time.sleep(600)
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_it_does_not_outlive_its_process(how: str) -> None:
    trained(1)[1].close()
    # The child has no end of its own.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout is not None
    number = int(process.stdout.readline())
    if how == "killed":
        process.kill()
    process.wait(60)
    process.stdout.close()
    until(lambda: not runs(number), "the child")
    assert check("work/run", workers=1).is_sound


def runs(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_two_do_not_get_in_each_others_way() -> None:
    trained(1, 2)[1].close()
    with exclusive(opened().storage):
        assert maintain("work/run", Keep(last=1)) == "another process collects garbage already"
    assert maintain("work/run", Keep(last=1)).startswith("0 commits forgotten, ")
    assert maintain("work/run", None).startswith("0 commits forgotten, ")


def test_a_forked_child_begins_none() -> None:
    rig = Rig()
    with rig.attach(config=config(maintenance=1)) as engine:
        found = rounds(engine)
        until(lambda: not found._running, "nothing")
        pid = os.fork()
        if not pid:
            engine.close()  # harmless: it ends nothing of the parent's
            os._exit(0 if not found._ended else 1)
        assert os.waitpid(pid, 0)[1] == 0
        rig.train(engine, 1)
        until(lambda: not found._running, "the round")
    assert not [each for each in threading.enumerate() if each.name == "gradient-upkeep"]
