from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradient.cli import launch
from gradient.engine.fork_options import ForkOptions
from gradient.engine.launch_env import OWNED, LaunchEnv
from tests.cli.command import ROOT, call, finish, spawn

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo

PRINT_ENVIRONMENT = (
    "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]))"
)

WAIT = """
import signal, sys, time
def note(number, frame):
    print("got", number, flush=True)
    if number == signal.SIGTERM: sys.exit(7)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, note)
print("ready", flush=True)
while True: time.sleep(0.01)
"""

TRAIN = """
import sys, torch
from gradient import GradientConfig, GradientEngine
torch.manual_seed(3)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
config = GradientConfig("again", "run", view="off")
engine = GradientEngine.attach(model, optimizer, config=config, resume="auto")
engine.handle_preemption()
for step in engine.steps(int(sys.argv[1])):
    optimizer.zero_grad()
    model(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    print("step", step, flush=True)
print(model.weight.detach().numpy().tobytes().hex())
"""

PYTHON = [sys.executable, "-c"]


def child_environment(out: str) -> dict[str, str]:
    environment: dict[str, str] = json.loads(out.splitlines()[-1])[2]
    return environment


def test_resume_sets_the_launch_environment(history: PlainRepo) -> None:
    words = ["resume", "main@50", "--", *PYTHON, PRINT_ENVIRONMENT, "--lr", "1", "--", "-w", "x"]
    user = {
        "GRADIENT_AUTOCOMMIT": "7",
        "GRADIENT_FORK": "{}",
        "GRADIENT_RESUME_REF": "gone@1",
        "MINE": "kept",
    }
    out, _ = finish(spawn(*words, env=user))
    folder, arguments, environment = json.loads(out)
    assert folder == str(Path.cwd())
    assert arguments == ["--lr", "1", "--", "-w", "x"]
    assert environment["MINE"] == "kept"
    handed = LaunchEnv.read(environment)
    assert (handed.workspace, handed.repo) == (str(history.workspace), "gpt")
    assert (handed.resume, handed.branch) == ("main@50", "main")
    assert (handed.autocommit, handed.fork) == (7, None)
    assert handed.id


def test_every_launch_has_an_id_of_its_own(history: PlainRepo) -> None:
    words = ["resume", "latest", "--", *PYTHON, PRINT_ENVIRONMENT]
    first, second = (child_environment(finish(spawn(*words))[0]) for _ in range(2))
    assert first["GRADIENT_HANDOFF_ID"] != second["GRADIENT_HANDOFF_ID"]


def test_fork_passes_all_its_options(history: PlainRepo) -> None:
    options = ["--reset-optimizer", "--reset-scheduler", "--reset-rng-seed", "0"]
    options += ["--set=lr=1e-2", "--set=eps=1", "--scale-lr", "10", "--no-strict", "-m", "hot"]
    words = ["fork", "main@50", "hot", *options, "--", *PYTHON, PRINT_ENVIRONMENT]
    handed = LaunchEnv.read(child_environment(finish(spawn(*words))[0]))
    assert (handed.resume, handed.branch) == ("main@50", "hot")
    assert handed.fork == ForkOptions(
        reset_optimizer=True,
        reset_scheduler=True,
        reset_rng_seed=0,
        set={"lr": 0.01, "eps": 1},
        scale_lr=10.0,
        strict=False,
        message="hot",
    )
    assert history.reopen().head is None
    assert "hot" not in history.reopen().branches()


def test_the_former_spellings_of_a_forks_options_still_work(history: PlainRepo) -> None:
    options = ["--seed", "7", "--partial"]
    words = ["fork", "main@50", "hot", *options, "--", *PYTHON, PRINT_ENVIRONMENT]
    handed = LaunchEnv.read(child_environment(finish(spawn(*words))[0]))
    assert handed.fork == ForkOptions(reset_rng_seed=7, strict=False)


