"""Power cuts during every operation that changes a repo, and checks of the states they may leave.

A recorder stores each call to the file system. Data that was not synced may be lost: the content of
a file (it is then empty, zeros, truncated or whole) and each name in a folder, independently of
other names. Each state that a cut may leave after each call is written as files and checked as
after a kill: acknowledged commits are there bit for bit, `fsck` reports no damage, and the next
commit needs no preparation.

    python -m tools.campaigns.power             every operation
    python -m tools.campaigns.power --pairs     and every operation after every other
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias
from unittest import mock

import gradient
from gradient.storage import fs
from gradient.store import process_id
from tests.storage.faults import observed
from tools.campaigns.kills import READING
from tools.campaigns.oracle import Client, Inspector, ViolationError, allowed, scratch_folder
from tools.campaigns.scenario import STORE, Scenario

WRITTEN: Final = ("whole", "empty", "zeros", "cut")
_EXHAUSTIVE: Final = 8
"""With more unsynced names than this, only none, all, each one, and all but each one are tried."""
_PACKAGE: Final = str(Path(gradient.__file__).parent)

Site: TypeAlias = tuple[str, int]
"""A file of the package, and a line in it."""

State: TypeAlias = dict[str, bytes | None]
"""The state after a power cut: names to contents; None for a folder."""


@dataclass(frozen=True, slots=True)
class Event:
    """One call that changed something, or one line of the client's log."""

    operation: str
    path: str
    target: str = ""
    data: bytes = b""
    sites: frozenset[Site] = frozenset()
    """The place in the package that made the call."""


class Recorder:
    """An observer that records the calls below a folder."""

    def __init__(self, root: Path) -> None:
        self.events: list[Event] = []
        self._root = str(root)

    def __call__(self, call: fs.Call) -> None:
        """Record one call, unless it only reads."""
        if call.operation not in READING and call.path.startswith(self._root):
            data = b"".join(bytes(view) for view in call.data)
            names = self._name(call.path), self._name(call.target)
            self.events.append(Event(call.operation, *names, data, _sites()))

    def say(self, line: str) -> None:
        """Record a line of the client's log between the calls."""
        kind, *words = json.loads(line)
        if kind == "spoiled":
            path = words[0]
            self.events.append(Event("spoil", self._name(path), data=Path(path).read_bytes()))
        else:
            self.events.append(Event("say", line))

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root).removeprefix("/")


def _sites() -> frozenset[Site]:
    found = set()
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE):
            found.add((file.removeprefix(_PACKAGE).lstrip("/"), frame.f_lineno))
        frame = frame.f_back
    return frozenset(found)


@dataclass(slots=True)
class _File:
    content: bytes = b""
    synced: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    """A name that was added to a folder (None: removed)."""

    name: str
    file: _File | str | None
    """The content that it names; ``folder`` for a folder."""


@dataclass(slots=True)
class World:
    """The durable state and the pending changes."""

    names: dict[str, _File | str] = field(default_factory=dict)
    """The state that running processes see."""
    durable: dict[str, _File | str] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)

    @classmethod
    def of(cls, state: State) -> World:
        """Start from a durable state."""
        names: dict[str, _File | str] = {
            name: "folder" if content is None else _File(content, synced=True)
            for name, content in state.items()
        }
        return cls(dict(names), names)

    def apply(self, event: Event) -> None:
        """Apply one call."""
        match event.operation:
            case "create":
                self._change(event.path, _File())
            case "write":
                file = self._file(event.path)
                file.content += event.data
                file.synced = False
            case "sync":
                self._file(event.path).synced = True
            case "make folder":
                if event.path not in self.names:
                    self._change(event.path, "folder")
            case "rename":
                self._change(event.target, self._file(event.path))
                self._change(event.path, None)
            case "link":
                if event.target not in self.names:
                    self._change(event.target, self._file(event.path))
            case "remove":
                if event.path in self.names:
                    self._change(event.path, None)
            case "sync folder":
                for change in [c for c in self.pending if _folder(c.name) == event.path]:
                    _put(self.durable, change)
                    self.pending.remove(change)
            case "spoil":
                spoiled = _File(event.data, synced=True)
                self.names[event.path] = self.durable[event.path] = spoiled
            case "say":
                pass
            case _:
                raise ValueError(event.operation)

    def states(self) -> Iterator[State]:
        """Yield the states that a power cut may leave now.

        Temporary files of the store are left out, because nothing reads them.
        """
        for chosen in _choices(len(self.pending)):
            names = dict(self.durable)
            for number in chosen:
                _put(names, self.pending[number])
            there = {name: file for name, file in names.items() if _reachable(name, names)}
            dirty = any(isinstance(file, _File) and not file.synced for file in there.values())
            for written in WRITTEN if dirty else WRITTEN[:1]:
                yield {name: _content(file, written) for name, file in there.items()}

    def _change(self, name: str, file: _File | str | None) -> None:
        change = _Change(name, file)
        _put(self.names, change)
        if "/tmp/" not in name:
            self.pending.append(change)

    def _file(self, name: str) -> _File:
        file = self.names[name]
        if not isinstance(file, _File):
            raise TypeError(name)
        return file


def _choices(count: int) -> Iterator[tuple[int, ...]]:
    everything = tuple(range(count))
    if count <= _EXHAUSTIVE:
        for size in range(count + 1):
            yield from itertools.combinations(everything, size)
        return
    yield ()
    yield everything
    for number in everything:
        yield (number,)
        yield (*everything[:number], *everything[number + 1 :])


