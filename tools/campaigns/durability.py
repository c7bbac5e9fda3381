"""Mutation test of durability: leave out or move each sync, and check that power cuts notice.

The list of mutants is read from the code: each call that syncs a file or a folder, or requests that
with ``durable=True``, and each call that names a file. A mutant leaves the call out (*without*),
makes it after the acknowledgement (*late*), or names a file before its content is synced (*early*).
Power cuts must lose data with each mutant. A mutant that survives is a superfluous sync, or a
guarantee that no test checks.

    python -m tools.campaigns.durability
"""

from __future__ import annotations

import argparse
import ast
import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import gradient
from tools.campaigns.oracle import ViolationError, scratch_folder
from tools.campaigns.power import Campaign, Event

Kind: TypeAlias = Literal["without", "late", "early"]

_SYNCS: Final = frozenset({"sync", "sync_folder", "write_durable"})
_NAMES: Final = frozenset({"rename", "link"})

NO_STORE: Final = {
    "maintenance/doctor/probes.py": "it tries out a sync; nothing relies on what it writes",
    "maintenance/doctor/link_race.py": "it tries out what a link does",
    "remote/credentials.py": "a token that is lost is asked for again",
    "view/export.py": "what is exported is a copy, of a commit that is still there",
    "cli/import_.py": "what is imported is still where it was",
}
"""Files whose syncs protect no repo, with the reason."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call in the package that makes data durable or names a file."""

    file: str
    first: int
    last: int
    """Its lines."""
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.text}"

    def asked(self, event: Event) -> bool:
        """True if a recorded call was made from here."""
        return any(f == self.file and self.first <= line <= self.last for f, line in event.sites)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to the order of calls to the file system."""

    kind: Kind
    call: Call

    def __str__(self) -> str:
        return f"{self.kind}: {self.call}"

    def apply(self, events: list[Event]) -> list[Event]:
        """Return the recording as it would be with this mutant."""
        if self.kind == "early":
            return self._name_early(events)
        wanted = "sync folder" if self.kind == "late" else "sync"
        kept: list[Event] = []
        late: list[Event] = []
        for event in events:
            if self.call.asked(event) and event.operation.startswith(wanted):
                late.append(event)
                continue
            kept.append(event)
            if self.kind == "late" and event.operation == "say":
                kept += late
                late.clear()
        return kept

    def _name_early(self, events: list[Event]) -> list[Event]:
        changed = list(events)
        for event in events:
            if event.operation in _NAMES and self.call.asked(event):
                syncs = [e for e in changed if e.operation == "sync" and e.path == event.path]
                if syncs:
                    place = changed.index(syncs[-1])
                    changed.remove(event)
                    changed[place : place + 1] = [event, replace(syncs[-1], path=event.target)]
        return changed


def calls(words: frozenset[str]) -> Iterator[Call]:
    """Yield the calls of the package that have one of these names; of syncs, ``durable`` ones."""
    root = Path(gradient.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name in NO_STORE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (_name(node, name) in words or _durable(node, words)):
                text = ast.unparse(node).splitlines()[0]
                yield Call(name, node.lineno, node.end_lineno or node.lineno, text)


def _name(node: ast.Call, file: str) -> str:
    """Return the name of the called function; for renames and links, only those of one module."""
    if isinstance(node.func, ast.Attribute):
        of = ast.unparse(node.func.value)
        return node.func.attr if node.func.attr in _SYNCS or of == "fs" else ""
    inside = file.startswith("storage/fs/")
    return node.func.id if isinstance(node.func, ast.Name) and inside else ""


def _durable(node: ast.Call, words: frozenset[str]) -> bool:
    asked = [word.value for word in node.keywords if word.arg == "durable"]
    return "sync" in words and any(isinstance(v, ast.Constant) and v.value is True for v in asked)


def mutants() -> list[Mutant]:
    """Return all mutants."""
    syncs, names = list(calls(_SYNCS)), list(calls(_NAMES))
    kinds: list[tuple[Kind, list[Call]]] = [("without", syncs), ("late", syncs), ("early", names)]
    return [Mutant(kind, call) for kind, found in kinds for call in found]


class Trial:
    """Tries mutants on recordings of every operation."""

    def __init__(self, folder: Path) -> None:
        self._campaign = Campaign(folder)
        names = self._campaign.scenario.operations
        self._records = {name: self._campaign.record(name) for name in names}
        self._met: dict[str, set[tuple[int, int]]] = {}

    def applies(self, mutant: Mutant) -> bool:
        """Return whether the mutant changes a recording."""
        return any(mutant.apply(events) != events for events in self._records.values())

    def _sound(self, name: str) -> set[tuple[int, int]]:
        """Return the states that occur without a mutant; they are valid."""
        if name not in self._met:
            states = self._campaign.crash_states(self._records[name])
            self._met[name] = {_key(*each) for each in states}
        return self._met[name]

    def notice(self, mutant: Mutant) -> str | None:
        """Return the loss that a mutant causes; None if it survives."""
        for name, events in sorted(self._records.items(), key=lambda each: len(each[1])):
            mutated = mutant.apply(events)
            if mutated == events:
                continue
            for said, state in self._campaign.crash_states(mutated):
                if _key(said, state) not in self._sound(name):
                    try:
                        self._campaign.judge(said, state)
                    except ViolationError as error:
                        return str(error)
        return None


def _key(said: list[str], state: dict[str, bytes | None]) -> tuple[int, int]:
    return len(said), hash(frozenset(state.items()))


def score(folder: Path, log: Callable[[str], object]) -> tuple[int, list[Mutant]]:
    """Try all mutants; return the number that was noticed, and the survivors."""
    trial = Trial(folder)
    noticed, alive = 0, []
    for mutant in mutants():
        if mutant.kind != "without" and not trial.applies(mutant):
            continue  # no folder is synced here; or what is named was not synced, being derived
        lost = trial.notice(mutant)
        log(f"{mutant}: {'SURVIVES' if lost is None else lost:.150}")
        if lost is None:
            alive.append(mutant)
        else:
            noticed += 1
    return noticed, alive


def main() -> int:
    """Try all mutants and print the score; return 1 if a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.durability")
    parser.add_argument("--folder", default=scratch_folder(), help="where the states are laid out")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        noticed, alive = score(Path(scratch), lambda line: print(line, flush=True))
    print(
        f"{noticed} of {noticed + len(alive)} mutants noticed in {time.monotonic() - begun:.0f} s; "
        f"Python {platform.python_version()}"
    )
    return 1 if alive else 0


if __name__ == "__main__":
    logging.getLogger("gradient").setLevel(logging.CRITICAL)  # what it warns of is asked for here
    sys.exit(main())
