"""The protocol of a collection beside two writers, in every order in which their steps can fall.

One old chunk lies in pack P. No ref leads to it any more; or a ref leads to its commit, and a
record of retention may let go of that at any time. Each writer commits a state that has it again:
it finds the chunk in a pack, or writes one of its own. Or it makes a ref name the old commit: then
it finds the chunk, or gives up. Two collections run, one after the other, and the first may be
killed anywhere; or both at once, as where the claim of one was taken over. A lease may be taken for
forgotten at any time, also while its writer only sleeps. Wanted: a chunk that a ref leads to is
never gone, except for forgotten states.

The same model, with one rule left out, must find a way to lose it: so that it proves something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

ABSENT, THERE, GONE, TRASH = range(4)
"""Where a pack may be; from `TRASH` on, in the trash: by which collection."""
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
    kept: int = -1
    """The pack whose copy of the chunk is to stay; -1: it is not needed."""
    waiting: frozenset[int] = frozenset()
    """Writers whose leases it waits for."""
    lying: frozenset[tuple[int, int]] = frozenset()
    """What it found in the trash before it looked at them."""


@dataclass(frozen=True)
class World:
    packs: tuple[int, ...] = (THERE, ABSENT, ABSENT)
    writers: tuple[Writer, ...] = (Writer(), Writer())
    leases: frozenset[int] = frozenset()
    fences: tuple[int, ...] = (0, 0)
    refs: frozenset[int] = frozenset()
    """Writers whose ref has moved."""
    collections: tuple[Collection, ...] = (Collection(),)
    """Those that run at once."""
    runs: int = 2
    """How many run one after the other, where it is one at a time."""
    line: bool = False
    """Whether a ref leads to the old commit, which has the chunk in P."""
    record: bool = False
    """Whether a record lets go of it."""

    def needed(self) -> bool:
        return bool(self.refs) or (self.line and not self.record)

    def lost(self) -> bool:
        return self.needed() and all(place in (ABSENT, GONE) for place in self.packs)

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
    own_trash: bool = True


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


LIST, RECORDS, MARK, MOVE, LOOK, WATCH, RECORDS_AGAIN, AGAIN, SWEEP, END = range(10)


def collection_steps(world: World, me: int, rules: Rules) -> Iterator[World]:
    run, alone = world.collections[me], len(world.collections) == 1
    order = [LIST, RECORDS, MARK, MOVE, LOOK, WATCH, RECORDS_AGAIN, AGAIN, SWEEP, END]
    if not rules.leases_before_refs:
        order = [LIST, RECORDS, MARK, MOVE, LOOK, RECORDS_AGAIN, AGAIN, WATCH, SWEEP, END]

    def marked() -> bool:
        """Whether the chunk is needed, by the refs as they are and the records as they were."""
        named = bool(world.refs) and (rules.refs_are_whole or not run.forgotten)
        return named or (world.line and not run.forgotten)

    def on(**changes: object) -> World:
        runs = list(world.collections)
        runs[me] = replace(run, **{"at": run.at + 1, **changes})  # type: ignore[arg-type]
        return replace(world, collections=tuple(runs))

    if alone and world.runs > 1 and run.at:  # at its end, or killed
        yield replace(world, collections=(Collection(),), runs=world.runs - 1)
    if run.at == len(order) - 1:
        return
    step = order[run.at]
    if step == LIST:
        yield on(listed=frozenset(pack for pack in PACKS if world.packs[pack] == THERE))
    elif step in (RECORDS, RECORDS_AGAIN):
        yield on(forgotten=world.record)
    elif step == MARK:
        there = {pack for pack in run.listed if world.packs[pack] == THERE}
        yield from (on(kept=kept) for kept in (there if marked() and there else {-1}))
    elif step == MOVE:
        there = {pack for pack in run.listed if world.packs[pack] == THERE}
        moved = on(waiting=frozenset({-1}), listed=frozenset(), kept=-1)
        for pack in there - {run.kept}:
            moved = moved.pack(pack, TRASH + me if rules.trash else GONE)
        yield moved
    elif step == LOOK:
        found = frozenset((pack, place) for pack, place in enumerate(world.packs))
        yield on(lying=frozenset(each for each in found if each[1] >= TRASH))
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
            trashed = [pack for pack in PACKS if world.packs[pack] >= TRASH]
            for pack in trashed:
                yield on().pack(pack, THERE)
            if not trashed:
                yield on()
        else:
            yield on()
    elif step == SWEEP:
        trashed = [pack for pack in PACKS if world.packs[pack] >= TRASH]
        if rules.own_trash:
            trashed = [pack for pack in trashed if (pack, world.packs[pack]) in run.lying]
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
        ends.add(min(world.packs[0], TRASH))
        if world.lost():
            return len(seen), True, ends
        for me in range(len(world.writers)):
            pending += _fresh(writer_steps(world, me, rules), seen)
        for me in range(len(world.collections)):
            pending += _fresh(collection_steps(world, me, rules), seen)
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
AT_ONCE = {
    f"{name}, two at once": replace(
        start, writers=(Writer(),), collections=(Collection(), Collection())
    )
    for name, start in STARTS.items()
}
EVERY = STARTS | AT_ONCE


@pytest.mark.parametrize("start", EVERY.values(), ids=EVERY)
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


@pytest.mark.parametrize("start", AT_ONCE.values(), ids=AT_ONCE)
def test_another_collections_trash_is_not_to_be_removed(start: World) -> None:
    assert explore(Rules(own_trash=False), start)[1]