def _put(names: dict[str, _File | str], change: _Change) -> None:
    if change.file is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.file


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _reachable(name: str, names: dict[str, _File | str]) -> bool:
    folder = _folder(name)
    return not folder or (folder in names and _reachable(folder, names))


def _content(file: _File | str, written: str) -> bytes | None:
    if isinstance(file, str):
        return None
    if file.synced or written == "whole":
        return file.content
    if written == "empty":
        return b""
    if written == "zeros":
        return bytes(len(file.content))
    return file.content[: len(file.content) // 2]


def read_state(folder: Path) -> State:
    """Return the content of a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


class Disk:
    """A folder that shows one state after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shown: State = {}
        self.folder.mkdir()

    def show(self, state: State) -> None:
        """Write a state to the folder; only differences from the last state are written."""
        for name in sorted(self._shown, reverse=True):
            if name not in state or (state[name] is None) != (self._shown[name] is None):
                path = self.folder / name
                path.rmdir() if self._shown[name] is None else path.unlink()
                del self._shown[name]
        for name in sorted(state):
            content = state[name]
            if name not in self._shown or self._shown[name] != content:
                path = self.folder / name
                if content is None:
                    path.mkdir()
                else:
                    path.unlink(missing_ok=True)
                    path.write_bytes(content)
        self._shown = dict(state)

    def forget(self) -> None:
        """Forget the last state, because another process wrote to the folder."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._shown = {}


class Campaign:
    """Power cuts in one scenario."""

    def __init__(self, folder: Path, scenario: Scenario = STORE) -> None:
        self.scenario = scenario
        self.states = 0
        """The number of checked states, all different within their recording."""
        self.continued = 0
        """The number of states in which another commit was made."""
        self._folder = folder
        self._model = folder / "model"
        path, self._refs = scenario.make(self._model)
        self._inside = path.relative_to(self._model)
        self._disk = Disk(folder / "after")
        self._inspector = Inspector(folder / "after" / self._inside, scenario.judge)
        self.begin = read_state(self._model)

    def record(self, *names: str) -> list[Event]:
        """Run operations and return their calls and the log."""
        world = self._folder / "before"
        shutil.rmtree(world, ignore_errors=True)
        shutil.copytree(self._model, world)
        recorder = Recorder(world)
        client = Client(world / self._inside, self._refs, recorder.say, names)
        # Whoever looks at what is left must take the one who wrote for gone, as it is by then.
        gone = replace(process_id.current(), started="1")
        with observed(recorder), mock.patch.object(process_id, "current", return_value=gone):
            for name in names:
                self.scenario.operations[name](client)
        return recorder.events

    def cut(self, events: Sequence[Event], *, stride: int = 1, every: int = 20) -> None:
        """Check every state, or each `stride`th; in each `every`th of these, make another commit.

        Raises ViolationError for the first invalid state.
        """
        for said, state in itertools.islice(self.crash_states(events), 0, None, stride):
            self.judge(said, state, go_on=self.states % every == 0)

    def crash_states(self, events: Iterable[Event]) -> Iterator[tuple[list[str], State]]:
        """Yield the log so far with each different state that a power cut may leave then."""
        world = World.of(self.begin)
        said: list[str] = []
        seen: set[int] = set()
        for event in events:
            world.apply(event)
            if event.operation == "say":
                said.append(event.path)
                seen.clear()
            for state in world.states():
                key = hash(frozenset(state.items()))
                if key not in seen:
                    seen.add(key)
                    yield list(said), state

    def judge(self, said: list[str], state: State, *, go_on: bool = False) -> None:
        """Check one state; raises ViolationError."""
        self._disk.show(state)
        self.states += 1
        try:
            refs = self._inspector.inspect(allowed(self._refs, said), said)
            if go_on:
                client = Client(self._inspector.path, refs, lambda _: None)
                for name in ("commit", "view"):
                    self.scenario.operations[name](client)
                self._inspector.inspect([client.refs])
                self.continued += 1
        finally:
            if go_on or self._inspector.repaired:
                self._inspector.repaired = False
                self._disk.forget()


def main(arguments: list[str] | None = None) -> int:
    """Check all states and print their number; raises ViolationError."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.power")
    parser.add_argument("--pairs", action="store_true", help="also every operation after another")
    parser.add_argument("--stride", type=int, default=1, help="judge each Nth state (default 1)")
    parser.add_argument("--folder", default=scratch_folder(), help="where the states are laid out")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        campaign = Campaign(Path(scratch))
        names = list(campaign.scenario.operations)
        pairs = itertools.product(names, names) if options.pairs else ()
        for chosen in itertools.chain(zip(names, strict=True), pairs):
            before = campaign.states
            try:
                campaign.cut(campaign.record(*chosen), stride=options.stride)
            except ViolationError as error:
                raise ViolationError(f"{', '.join(chosen)}: {error}") from error
            print(f"{', '.join(chosen)}: {campaign.states - before:,} states", flush=True)
    print(
        f"{campaign.states:,} states that a power cut may leave, in {campaign.continued:,} of them "
        f"another commit, in {time.monotonic() - begun:.0f} s; nothing lost; Python "
        f"{platform.python_version()}"
    )
    return 0


if __name__ == "__main__":
    logging.getLogger("gradient").setLevel(logging.CRITICAL)  # what it warns of is asked for here
    sys.exit(main())
