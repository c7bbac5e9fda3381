"""The protocol of a collection beside two writers, in every order in which their steps can fall.

One old chunk lies in pack P. No ref leads to it any more; or a ref leads to its commit, and a
record of retention may let go of that at any time. Each writer commits a state that has it again:
it finds the chunk in a pack, or writes one of its own. Or it makes a ref name the old commit: then
it finds the chunk, or gives up. Two collections run, one after the other; the first may be killed
anywhere. A lease may be taken for forgotten at any time, also while its writer only sleeps. Wanted:
a chunk that a ref leads to is never gone, but for what was let go of.

The same model, with one rule left out, must find a way to lose it: so that it proves something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

ABSENT, THERE, TRASH, GONE = range(4)
PACKS = range(3)
"""P, and one pack that each of the writers may write."""
IDLE, COVERED, FOUND, SEALED, MOVED, DONE = range(6)
NAMING = {1}
"""Where a commit may be forgotten: the writers that make a ref name the old one."""


@dataclass(frozen=True)
class Writer:
    at: int = IDLE
    read: int = 0
    """The last number in its ref's log before the lease."""
    relies: int = -1
    """The pack in which it found the chunk."""


@dataclass(frozen=True)
class Collection:
    at: int = 0
    listed: frozenset[int] = frozenset()
    """The packs it knows."""
    forgotten: bool = False
    """Whether the records that it has read let go of the old commit."""
    reachable: bool = False
    waiting: frozenset[int] = frozenset()
    """Writers whose leases it waits for."""


@dataclass(frozen=True)
class World:
    packs: tuple[int, ...] = (THERE, ABSENT, ABSENT)
    writers: tuple[Writer, ...] = (Writer(), Writer())
    leases: frozenset[int] = frozenset()
    fences: tuple[int, ...] = (0, 0)
    refs: frozenset[int] = frozenset()
    """Writers whose ref has moved."""
    collection: Collection = Collection()
    runs: int = 2
    line: bool = False
    """Whether a ref leads to the old commit, which has the chunk in P."""
    record: bool = False
    """Whether a record lets go of it."""

    def needed(self) -> bool:
        return bool(self.refs) or (self.line and not self.record)

    def lost(self) -> bool:
        return self.needed() and not any(place in (THERE, TRASH) for place in self.packs)

    def pack(self, number: int, place: int) -> World:
        places = list(self.packs)
        places[number] = place
        return replace(self, packs=tuple(places))

    def writer(self, number: int, **changes: int) -> World:
        writers = list(self.writers)
        writers[number] = replace(writers[number], **changes)
        return replace(self, writers=tuple(writers))


@dataclass(frozen=True)
class Rules:
    lease: bool = True
    fence: bool = True
    trash: bool = True
    leases_before_refs: bool = True
    log_before_lease: bool = True
    expiry: bool = True
    refs_are_whole: bool = True
    names_look: bool = True


def writer_steps(world: World, me: int, rules: Rules) -> Iterator[World]:
    writer = world.writers[me]
    own = me + 1
    if writer.at == IDLE:
        # Reading the log and taking the lease are two steps; the second order is a wrong one.
        if rules.log_before_lease:
            yield world.writer(me, at=COVERED, read=world.fences[me], relies=-2)
        else:
            leases = world.leases | {me}
            yield replace(world, leases=leases).writer(me, at=COVERED, relies=-3)
    elif writer.at == COVERED and writer.relies == -2:
        leases = world.leases | {me} if rules.lease else world.leases
        yield replace(world, leases=leases).writer(me, relies=-1)
    elif writer.at == COVERED and writer.relies == -3:
        yield world.writer(me, read=world.fences[me], relies=-1)
    elif writer.at == COVERED:
        hits = [pack for pack in PACKS if world.packs[pack] == THERE]
        for pack in hits:
            yield world.writer(me, at=FOUND, relies=pack)
        if world.line and me in NAMING:
            if not hits and rules.names_look:
                yield replace(world, leases=world.leases - {me}).writer(me, at=DONE, relies=-1)
            elif not hits:
                yield world.writer(me, at=FOUND, relies=-1)
        elif not hits:
            yield world.pack(own, THERE).writer(me, at=FOUND, relies=-1)
    elif writer.at == FOUND:
        if writer.relies >= 0 and world.packs[writer.relies] != THERE:
            yield world.writer(me, at=COVERED, relies=-1)  # StoreChangedError
        else:
            yield world.writer(me, at=SEALED)
    elif writer.at == SEALED:
        if world.fences[me] != writer.read:
            yield world.writer(me, at=IDLE, relies=-1)  # RefConflictError
        else:
            yield replace(world, refs=world.refs | {me}).writer(me, at=MOVED)
    elif writer.at == MOVED:
        yield replace(world, leases=world.leases - {me}).writer(me, at=DONE)


LIST, RECORDS, MARK, MOVE, WATCH, RECORDS_AGAIN, AGAIN, SWEEP, END = range(9)