def test_run_resumes_the_latest_commit(history: PlainRepo) -> None:
    words = ["run", "--autocommit", "5", "--", *PYTHON, PRINT_ENVIRONMENT]
    handed = LaunchEnv.read(child_environment(finish(spawn(*words))[0]))
    assert (handed.resume, handed.autocommit) == ("auto", 5)
    # The script chooses the repo when it attaches.
    assert (handed.workspace, handed.repo, handed.branch) == (None, None, None)


def test_run_passes_the_named_repo_and_branch(history: PlainRepo) -> None:
    words = ["-C", "ws", "run", "--branch", "exp", "--", *PYTHON, PRINT_ENVIRONMENT]
    handed = LaunchEnv.read(child_environment(finish(spawn(*words))[0]))
    assert (handed.workspace, handed.repo) == (str(history.workspace), "gpt")
    assert handed.branch == "exp"


def test_run_needs_no_repo() -> None:
    handed = LaunchEnv.read(
        child_environment(finish(spawn("run", "--", *PYTHON, PRINT_ENVIRONMENT))[0])
    )
    assert (handed.resume, handed.workspace) == ("auto", None)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["resume", "main@51"], 4),
        (["resume", "nobody"], 4),
        (["resume", "main@"], 2),
        (["resume", "main..x"], 2),
        (["fork", "main@51", "new"], 4),
        (["fork", "main@50", "high_lr"], 5),
        (["fork", "main@50", "HIGH_LR"], 2),
        (["fork", "main@50", "../x"], 2),
        (["fork", "main@50", "latest"], 2),
        (["fork", "main@50", "new", "--scale-lr", "0"], 2),
        (["fork", "main@50", "new", "--set", "lr"], 2),
        (["fork", "main@50", "new", "--set", "lr=fast"], 2),
        (["run", "--branch", "a..b"], 2),
        (["run", "--autocommit", "0"], 2),
    ],
)
def test_nothing_is_launched_for_invalid_arguments(
    words: list[str], code: int, history: PlainRepo
) -> None:
    call(*words, "--", "touch", "launched", code=code)
    assert not Path("launched").exists()


def test_a_launch_touches_nothing_in_another_programs_repo(empty_repo: PlainRepo) -> None:
    folder = empty_repo.workspace / "gpt" / ".gradient-repo"
    (folder / "config.json").write_text('{"name": "gpt", "repo_path": "/somewhere"}')
    before = sorted(folder.rglob("*"))
    call("run", "--", "true")
    assert sorted(folder.rglob("*")) == before
    refused = call("-r", "gpt", "run", "--", "touch", "launched", code=5)
    assert "gradient import" in refused.stderr
    assert not Path("launched").exists()


def test_a_missing_step_names_the_nearest(history: PlainRepo) -> None:
    assert "main@50" in call("resume", "main@49", "--", "true", code=4).stderr


def test_two_dashes_are_required_before_a_command(history: PlainRepo) -> None:
    assert "after --" in call("resume", "main@50", "python", code=2).stderr
    assert "no command follows" in call("resume", "main@50", "--", code=2).stderr
    assert "the command to run is missing" in call("run", code=2).stderr


@pytest.mark.parametrize("code", [0, 1, 3, 75, 255])
def test_the_exit_code_is_the_commands(code: int, history: PlainRepo) -> None:
    finish(spawn("resume", "latest", "--", "sh", "-c", f"exit {code}"), code)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_an_end_by_signal_is_128_and_its_number(number: signal.Signals, history: PlainRepo) -> None:
    words = ["resume", "latest", "--", "sh", "-c", f"kill -{number.value} $$"]
    _, err = finish(spawn(*words), 128 + number)
    assert "to go on: gradient resume latest -- sh -c" in err


def test_commands_that_cannot_be_run(history: PlainRepo) -> None:
    Path("plain").write_text("")
    finish(spawn("resume", "latest", "--", "no-such-command"), launch.NOT_FOUND)
    finish(spawn("resume", "latest", "--", "./plain"), launch.CANNOT_EXECUTE)
    _, err = finish(spawn("resume", "latest", "--", ""), launch.NOT_FOUND)
    assert "cannot run '': not a command" in err


