"""Who does what, in turns: every system saves checkpoint n before any saves n + 1."""

from __future__ import annotations

import multiprocessing
import shutil
import statistics
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from tools.bench import gpt, worker
from tools.bench.worker import Checkpoint, Place, Restored
from tools.bench.workloads import DTYPES, WORKLOADS, real_steps

BASELINE: Final = "torch.save"
"""The system that all ratios are against."""

_PATIENCE: Final = 600

_IMPORTED: Final = ["tools.bench.worker", "gradient.engine.engine", "torch._dynamo"]
"""What each process begins with; the last is what an optimizer's first step imports."""


@dataclass(frozen=True)
class Plan:
    """What a run of the benchmark does."""

    workloads: list[str]
    systems: list[str]
    megabytes: int
    """Bytes of a state, about; the real run's are what its shape makes them."""
    rounds: int
    """Checkpoints after the first."""
    restores: int
    """Restores of the first checkpoint, and of the last."""
    shape: gpt.Shape
    """The real run's model."""
    scratch: Path
    """An empty folder on the disk that is measured."""
    published: str = ""
    """Where the published package lies."""


@dataclass
class Figures:
    """What one system did in one workload."""

    nbytes: int = 0
    """The bytes of the state."""
    trained: int = 0
    """The bytes of what is trained: parameters with a gradient, and their optimizer state."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    restored: dict[int, list[Restored]] = field(default_factory=dict)
    """Restores by number of the checkpoint."""
    error: str = ""
    """Why it ended early."""

    @property
    def later(self) -> list[Checkpoint]:
        """All checkpoints but the first."""
        return self.checkpoints[1:]

    def durable(self) -> float:
        """Median seconds until a later checkpoint was durable."""
        return statistics.median(each.durable for each in self.later)

    def blocked(self) -> float:
        """Median seconds that the caller waited for a later checkpoint."""
        return statistics.median(each.blocked for each in self.later)

    def first_bytes(self) -> int:
        """Bytes of the first checkpoint."""
        return self.checkpoints[0].written

    def later_bytes(self) -> float:
        """Mean bytes of a later one: what many of them cost."""
        return statistics.mean(each.written for each in self.later)

    def median_bytes(self) -> float:
        """Median bytes of a later one."""
        return statistics.median(each.written for each in self.later)

    def memory(self) -> float | None:
        """Median peak of memory over the state."""
        known = [each.memory for each in self.later if each.memory is not None]
        return statistics.median(known) if known else None

    def restore(self, *, first: bool) -> float | None:
        """Median seconds of restoring the first checkpoint, or the last."""
        number = 0 if first else len(self.checkpoints) - 1
        times = [each.seconds for each in self.restored.get(number, [])]
        return statistics.median(times) if times else None

    @property
    def exact(self) -> bool:
        """Whether every restore gave back every bit."""
        return not self.error and all(
            each.digest == self.checkpoints[number].digest
            for number, restores in self.restored.items()
            for each in restores
        )


@dataclass
class Outcome:
    """One workload's figures."""

    workload: str
    durable: bool
    """Whether syncs reached the disk."""
    figures: dict[str, Figures]
    """By system."""
    deepcopy: list[float]
    """Seconds of a plain copy of both state dicts."""
    hashing: list[float]
    """Seconds of hashing the state, on one core."""


class _Child:
    """A worker's other end."""

    def __init__(self, context: Any) -> None:
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=worker.serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, verb: str, argument: object = None) -> Any:
        """Return the answer; a string says what went wrong."""
        connection: Connection = self._connection
        try:
            connection.send((verb, argument))
            if connection.poll(_PATIENCE):
                return connection.recv()
        except (EOFError, OSError):
            return "the process ended"
        return f"no answer in {_PATIENCE} s"

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Bench:
    """Carries out a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_IMPORTED)

    def outcomes(self, names: Iterable[str], *, durable: bool) -> Iterator[Outcome]:
        """Do each workload with each system."""
        for name in names:
            yield self._workload(name, durable=durable)

    def train(self) -> None:
        """Make the states of the real run, where a workload needs them."""
        for dtype in DTYPES:
            steps = real_steps(dtype, self._plan.workloads)
            if steps:
                with self._child() as child:
                    answer = child.ask("train", (self._plan.shape, dtype, steps, self._scratch))
                if answer is not None:
                    raise RuntimeError(f"training the real run: {answer}")

    @property
    def _scratch(self) -> Path:
        return self._plan.scratch

    @contextmanager
    def _child(self) -> Iterator[_Child]:
        child = _Child(self._context)
        try:
            yield child
        finally:
            child.close()

    def _workload(self, name: str, *, durable: bool) -> Outcome:
        plan, workload = self._plan, WORKLOADS[name]
        outcome = Outcome(name, durable, {system: Figures() for system in plan.systems}, [], [])
        with ExitStack() as stack:
            children: dict[str, _Child] = {}
            places: dict[str, Place] = {}
            for number, system in enumerate(plan.systems):
                folder = self._scratch / f"{name}-{number}"
                places[system] = Place(
                    name, system, plan.megabytes, self._scratch, folder, durable, plan.published
                )
                children[system] = stack.enter_context(self._child())
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                _note(outcome.figures[system], children[system].ask("begin", places[system]))
            saves = workload.saves or plan.rounds
            for number in range(saves + 1):
                for system in _turns(plan.systems, number):
                    _progress(f"{name}: checkpoint {number} of {saves}, {system}")
                    if not outcome.figures[system].error:
                        _note(outcome.figures[system], children[system].ask("save", number))
                if BASELINE in children:
                    outcome.deepcopy.append(children[BASELINE].ask("deepcopy"))
                    outcome.hashing.append(children[BASELINE].ask("hash"))
            for child in children.values():
                child.close()  # the engines are closed by their processes' ends
            wanted = [0] if workload.forks else [0, saves]
            for turn in range(plan.restores):
                for system in _turns(plan.systems, turn):
                    _progress(f"{name}: restore {turn + 1} of {plan.restores}, {system}")
                    self._restore(outcome.figures[system], places[system], wanted)
        return outcome

    def _restore(self, figures: Figures, place: Place, numbers: Iterable[int]) -> None:
        for number in numbers:
            if figures.error:
                return
            # The reader's own attach may write beside the repo, never to it.
            with self._child() as child:
                answer = child.ask("restore", (replace(place, durable=False), number))
            if isinstance(answer, Restored):
                figures.restored.setdefault(number, []).append(answer)
            else:
                figures.error = str(answer)


def _note(figures: Figures, answer: object) -> None:
    if isinstance(answer, Checkpoint):
        figures.checkpoints.append(answer)
    elif isinstance(answer, tuple):
        figures.nbytes, figures.trained = answer
    else:
        figures.error = str(answer)


def _turns(systems: list[str], number: int) -> list[str]:
    """Return the systems, another one first each time."""
    begin = number % len(systems)
    return systems[begin:] + systems[:begin]


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
