"""Training loops for the tests to end by a signal, each in a process of its own."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from gradient import GradientEngine
from gradient.repo.config import OnFull
from gradient.storage import fs
from tests.engine.background_runs import settle
from tests.engine.training_rig import Rig, config
from tests.parity.digest import digest
from tests.storage.faults import Fault

FOR_EVER = 1_000_000


def note(step: int) -> None:
    """Tell the test that a step is over."""
    with Path("steps").open("a", encoding="utf-8") as file:
        file.write(f"{step}\n")


def train(loop: str, stop: int) -> None:
    """Train to a step, by one of the ways to write a loop, and commit it."""
    os.setsid()  # so that a test can signal this process and its children, as a scheduler does
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    rig = Rig()
    engine = rig.attach(config=config(background=loop == "background"), resume="auto")
    engine.handle_preemption()
    LOOPS[loop](rig, engine, stop)
    engine.commit(stop)
    engine.close()
    Path("end").write_text(digest(rig.model, rig.optimizer, rig.scheduler))


def bare(rig: Rig, engine: GradientEngine, stop: int) -> None:
    """Commit nothing but the end."""
    for step in engine.steps(stop):
        rig.step()
        note(step)


def committing(rig: Rig, engine: GradientEngine, stop: int) -> None:
    """Commit every third step, where the loop says so."""
    for step in engine.steps(stop):
        rig.step()
        note(step)
        if step % 3 == 0:
            engine.commit(step)


def autocommitting(rig: Rig, engine: GradientEngine, stop: int) -> None:
    """Leave it to the engine when to commit."""
    engine.autocommit(every=2)
    for step in range(engine.current_step + 1, stop + 1):
        rig.step()
        note(step)
        engine.maybe_commit(step)


def reading(rig: Rig, engine: GradientEngine, stop: int) -> None:
    """Read epochs of shuffled data by way of workers."""
    loader = engine.loader(DataLoader(data(), batch_size=4, shuffle=True, num_workers=2))
    step = engine.current_step
    for _ in engine.epochs(0, FOR_EVER):
        for (batch,) in loader:
            rig.optimizer.zero_grad()
            rig.model(batch).square().mean().backward()
            rig.optimizer.step()
            step += 1
            note(step)
            if step == stop:
                return
            engine.maybe_commit(step)


def data() -> TensorDataset:
    """Make the same rows in every process, without drawing from its generators."""
    return TensorDataset(torch.linspace(-1, 1, 80 * 4).sin().reshape(80, 4))


LOOPS = {
    "bare": bare,
    "committing": committing,
    "autocommitting": autocommitting,
    "background": autocommitting,
    "reading": reading,
}


def fail_before_the_signal(boundary: str, on_full: OnFull, *, lasting: bool) -> None:
    """Be told nothing of a commit that found a full disk; then the signal comes, and a boundary.

    Where it is `lasting`, the disk has no room either for what is committed at the end.
    """
    rig = Rig()
    engine = rig.attach(config=config(background=True, on_full=on_full))
    engine.handle_preemption()
    engine.autocommit(1)
    commit = engine.maybe_commit if boundary == "maybe_commit" else engine.commit
    for step in engine.steps(FOR_EVER) if boundary == "steps" else count(1):
        rig.step()
        Path("state").write_text(digest(rig.model, rig.optimizer, rig.scheduler))
        if step == 2:
            fs.calls.observer = Fault(0, errno.ENOSPC, persistent=True)
        revision = commit(step)
        assert revision is not None
        settle(revision)
        if step == 2:
            fs.calls.observer = fs.calls.observer if lasting else None
            Path("failed").touch()
            while not engine.preempted:
                time.sleep(0.001)


def be_two_ranks() -> None:
    """Train on two ranks; the second one alone gets the signal, in the middle of a step."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = os.fork()
    rank = 0 if child else 1
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(3)
    rig = Rig()
    engine = rig.attach()
    engine.handle_preemption()
    code = None
    try:
        for step in engine.steps(FOR_EVER):
            if rank == 1 and step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            rig.step()
            torch.distributed.all_reduce(torch.ones(1))
            Path(f"rank{rank}").write_text(str(step))
    except SystemExit as end:
        code = end.code
    if rank == 1:
        os._exit(code if isinstance(code, int) else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 75
    sys.exit(code)


def keep_workers(journal: Path) -> None:
    """End with workers that nobody told to: the interpreter ends them by the signal."""
    rig = Rig()
    engine = rig.attach()
    engine.handle_preemption()
    plain = DataLoader(data(), batch_size=4, num_workers=2, persistent_workers=True)
    loader = engine.loader(plain)
    batches = iter(loader)
    next(batches)
    sys.modules["kept"] = (engine, loader, batches)  # type: ignore[assignment]
    journal.write_text("read")
