"""SIGKILL during every operation that changes a repo.

One process is killed before each call to the file system of each operation. Others run random
operations and are killed at random moments; each continues with the repo that the last one left.
After each kill, another process must find all acknowledged commits bit for bit, and a possible
state of the interrupted operation, without a repair; and `fsck` must report no damage.

    python -m tools.campaigns.kills --kills 100000
    python -m tools.campaigns.kills --kills 500 --training      with engines, so with torch
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from gradient.storage import fs
from tools.campaigns.operations import MAIN, Operation
from tools.campaigns.oracle import (
    Client,
    Inspector,
    Refs,
    ViolationError,
    WriteLog,
    allowed,
    scratch_folder,
)
from tools.campaigns.scenario import STORE, Scenario

_MAX_CLIENTS: Final = 25
"""The number of clients, and of commits, after which a repo is replaced by a new one."""
_MAX_COMMITS: Final = 12
READING: Final = frozenset({"open", "read", "list", "inspect", "measure", "close", "lock"})
"""The calls that change nothing on the disk."""
_OPERATIONS: Final = 2
"""The number of operations of a client that is not killed."""


class Campaign:
    """Kills in one scenario, counted by the operation that they hit."""

    def __init__(self, scenario: Scenario, folder: Path, seed: int = 0) -> None:
        self.scenario = scenario
        self.killed: Counter[str] = Counter()
        """The kills before calls, by operation, and the kills at random moments, by whether an
        operation was running."""
        self._folder = folder
        self._chance = random.Random(seed)
        self._model = folder / "model"
        path, self._refs = scenario.make(self._model)
        self._inside = path.relative_to(self._model)

    def before_every_call(self, name: str, *, stride: int = 1, first: int = 0) -> None:
        """Kill an operation before each of its calls, or before each `stride`th call."""
        call = first % stride
        while True:
            path, inspector = self._world()
            act = self.scenario.operations[name]
            status, said = run_client(partial(_act, path, self._refs, name, act, call))
            refs = inspector.inspect(allowed(self._refs, said), said)
            if status == 0:
                return
            self.killed[name] += 1
            client = Client(path, refs, lambda _: None)
            for after in (act, self.scenario.operations["commit"]):
                after(client)
            inspector.inspect([client.refs])
            call += stride

    def at_random(self, kills: int) -> None:
        """Kill clients at random moments until `kills` of them were killed."""
        window, done = 0.02, 0
        while done < kills:
            path, inspector = self._world()
            refs = self._refs
            for _ in range(_MAX_CLIENTS):
                seed = self._chance.random()
                operations = list(self.scenario.operations.values())
                acts = self._chance.choices(operations, k=_OPERATIONS)
                delay = self._chance.uniform(0, window)
                status, said = run_client(partial(_go_through, path, refs, seed, acts), delay)
                done += status != 0
                middle = bool(said) and said[-1].startswith('["trying"')
                self.killed["in the middle" if middle else "in between"] += status != 0
                # Adapt to the speed of the machine: hit all parts, and do not miss.
                window *= 1.1 if status else 0.8
                refs = inspector.inspect(allowed(refs, said), said)
                if done and done % 5000 == 0:
                    print(f"{done:,} kills at random moments", flush=True)
                if done >= kills or len(refs[MAIN]) > _MAX_COMMITS:
                    break

    def _world(self) -> tuple[Path, Inspector]:
        world = self._folder / "world"
        shutil.rmtree(world, ignore_errors=True)
        shutil.copytree(self._model, world)
        return world / self._inside, Inspector(world / self._inside, self.scenario.judge)


def run_client(
    work: Callable[[WriteLog], object], delay: float | None = None
) -> tuple[int, list[str]]:
    """Run `work` in a child process; return 0 or -SIGKILL, and the log.

    With `delay`, the child is killed after that many seconds. Raises ViolationError if it fails.
    """
    here, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(here)
        _run_child(work, theirs)
    os.close(theirs)
    with os.fdopen(here, "rb") as heard:
        heard.readline()
        if delay is not None:
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
        said = heard.read().decode().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise ViolationError("\n".join(["a client failed", *said]))
    return status, said


def _run_child(work: Callable[[WriteLog], object], pipe: int) -> None:
    try:
        os.write(pipe, b"born\n")
        work(lambda line: os.write(pipe, line.encode() + b"\n"))
    except BaseException:  # noqa: BLE001 - told to the parent, which raises
        os.write(pipe, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


def _act(path: Path, refs: Refs, name: str, act: Operation, call: int, say: WriteLog) -> None:
    """Run one operation and kill the process before a call."""
    fs.calls.observer = Death(call)
    act(Client(path, refs, say, name))


def _go_through(path: Path, refs: Refs, seed: float, acts: list[Operation], say: WriteLog) -> None:
    client = Client(path, refs, say, seed)
    for act in acts:
        act(client)


class Death:
    """Kills the process before a call that changes something; other calls are ignored."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __call__(self, call: fs.Call) -> None:
        """Count a call, or kill this process."""
        if call.operation not in READING:
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            self._left -= 1


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print the number of kills; raises ViolationError."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.kills")
    parser.add_argument("--kills", type=int, default=1000, help="at random moments (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="which moments (default 0)")
    parser.add_argument(
        "--stride", type=int, default=1, help="kill before each Nth call; 0: at no call (default 1)"
    )
    parser.add_argument("--training", action="store_true", help="kill engines, which need torch")
    parser.add_argument("--folder", default=scratch_folder(), help="where the repos lie")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        campaign = Campaign(_scenario(options.training), Path(scratch), options.seed)
        try:
            for number, name in enumerate(campaign.scenario.operations if options.stride else ()):
                campaign.before_every_call(name, stride=options.stride, first=number)
                print(f"{name}: killed {campaign.killed[name]} times", flush=True)
            campaign.at_random(options.kills)
        except ViolationError:
            kept = shutil.copytree(Path(scratch) / "world", tempfile.mkdtemp(), dirs_exist_ok=True)
            print(f"what was found is kept in {kept}", flush=True)
            raise
    middle, between = campaign.killed["in the middle"], campaign.killed["in between"]
    total, seconds = campaign.killed.total(), time.monotonic() - begun
    print(
        f"{total:,} kills ({total - middle - between:,} before calls, at random moments {middle:,} "
        f"in the middle of an operation and {between:,} between two) in {seconds:.0f} s, nothing "
        f"lost; Python {platform.python_version()}"
    )
    return 0


def _scenario(training: bool) -> Scenario:
    if not training:
        return STORE
    module: Any = importlib.import_module("tools.campaigns.training")
    scenario: Scenario = module.SCENARIO
    return scenario


if __name__ == "__main__":
    logging.getLogger("gradient").setLevel(logging.CRITICAL)  # what it warns of is asked for here
    sys.exit(main())
