"""`gradient verify` with real training in real processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gradient.cli import verify as verify_command
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from tests.cli.command import ROOT, call, finish, spawn

TRAIN = """
import os, sys, time
sys.path.insert(0, {root!r})
import torch
from gradient import GradientEngine
import warnings
warnings.simplefilter("ignore")

torch.manual_seed(7)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
engine = GradientEngine.attach(model, optimizer)
for step in engine.steps(int(os.environ.get("STOP", "6"))):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    {extra}
    loss.backward()
    optimizer.step()
    if step % 2 == 0:
        engine.commit(step)
if os.environ.get("LINGER"):
    print("lingering", flush=True)
    time.sleep(600)
"""


def script(extra: str = "pass") -> list[str]:
    Path("train.py").write_text(TRAIN.format(root=str(ROOT), extra=extra), encoding="utf-8")
    return ["--", sys.executable, "train.py"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repo with three commits of a run that depends only on its state."""
    folder = tmp_path_factory.mktemp("verify")
    workspace = folder / "ws"
    init_workspace(workspace)
    create_repo(workspace / "gpt", workspace_path=workspace)
    text = TRAIN.format(root=str(ROOT), extra="pass")
    (folder / "train.py").write_text(text, encoding="utf-8")
    words = ["-C", str(folder), "run", "--", sys.executable, str(folder / "train.py")]
    finish(spawn(*words, env=environment(HOME=str(folder))))
    return workspace


def verify(workspace: Path, revs: str, words: list[str], *, code: int = 0, **more: str) -> Any:
    process = spawn("-w", str(workspace), "verify", revs, "--json", *words, env=environment(**more))
    out, err = finish(process, code=code)
    assert sorted(Repository.open(workspace / "gpt").branches()) == ["main"]
    return json.loads(out) if out else err


def test_a_deterministic_run_is_bit_identical(trained: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = spawn(
        *("-w", str(trained), "verify", "main@2..main@6", "--scratch", str(scratch)),
        *script(),
        env=environment(LINGER="1"),
    )
    out, err = finish(process)
    assert out.startswith("bit-identical: from main@2")
    assert list(scratch.iterdir()) == []
    assert "Traceback" not in err


def test_a_run_that_reads_the_clock_differs(trained: Path) -> None:
    facts = verify(
        trained,
        "main@2..main@6",
        script("loss = loss * (1 + time.time() % 1)"),
        code=1,
    )
    assert not facts["identical"]
    assert facts["first_differing_step"] == 4
    assert [each["name"] for each in facts["components"]] == ["model", "optimizer"]
    first = facts["components"][0]["tensors"][0]
    assert first["status"] == "changed"
    assert first["relative"] > 0
    assert any("the clock" in cause or "are small" in cause for cause in facts["causes"])


def test_other_random_numbers_are_named_as_the_cause(trained: Path) -> None:
    process = spawn(
        *("-w", str(trained), "verify", "main@4..main@6"),
        *script("torch.randn(1)"),
        env=environment(),
    )
    out, _ = finish(process, code=1)
    assert out.startswith("differs from main@6")
    assert "\nrng\n" in out
    assert "the generators differ as well" in out


def test_another_number_of_threads_is_named(trained: Path) -> None:
    extra = "torch.set_num_threads(1)"
    Path("train.py").write_text(TRAIN.format(root=str(ROOT), extra=extra), encoding="utf-8")
    words = ["--", sys.executable, "train.py"]
    text = Path("train.py").read_text().replace("torch.manual_seed(7)", "torch.set_num_threads(2)")
    Path("train.py").write_text(text.replace("loss.backward()", "(loss * 1.0001).backward()"))
    facts = verify(trained, "main@4..main@6", words, code=1)
    assert "threads was 1, and is 2 now" in facts["causes"][0]


def test_a_command_that_stops_too_early_proves_nothing(trained: Path) -> None:
    printed = verify(trained, "main@2..main@6", script(), code=4, STOP="4")
    assert "the command exited with 0 before it committed step 6" in printed


@pytest.mark.parametrize(
    ("revs", "code", "reason"),
    [
        ("main@2", 2, "is not a range"),
        ("main@6..main@2", 5, "in its history"),
        ("main@2..main@7", 4, "no step 7"),
    ],
)
def test_ranges_go_forward_in_one_history(trained: Path, revs: str, code: int, reason: str) -> None:
    done = call("-w", str(trained), "verify", revs, "--", sys.executable, code=code)
    assert reason in done.output


def test_a_command_is_needed(trained: Path) -> None:
    call("-w", str(trained), "verify", "main@2..main@4", code=2)
    call("-w", str(trained), "verify", "main@2..main@4", "--", "./absent", code=2)


def test_a_command_that_does_not_end_is_killed_with_its_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify_command, "GRACE_SECONDS", 0.05)
    Path("stubborn.sh").write_text("trap '' TERM\nsleep 600 &\necho $! > child\nwait\nsleep 600\n")
    child = Path("child")

    def done() -> bool:
        return child.exists() and bool(child.read_text())

    assert verify_command._run_until(["sh", "stubborn.sh"], dict(os.environ), done) is None
    wait_for_end(int(child.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_too_and_leaves_no_scratch_repo(
    trained: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """The command has a session of its own, so it would outlive this process."""
    Path("pid").unlink(missing_ok=True)
    waiting = (
        "import os, time; print(os.getpid(), file=open('pid', 'w'), flush=True); time.sleep(600)"
    )
    words = ["verify", "main@2..main@4", "--scratch", str(tmp_path), "--"]
    process = spawn("-w", str(trained), *words, sys.executable, "-c", waiting)
    while not (Path("pid").exists() and Path("pid").read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    finish(process, code=128 + number)
    wait_for_end(int(Path("pid").read_text()))
    assert not [*tmp_path.glob("gradient-verify-*")]


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not a child of this one has ended."""
    while True:
        try:
            if Path("/proc", str(pid), "stat").read_text().split()[2] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.01)
