"""One process that saves with one system: told what to do, it answers with figures.

The process is forked from a server that has imported torch and nothing of any system. Restores
happen in a further fresh process each, as a script that resumes is one.
"""

from __future__ import annotations

import copy
import os
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3

from tools.bench import gpt
from tools.bench.gradients import OURS, PUBLISHED, Published
from tools.bench.systems import OTHERS, System
from tools.bench.workloads import WORKLOADS, Run, snapshot_path


@dataclass(frozen=True)
class Place:
    """Where one system does one workload."""

    workload: str
    system: str
    megabytes: int
    """Bytes of the state, about."""
    scratch: Path
    """What is shared by all systems: the real run's states."""
    folder: Path
    """What this system writes."""
    durable: bool
    """Whether syncs reach the disk."""
    published: str = ""
    """Where the published package lies."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint that was made."""

    blocked: float
    durable: float
    written: int
    """Bytes that the folder grew by."""
    memory: int | None
    """Peak of the process's memory over what it was before the first checkpoint, so that buffers
    which a system keeps count; None where it is not known."""
    digest: str
    """Of the state that was saved."""


@dataclass(frozen=True)
class Restored:
    """One restore into a fresh process."""

    seconds: float
    digest: str
    """Of the live objects afterwards."""


def serve(connection: Connection) -> None:
    """Answer until the other side hangs up; an error is an answer too."""
    session: _Session | None = None
    while True:
        try:
            verb, argument = connection.recv()
        except EOFError:
            if session is not None:
                session.close()
            return
        try:
            if verb == "begin":
                session = _Session(argument)
                answer: Any = session.run.nbytes, session.run.trained
            elif verb == "restore":
                answer = restore(*argument)
            elif verb == "train":
                train(*argument)
                answer = None
            elif session is None:
                raise RuntimeError(f"{verb} before begin")
            else:
                answer = {
                    "save": session.save,
                    "deepcopy": session.deepcopy,
                    "hash": session.hash,
                }[verb](argument)
        except Exception as error:  # noqa: BLE001 - a system that fails is a result
            answer = f"{type(error).__name__}: {error}".splitlines()[0]
        connection.send(answer)


class _Session:
    """A run, and the system that saves it."""

    def __init__(self, place: Place) -> None:
        _settle(place)
        place.folder.mkdir(parents=True)
        self._place = place
        self._workload = WORKLOADS[place.workload]
        self.run = self._workload.build(place.megabytes, place.scratch)
        self._workload.begin(self.run, place.scratch)
        self._system = _system(place)
        self._system.open(self.run)
        self._held: int | None = None

    def save(self, number: int) -> Checkpoint:
        """Move on to checkpoint `number`, and save it."""
        if number:
            self._workload.advance(self.run, number, self._place.scratch)
        act = self._system.fork if number and self._workload.forks else self._system.save
        before = _bytes_under(self._place.folder)
        if not self._place.durable:
            os.sync()  # nobody waits for the bytes that another left in the page cache
        held = _reset_peak()
        if self._held is None:
            self._held = held
        saved = act(self.run, number)
        peak = _memory("VmHWM")
        memory = None if self._held is None or peak is None else peak - self._held
        written = _bytes_under(self._place.folder) - before
        return Checkpoint(saved.blocked, saved.durable, written, memory, self.run.digest())

    def deepcopy(self, _: object) -> float:
        """Return the seconds that a plain copy of both state dicts takes."""
        return _timed(lambda: copy.deepcopy(self.run.state_dict()))

    def hash(self, _: object) -> float:
        """Return the seconds that BLAKE3 of all tensors takes, on one core."""

        def digest() -> None:
            for _, value in self.run.tensors():
                flat = value.detach().contiguous().flatten().view(torch.uint8)
                blake3(flat.numpy().data).digest()

        return _timed(digest)

    def close(self) -> None:
        """Let the system finish."""
        self._system.close()


def restore(place: Place, number: int) -> Restored:
    """Restore into a run that has just been constructed."""
    _settle(place)
    run = WORKLOADS[place.workload].build(place.megabytes, place.scratch)
    system = _system(place)
    system.open(run)
    seconds = _timed(lambda: system.restore(run, number))
    return Restored(seconds, run.digest())


def train(shape: gpt.Shape, dtype: str, steps: list[int], scratch: Path) -> None:
    """Train the real run once, and keep its state after the steps named."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    torch.save(vars(shape), scratch / "shape.pt")
    for step, model, optimizer in gpt.train(shape, kind, max(steps)):
        if step in steps:
            state = Run(model, optimizer).state_dict()
            torch.save(state, snapshot_path(scratch, dtype, step))


def _settle(place: Place) -> None:
    warnings.simplefilter("ignore")  # what systems say about themselves is not what is measured
    if not place.durable:
        os.fsync = os.fdatasync = lambda fd: None


def _system(place: Place) -> System:
    if place.system == PUBLISHED:
        Published.place = place.published
        return Published(place.folder)
    return {**OTHERS, **OURS}[place.system](place.folder)


def _timed(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def _bytes_under(folder: Path) -> int:
    files = (path.lstat() for path in folder.rglob("*") if path.is_file())
    return sum(facts.st_size for facts in files)


def _reset_peak() -> int | None:
    """Begin a new peak of the process's memory, and return what it holds now (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(field: str) -> int | None:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return None if found is None else int(found[1]) << 10
