"""A disk that has no room for a commit."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradient import ConfigError, GradientConfig, GradientEngine, GradientIOError
from gradient.engine.commit.commit_handle import Revision
from gradient.maintenance.fsck.check import check
from gradient.repo import failed_commits
from gradient.repo.config import OnFull
from gradient.repo.foreign_files import read_mark
from gradient.repo.repository import Repository
from gradient.storage import fs
from tests.engine.training_rig import Rig, assert_same, config, network
from tests.fork_server import ROOT
from tests.storage.faults import Fault, observed

BACKGROUND = pytest.mark.parametrize("background", [False, True])


def full() -> Any:
    return observed(Fault(3, errno.ENOSPC, persistent=True))


def steps() -> list[int]:
    return [commit.step for _, commit in Repository.open("work/run").line("main")][::-1]


def goes_on(rig: Rig, engine: Any, *expected: int) -> None:
    """The next commit is made, and what is resumed is what the run has."""
    rig.step()
    engine.commit(9)
    engine.flush()
    assert steps() == [*expected, 9]
    assert failed_commits.noted("work/run") == []
    state = rig.state()
    engine.close()
    again = Rig()
    with again.attach(config=config(), resume="latest"):
        assert_same(again.state(), state)
    assert check("work/run", workers=1).is_sound


@BACKGROUND
def test_the_error_says_how_to_make_room(background: bool) -> None:
    rig = Rig()
    engine = rig.attach(config=config(background=background))
    rig.train(engine, 1)
    engine.flush()
    with full(), pytest.raises(GradientIOError) as raised:
        engine.commit(2).wait()
    assert raised.value.errno == errno.ENOSPC
    notes = getattr(raised.value, "__notes__", [])
    assert any("gradient gc --grace 0" in note and "on_full" in note for note in notes)
    goes_on(rig, engine, 1)


@BACKGROUND
def test_a_commit_is_skipped_and_counted(
    background: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    engine = rig.attach(config=config(background=background, on_full="skip"))
    rig.train(engine, 1)
    engine.flush()
    for step in (2, 3):
        rig.step()
        with full():
            revision = engine.commit(step)
            revision.wait()
        assert revision.skipped
        assert revision.id == ""
        engine.flush()
        assert engine.current_step == 1
    assert "main@2 was skipped: cannot" in caplog.text
    repo = Repository.open("work/run")
    assert repo.tip("main") == repo.resolve("main@1").oid
    goes_on(rig, engine, 1)


@BACKGROUND
def test_the_numbers_of_a_skipped_commit_go_into_the_next(background: bool) -> None:
    rig = Rig()
    engine = rig.attach(config=config(background=background, on_full="skip", max_pending=2))
    rig.train(engine, 1)
    engine.flush()
    engine.log(loss=2.0, accuracy=0.2)
    with full():
        engine.commit(2, metrics={"val_loss": 2.5}).wait()
        engine.commit(3, metrics={"accuracy": 0.3}).wait()
    engine.log(loss=4.0)
    engine.commit(4)
    engine.commit(5)
    engine.flush()
    by_step = {c.step: dict(c.metrics) for _, c in Repository.open("work/run").line("main")}
    assert by_step[4] == {"loss": 4.0, "accuracy": 0.3, "val_loss": 2.5}
    assert by_step[5] == {}


def test_the_skipped_are_noted_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    with rig.attach(config=config(on_full="skip")) as engine:
        rig.train(engine, 1)
        with monkeypatch.context() as patch:
            patch.setattr(fs, "free_bytes", lambda path: 1000)
            for step in (2, 3):
                assert engine.commit(step).skipped
        (note,) = failed_commits.noted("work/run")
        assert (note.branch, note.step, note.how, note.skipped) == ("main", 3, "skipped", 2)
        assert "1,000 bytes are free" in note.reason
        goes_on(rig, engine, 1)


@BACKGROUND
def test_the_run_waits_for_room(background: bool, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    engine = rig.attach(config=config(background=background, on_full="wait"))
    rig.train(engine, 1)
    engine.flush()
    naps: list[float] = []
    fault = Fault(3, errno.EDQUOT, persistent=True)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            fs.calls.observer = None

    engine._session.disk_full.sleep = nap
    rig.step()
    with observed(fault):
        revision = engine.commit(2).wait()
    assert revision.id == str(Repository.open("work/run").tip("main"))
    assert naps == [1.0] * 10
    assert caplog.text.count("waits for free space") == 1
    assert caplog.text.count("the disk has free space again") == 1
    goes_on(rig, engine, 1, 2)


MOVES: dict[str, Callable[[GradientEngine], Revision]] = {
    "fork": lambda engine: engine.fork(from_ref="main@1", new_branch="other", scale_lr=0.5),
    "rollback": lambda engine: engine.rollback(scale_lr=0.5),
}
NEEDS_ROOM = {"write", "sync", "create", "rename", "link", "sync folder", "make folder"}


class NoRoom(Fault):
    """Refuses the calls that may need room, after some of them."""

    def __init__(self, after: int = 0) -> None:
        super().__init__(after, errno.ENOSPC, persistent=True)

    def __call__(self, call: fs.Call) -> int | None:
        return super().__call__(call) if call.operation in NEEDS_ROOM else None


MOVED = pytest.mark.parametrize("move", MOVES)


@MOVED
def test_a_fork_waits_for_room_wherever_there_is_none(move: str) -> None:
    number = waits = 0
    while True:
        rig = Rig()
        repo = f"{move}{number}"
        with rig.attach(config=config(repo_name=repo, on_full="wait")) as engine:
            rig.train(engine, 1, 2)
            fault = NoRoom(number)
            naps: list[float] = []

            def nap(seconds: float, naps: list[float] = naps) -> None:
                naps.append(seconds)
                fs.calls.observer = None

            engine._session.disk_full.sleep = nap
            with observed(fault):
                revision = MOVES[move](engine)
            if not fault.hits:
                break
            found = Repository.open(f"work/{repo}").resolve(revision)
            assert (str(found.oid), found.commit.step) == (revision.id, engine.current_step)
            waits += bool(naps)
            state = rig.state()
            rig.train(engine, 3)
            engine.resume(revision)
            assert_same(rig.state(), state)
        assert check(f"work/{repo}", workers=1).is_sound
        number += 1
    assert waits > 10


@MOVED
@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_fork_is_never_left_out(move: str, policy: OnFull) -> None:
    rig = Rig()
    engine = rig.attach(config=config(on_full=policy))
    rig.train(engine, 1, 2)
    rig.step()
    state = rig.state()
    with observed(NoRoom()), pytest.raises(GradientIOError) as raised:
        MOVES[move](engine)
    assert raised.value.errno == errno.ENOSPC
    assert any("on_full" in note for note in raised.value.__notes__)
    assert_same(rig.state(), state)
    assert Repository.open("work/run").branches() == ["main"]
    assert (engine.branch, engine.current_step) == ("main", 2)
    goes_on(rig, engine, 1, 2)


def test_a_rollback_is_the_commit_that_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    with rig.attach(config=config(on_full="skip")) as engine:
        rig.train(engine, 1)
        with monkeypatch.context() as patch:
            patch.setattr(fs, "free_bytes", lambda path: 1000)
            assert engine.commit(2).skipped
        assert len(failed_commits.noted("work/run")) == 1
        engine.rollback(scale_lr=0.5)
        assert failed_commits.noted("work/run") == []


def test_nothing_is_written_where_it_can_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    with rig.attach(config=config()) as engine:
        rig.train(engine, 1, 2)
        before = sorted(path for path in Path("work").rglob("*") if path.is_file())
        with monkeypatch.context() as patch:
            patch.setattr(fs, "free_bytes", lambda path: (256 << 10) + 100)
            with pytest.raises(
                GradientIOError,
                match=r"too few for a commit of at least [\d,]+ and a reserve of 262,144",
            ):
                engine.commit(3)
        after = {path for path in Path("work").rglob("*") if path.is_file()} - set(before)
        assert [path.parent.name for path in after] == ["missed"]
        engine.commit(3)


def test_a_first_large_commit_is_no_measure_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(network(3000))
    with rig.attach(config=config()) as engine:
        engine.commit(1)
        monkeypatch.setattr(fs, "free_bytes", lambda path: (256 << 10) + 2000)
        engine.commit(2)  # nothing has changed
    assert steps() == [1, 2]


@BACKGROUND
def test_a_run_that_is_to_end_does_not_wait(background: bool) -> None:
    rig = Rig()
    before = signal.getsignal(signal.SIGTERM)
    engine = rig.attach(config=config(background=background, on_full="wait"))
    engine.handle_preemption()
    rig.train(engine, 1)
    engine.flush()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        time.sleep(0.01)  # in the background the other thread notes the signal
        if len(naps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    engine._session.disk_full.sleep = nap
    with full(), pytest.raises(GradientIOError):
        engine.commit(2).wait()
    assert len(naps) < 100
    engine.close()
    assert signal.getsignal(signal.SIGTERM) == before
    assert steps() == [1]
    assert check("work/run", workers=1).is_sound


def test_a_process_that_ends_does_not_wait(tmp_path: Path) -> None:
    """Nobody would be there to make room, and nothing would end it."""
    script = tmp_path / "train.py"
    script.write_text(ENDING)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert steps() == [1]


ENDING = """
import torch
from gradient import GradientConfig, GradientEngine
from gradient.storage import fs