def collection_steps(world: World, rules: Rules) -> Iterator[World]:
    run = world.collection
    order = [LIST, RECORDS, MARK, MOVE, WATCH, RECORDS_AGAIN, AGAIN, SWEEP, END]
    if not rules.leases_before_refs:
        order = [LIST, RECORDS, MARK, MOVE, RECORDS_AGAIN, AGAIN, WATCH, SWEEP, END]

    def marked() -> bool:
        """Whether the chunk is needed, by the refs as they are and the records as they were."""
        named = bool(world.refs) and (rules.refs_are_whole or not run.forgotten)
        return named or (world.line and not run.forgotten)

    def on(**changes: object) -> World:
        following = {"at": run.at + 1, **changes}
        return replace(world, collection=replace(run, **following))  # type: ignore[arg-type]

    if run.at == len(order) - 1:
        if world.runs > 1:
            yield replace(world, collection=Collection(), runs=world.runs - 1)
        return
    if run.at and world.runs > 1:
        yield replace(world, collection=Collection(), runs=world.runs - 1)  # killed
    step = order[run.at]
    if step == LIST:
        yield on(listed=frozenset(pack for pack in PACKS if world.packs[pack] == THERE))
    elif step in (RECORDS, RECORDS_AGAIN):
        yield on(forgotten=world.record)
    elif step == MARK:
        yield on(reachable=marked())
    elif step == MOVE:
        there = {pack for pack in run.listed if world.packs[pack] == THERE}
        moved = on(waiting=frozenset({-1}), listed=frozenset(), reachable=False)
        # One copy of what is needed stays: any. What is not needed goes.
        for kept in there if run.reachable and there else {-1}:
            result = moved
            for pack in there - {kept}:
                result = result.pack(pack, TRASH if rules.trash else GONE)
            yield result
    elif step == WATCH:
        if run.waiting == {-1}:
            yield on(at=run.at, waiting=world.leases)
            return
        waiting = run.waiting & world.leases
        if not waiting:
            yield on(waiting=frozenset())
        else:
            # Not in time: the trash is left to the next collection.
            yield on(at=len(order) - 1, waiting=frozenset())
        for held in waiting if rules.expiry else ():
            # Forgotten: first a fence, then the end of the lease; a kill may fall between.
            fences = list(world.fences)
            fences[held] += 1
            fenced = replace(world, fences=tuple(fences)) if rules.fence else world
            if rules.fence and sum(world.fences) < 2:
                yield fenced
            if not rules.fence or world.fences[held] > world.writers[held].read:
                yield replace(world, leases=world.leases - {held})
    elif step == AGAIN:
        if marked() and THERE not in world.packs:
            trashed = [pack for pack in PACKS if world.packs[pack] == TRASH]
            for pack in trashed:
                yield on().pack(pack, THERE)
            if not trashed:
                yield on()
        else:
            yield on()
    elif step == SWEEP:
        trashed = [pack for pack in PACKS if world.packs[pack] == TRASH]
        yield from (world.pack(pack, GONE) for pack in trashed)  # one at a time
        if not trashed:
            yield on()


def explore(rules: Rules, start: World) -> tuple[int, bool, set[int]]:
    """Return how many states there are, whether one loses the chunk, and what P can become."""
    seen = {start}
    pending = [start]
    ends = set()
    while pending:
        world = pending.pop()
        ends.add(world.packs[0])
        if world.lost():
            return len(seen), True, ends
        for me in range(len(world.writers)):
            pending += _fresh(writer_steps(world, me, rules), seen)
        pending += _fresh(collection_steps(world, rules), seen)
        if world.line and not world.record:
            pending += _fresh(iter([replace(world, record=True)]), seen)
    return len(seen), False, ends


def _fresh(found: Iterator[World], seen: set[World]) -> list[World]:
    fresh = []
    for world in found:
        if world not in seen:
            seen.add(world)
            fresh.append(world)
    return fresh


STARTS = {"no ref leads to it": World(), "it may be let go of": World(line=True)}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_nothing_is_lost_in_any_order(start: World) -> None:
    states, lost, ends = explore(Rules(), start)

    assert not lost
    assert states > 10_000
    assert ends == {THERE, TRASH, GONE}, "a collection that never collects is no collection"


NEEDED = {
    "no lease": Rules(lease=False),
    "no trash": Rules(trash=False),
    "refs before leases": Rules(leases_before_refs=False),
    "no fence": Rules(fence=False),
    "lease before log": Rules(log_before_lease=False),
}
NEEDED_TO_FORGET = {
    "what a ref names is not whole": Rules(refs_are_whole=False),
    "a ref names what is not there": Rules(names_look=False),
}


@pytest.mark.parametrize("rules", NEEDED.values(), ids=NEEDED)
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_each_rule_is_needed(rules: Rules, start: World) -> None:
    assert explore(rules, start)[1]


@pytest.mark.parametrize("rules", NEEDED_TO_FORGET.values(), ids=NEEDED_TO_FORGET)
def test_each_rule_of_forgetting_is_needed(rules: Rules) -> None:
    assert explore(rules, STARTS["it may be let go of"])[1]
