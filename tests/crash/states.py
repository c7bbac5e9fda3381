"""Every state that a power cut may leave, from a record of what was asked of the file system.

What was not synced may be lost: a file's content (then it is empty, full of zeros, cut or whole)
and each name in a folder, independently of the others. A folder takes what is in it along.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gradient.storage import fs

WRITTEN: Final = ("whole", "empty", "zeros", "cut")
_EXHAUSTIVE: Final = 6


@dataclass(frozen=True, slots=True)
class Event:
    """One call that changed something, or an acknowledgement."""

    operation: str
    path: str
    target: str = ""
    data: bytes = b""


class Recorder:
    """An observer that keeps what it sees."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.events: list[Event] = []

    def __call__(self, call: fs.Call) -> None:
        if call.operation not in ("open", "read", "list", "inspect", "measure", "close"):
            data = b"".join(bytes(view) for view in call.data)
            event = Event(call.operation, self._name(call.path), self._name(call.target), data)
            self.events.append(event)

    def acknowledge(self, what: str) -> None:
        """Note that the caller was told so."""
        self.events.append(Event("acknowledge", what))

    def _name(self, path: str) -> str:
        if path == self.root:
            return ""
        return path.removeprefix(self.root + "/")


@dataclass(slots=True)
class _File:
    content: bytes = b""
    synced: bool = False


@dataclass(frozen=True, slots=True)
class _Change:
    """A name that was added to a folder (None: removed)."""

    name: str
    file: _File | str | None
    """What it names; the text ``folder`` for a folder."""


@dataclass(slots=True)
class _World:
    """What is durable, and what is not yet."""

    names: dict[str, _File | str] = field(default_factory=dict)
    """What the running system sees."""
    durable: dict[str, _File | str] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        """Follow one call."""
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
            case _:
                raise ValueError(event.operation)

    def states(self) -> Iterator[dict[str, bytes]]:
        """Yield what a power cut now may leave, names to contents."""
        for chosen in _choices(len(self.pending)):
            names = dict(self.durable)
            for number in chosen:
                _put(names, self.pending[number])
            for written in WRITTEN:
                yield {
                    name: _content(file, written)
                    for name, file in names.items()
                    if isinstance(file, _File)
                    and _reachable(name, names)
                    and not name.startswith("tmp/")
                }

    def _change(self, name: str, file: _File | str | None) -> None:
        change = _Change(name, file)
        _put(self.names, change)
        self.pending.append(change)

    def _file(self, name: str) -> _File:
        file = self.names[name]
        if not isinstance(file, _File):
            raise TypeError(name)
        return file


def crash_states(events: list[Event]) -> Iterator[tuple[list[str], dict[str, bytes]]]:
    """Yield what was acknowledged, with each different state that a power cut then may leave.

    Temporary files are left out: nobody ever looks at them.
    """
    world = _World()
    acknowledged: list[str] = []
    seen: set[frozenset[tuple[str, bytes]]] = set()
    for event in events:
        if event.operation == "acknowledge":
            acknowledged.append(event.path)
            seen.clear()
        else:
            world.apply(event)
        for state in world.states():
            key = frozenset(state.items())
            if key not in seen:
                seen.add(key)
                yield list(acknowledged), state


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


def _content(file: _File, written: str) -> bytes:
    if file.synced or written == "whole":
        return file.content
    if written == "empty":
        return b""
    if written == "zeros":
        return bytes(len(file.content))
    return file.content[: len(file.content) // 2]