model = torch.nn.Linear(3, 3)
optimizer = torch.optim.AdamW(model.parameters())
config = GradientConfig("work", "run", on_full="wait", background=True)
engine = GradientEngine.attach(model, optimizer, config=config)
engine.commit(1).wait()
fs.free_bytes = lambda path: 1000
engine.commit(2)
"""


def test_other_errors_are_raised_at_once() -> None:
    rig = Rig()
    with rig.attach(config=config(on_full="wait")) as engine:
        with (
            observed(Fault(3, errno.EIO, persistent=True)),
            pytest.raises(GradientIOError, match="errno 5"),
        ):
            engine.commit(1)
        engine.commit(1)


def test_full_files_turn_thin_before_a_commit_is_given_up() -> None:
    rig = Rig()
    with rig.attach(config=config(view="full")) as engine:
        rig.train(engine, 1, 2)
        calls = 0

        def room(call: fs.Call) -> None:
            """Have no room for a pack, until the full files are gone."""
            nonlocal calls
            if call.operation == "write" and kinds().get("full"):
                calls += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with observed(room):
            rig.step()
            revision = engine.commit(3)
        assert calls == 1
        assert kinds() == {"thin": 3}
        assert revision == "main@3"
        rig.train(engine, 4, 5)  # which find room at once
        assert kinds() == {"thin": 3, "full": 2}
    assert steps() == [1, 2, 3, 4, 5]
    assert check("work/run", workers=1).is_sound


def test_a_full_file_that_does_not_fit_is_a_thin_one() -> None:
    rig = Rig(network(3000))
    with rig.attach(config=config(view="full")) as engine:

        def room(call: fs.Call) -> None:
            """Have room for anything but one large file beside the store."""
            if call.operation == "write" and "ckpt_main_s1.pt.tmp" in call.path:
                calls.append(call.path)
                if len(calls) == 1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        calls: list[str] = []
        with observed(room):
            rig.train(engine, 1)
        assert calls
        assert kinds() == {"thin": 1}
        rig.train(engine, 2)
    assert kinds() == {"thin": 1, "full": 1}


def kinds() -> dict[str, int]:
    found: dict[str, int] = {}
    observer, fs.calls.observer = fs.calls.observer, None
    for path in Path("work/run").glob("ckpt_*.pt"):
        mark = read_mark(str(path))
        if mark is not None:
            found[mark.kind] = found.get(mark.kind, 0) + 1
    fs.calls.observer = observer
    return found


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="on_full"):
        GradientConfig(on_full="stop")  # type: ignore[arg-type]


SCRIPT = """
import sys
from pathlib import Path
import torch
from gradient import GradientConfig, GradientEngine, GradientIOError
from gradient.engine.commit import disk_full