def test_signals_are_passed_on_once(history: PlainRepo) -> None:
    # Its own group, as a scheduler starts it; the signals go to the one process.
    process = spawn("resume", "latest", "--", *PYTHON, WAIT, process_group=0)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
        assert process.stdout.readline() == f"got {number.value}\n"
    process.send_signal(signal.SIGTERM)
    out, _ = finish(process, 7)
    assert out == f"got {signal.SIGTERM.value}\n"


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_a_stopped_command_continues_undisturbed(seconds: float, history: PlainRepo) -> None:
    """Stop and continue the launcher as Ctrl-Z and fg do."""
    process = spawn("resume", "latest", "--", *PYTHON, WAIT, process_group=0)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == f"got {signal.SIGUSR1.value}\n"
    process.send_signal(signal.SIGTERM)
    out, err = finish(process, 7)
    assert out == f"got {signal.SIGTERM.value}\n"
    assert "Traceback" not in err


def test_a_preempted_run_is_requeued_and_resumes() -> None:
    """The signal goes only to the launcher, as it does if the launcher is a container's PID 1."""
    script = str(Path("train.py").absolute())
    Path(script).write_text(TRAIN)
    words = ["run", "--", sys.executable, script]
    process = spawn(*words, "1000000")
    assert process.stdout is not None
    assert process.stdout.readline() == "step 1\n"
    process.send_signal(signal.SIGTERM)
    out, err = finish(process, 75)
    last = int(["1", *out.split()][-1])
    assert f"preempted by SIGTERM: the run ends after step {last}" in err
    out, _ = finish(spawn(*words, str(last + 3)))
    *steps, weights = out.splitlines()
    assert steps == [f"step {step}" for step in range(last + 1, last + 4)]
    Path("undisturbed").mkdir()
    out, _ = finish(spawn(*words, str(last + 3), cwd="undisturbed"))
    assert out.splitlines()[0] == "step 1"
    assert out.splitlines()[-1] == weights