disk_full._INTERVAL = 2  # seconds between two attempts; ten otherwise
policy, disk = sys.argv[1], Path(sys.argv[2])
torch.manual_seed(0)
model = torch.nn.Linear(100, 300)
optimizer = torch.optim.AdamW(model.parameters())
config = GradientConfig(disk / "work", "run", on_full=policy, view="auto")
made, full = [], 0
with GradientEngine.attach(model, optimizer, config=config) as engine:
    for step in engine.steps(40):
        model(torch.randn(4, 100)).square().mean().backward()
        optimizer.step()
        try:
            revision = engine.commit(step)
        except GradientIOError as error:
            assert policy == "raise" and error.errno == 28, error
            full += 1
        else:
            full += revision.skipped
            made += [] if revision.skipped else [step]
        if full == 3 and (disk / "ballast").exists():
            (disk / "ballast").unlink()
assert full == 0 if policy == "wait" else full >= 3, full
print(*made)
"""


def train_on_a_small_disk(tmp_path: Path, policy: str, *, beside: str = "") -> tuple[str, str]:
    """Run the script on a disk of its own in memory, and `beside` it a line of shell.

    Returns what it wrote to standard output and error; what it committed was looked at.
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    inside = (
        f"mount -t tmpfs -o size=14m tmpfs {disk} && head -c 9000000 /dev/zero > {disk}/ballast && "
        f'{{ {beside} "{sys.executable}" {script} {policy} {disk} 2> {tmp_path}/said; }} && '
        f"cp -r {disk}/work {tmp_path}/kept"
    )
    probe = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True
    )
    if probe.returncode != 0:
        pytest.skip("this user may not mount a file system of its own")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=280,
    )
    said = (tmp_path / "said").read_text()
    assert done.returncode == 0, said
    made = [int(word) for word in done.stdout.split()]
    assert check(str(tmp_path / "kept/run"), workers=1).is_sound
    repo = Repository.open(str(tmp_path / "kept/run"))
    assert [commit.step for _, commit in repo.line("main")][::-1] == made
    assert made[-1] == 40
    return done.stdout, said


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_disk_that_is_really_full(policy: str, tmp_path: Path) -> None:
    """Some of the commits fit before, some after there is room again; each of them is whole."""
    printed, _ = train_on_a_small_disk(tmp_path, policy)
    assert 3 <= len(printed.split()) <= 37


def test_a_run_waits_while_another_process_makes_room(tmp_path: Path) -> None:
    free = (
        f"(until grep -q 'waits for free space' {tmp_path}/said; do sleep 0.1; done; "
        f"rm {tmp_path}/disk/ballast) 2> {tmp_path}/watcher & "
    )
    printed, said = train_on_a_small_disk(tmp_path, "wait", beside=free)
    assert printed.split() == [str(step) for step in range(1, 41)]
    assert said.count("The run waits for free space (on_full)") == 1
    assert said.count("the disk has free space again: the run continues") == 1