def test_ctrl_c_reaches_the_command_once(history: PlainRepo) -> None:
    """The terminal sends SIGINT to the whole group; passing it on would double it."""
    leader, follower = os.openpty()
    script = WAIT.replace("SIGTERM: sys.exit(7)", "SIGUSR1: sys.exit(7)")
    process = spawn(
        "resume",
        "latest",
        "--",
        *PYTHON,
        script,
        stdin=follower,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(follower)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.write(leader, b"\x03")
    assert process.stdout.readline() == "got 2\n"
    time.sleep(0.2)  # a second delivery would come now
    process.send_signal(signal.SIGUSR1)
    out, _ = finish(process, 7)
    os.close(leader)
    assert out == f"got {signal.SIGUSR1.value}\n"


def take_terminal() -> None:
    """Make stdin the controlling terminal of the new session."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_the_child_has_the_callers_signal_mask(history: PlainRepo) -> None:
    script = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    out, _ = finish(spawn("resume", "latest", "--", *PYTHON, script))
    assert out == "set()\n"


def test_this_process_is_left_as_it_was(history: PlainRepo) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGCHLD)
    assert launch.run(["true"], os.environ) == 0
    after = signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGCHLD)
    assert after == before


def test_the_end_of_a_child_is_noticed_if_another_thread_received_sigchld() -> None:
    """Threads that numpy starts do not block SIGCHLD, and the system may deliver it to one."""
    code = """
import os, threading, time
from gradient.cli import launch
threading.Thread(target=threading.Event().wait, daemon=True).start()
ask = os.waitpid
def slow(pid, options):
    os.waitpid = ask
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it ends before this process waits
    time.sleep(0.2)
    return 0, 0
os.waitpid = slow
os._exit(launch.run(["true"], os.environ))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0


def test_without_a_command_resume_prints_export_lines(history: PlainRepo) -> None:
    before = sorted(history.workspace.rglob("*"))
    result = call("resume", "main@50", GRADIENT_FORK="{}", GRADIENT_AUTOCOMMIT="3")
    assert result.stdout.splitlines() == [
        "unset GRADIENT_FORK",
        f"export GRADIENT_WORKSPACE={history.workspace}",
        "export GRADIENT_REPO=gpt",
        "export GRADIENT_BRANCH=main",
        "export GRADIENT_RESUME_REF=main@50",
    ]
    assert sorted(history.workspace.rglob("*")) == before


def test_the_environment_replaces_only_owned_variables() -> None:
    base = dict.fromkeys(OWNED, "old") | {"GRADIENT_AUTOCOMMIT": "3", "PATH": "p"}
    assert launch.environment(base, LaunchEnv(resume="auto")) == {
        "GRADIENT_RESUME_REF": "auto",
        "GRADIENT_AUTOCOMMIT": "3",
        "PATH": "p",
    }


FINE_TUNE = TRAIN.replace("engine.handle_preemption()", 'print("at", engine.branch)')


@pytest.mark.parametrize(
    ("outer", "first", "branch", "rate"),
    [
        (["fork", "main@2", "hot", "--scale-lr", "2"], 3, "hot", 0.02),
        (["resume", "main@2"], 3, "main", 0.01),
    ],
)
def test_run_in_a_job_script_continues_the_launch_around_it(
    outer: list[str], first: int, branch: str, rate: float
) -> None:
    """`gradient run` stands in a job script that is forked and resumed as a whole."""
    text = FINE_TUNE.replace('print("step", step', 'engine.commit(step); print("step", step')
    Path("train.py").write_text(text + 'print("lr", optimizer.param_groups[0]["lr"])\n')
    run = f"{sys.executable} -m gradient.cli.main run -- {sys.executable} train.py"
    Path("job.sh").write_text(f"{run} 4 && {run} 5\n")
    finish(spawn("run", "--", sys.executable, "train.py", "4"))
    # Twice in one launch, as a job with a loop does: the second run continues the first.
    out, _ = finish(spawn("-w", "again", *outer, "--", "sh", "job.sh"))
    lines = [line for line in out.splitlines() if line.partition(" ")[0] in ("at", "step", "lr")]
    steps = [f"step {step}" for step in range(first, 5)]
    place, rates = f"at {branch}", f"lr {rate}"
    assert lines == [place, *steps, rates, place, "step 5", rates]


def test_a_run_that_names_another_branch_is_a_launch_of_its_own(history: PlainRepo) -> None:
    inner = [sys.executable, "-m", "gradient.cli.main", "run", "--branch", "exp", "--"]
    out, _ = finish(spawn("resume", "main@50", "--", *inner, *PYTHON, PRINT_ENVIRONMENT))
    handed = LaunchEnv.read(child_environment(out))
    assert (handed.branch, handed.resume) == ("exp", "auto")


def test_a_run_that_names_another_repo_does_not_take_the_branch_of_the_launch_around_it(
    history: PlainRepo,
) -> None:
    inner = [sys.executable, "-m", "gradient.cli.main", "-w", "other", "-r", "more", "run", "--"]
    out, _ = finish(spawn("fork", "main@50", "hot", "--", *inner, *PYTHON, PRINT_ENVIRONMENT))
    handed = LaunchEnv.read(child_environment(out))
    assert (handed.branch, handed.resume, handed.repo) == (None, "auto", "more")


def test_nothing_needs_standard_output(history: PlainRepo) -> None:
    gradient = f'"{sys.executable}" -m gradient.cli.main'
    process = subprocess.run(
        ["sh", "-c", f"{gradient} resume latest -- sh -c 'exit 3' >&- 2>&-"], check=False
    )
    assert process.returncode == 3
