"""Which packs are needed, and the frames of several packs in fewer ones.

Goals: no object becomes unreadable at any moment, and no byte changes. So frames are copied as they
stand, each proved on its way; and the packs that they came from stay until others can go.

A base that nothing needs but differences from it may weigh more than these save. Then what is a
difference from it is written once more, standing for itself, and the base goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

import numpy as np

from gradient.codec.frame import Codec, Encoded
from gradient.objects.oid import Oid
from gradient.storage.base import Storage
from gradient.store import pack_format, recode
from gradient.store.frame_reader import copy_of
from gradient.store.pack import Pack, PackWriter
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import FrameRow

WASTE: Final = 0.3
"""A pack is rewritten when this share of its frames' bytes is of no use."""

SMALL_BYTES: Final = 8 << 20
"""Packs whose useful frames are smaller are merged, as soon as there are `MANY` of them."""
MANY: Final = 16

FULL_BYTES: Final = 512 << 20
"""A pack that others are merged into ends when it has this many bytes."""

PAYS: Final = 0.99
"""A pack is replaced by one in stronger forms where that has at most so much of its bytes."""

Frame = tuple[Pack, int]
"""One frame: a pack, and the row in its index."""


@dataclass(slots=True)
class FrameChoice:
    """One frame for each object that is needed."""

    kept: dict[str, list[int]] = field(default_factory=dict)
    """By pack id, the rows that were chosen; not there where none was."""
    needed: set[Oid] = field(default_factory=set)
    """All objects, those that are only bases of others included."""
    missing: set[Oid] = field(default_factory=set)
    """Those that no pack has."""
    alone: dict[Oid, int] = field(default_factory=dict)
    """Those to be written anew without a base, and about how long they will be then."""


def choose(
    packs: Iterable[Pack], wanted: Iterable[Oid], *, going: Collection[str] = ()
) -> FrameChoice:
    """Choose a frame for every wanted object, and for what it is a difference from.

    Of several, one without a base; of those, the one in the largest pack. What lies in packs that
    are `going` to be written anew, if need be, may lose its base.
    """
    ordered = sorted(packs, key=lambda pack: (-pack.size, pack.id))
    plain: dict[bytes, Frame] = {}
    based: dict[bytes, Frame] = {}
    for pack in ordered:
        oids, flags = pack.rows["oid"].tobytes(), pack.rows["flags"].tolist()
        for position, flag in enumerate(flags):
            table = based if flag else plain
            table.setdefault(oids[32 * position : 32 * position + 32], (pack, position))
    choice = FrameChoice()
    pending = list(wanted)
    if going:
        # What stays as it is keeps what it leans on, needed or not: no frame is left without.
        bases = _bases(pack for pack in ordered if pack.id not in going)
        pending += [base for base in bases if base in plain or base in based]
        choice.alone = _freed(pending, plain, based, going)
    while pending:
        oid = pending.pop()
        if oid in choice.needed:
            continue
        choice.needed.add(oid)
        frame = plain.get(oid) or based.get(oid)
        if frame is None:
            choice.missing.add(oid)
            continue
        pack, position = frame
        choice.kept.setdefault(pack.id, []).append(position)
        if oid not in plain and oid not in choice.alone:
            base = pack.row(position).base
            assert base is not None
            pending.append(base)
    return choice


def _bases(packs: Iterable[Pack]) -> Iterator[Oid]:
    return (base for pack in packs for _, base in pack.based())


def _freed(
    wanted: Iterable[Oid],
    plain: Mapping[bytes, Frame],
    based: Mapping[bytes, Frame],
    going: Collection[str],
) -> dict[Oid, int]:
    """Return the differences whose base costs more than they save, and their length without it."""
    wanted = set(wanted)
    leaning: dict[Oid, list[tuple[Oid, Frame]]] = {}
    for oid in wanted:
        if oid not in plain and oid in based:
            pack, position = based[oid]
            base = pack.row(position).base
            # A base that is needed for its own sake costs nothing.
            if base is not None and base in plain and base not in wanted:
                leaning.setdefault(base, []).append((oid, based[oid]))
    freed: dict[Oid, int] = {}
    for base, members in leaning.items():
        full = _stored(plain[base])
        kept = full + sum(_stored(frame) for _, frame in members)
        movable = all(pack.id in going for _, (pack, _) in members)
        # About as long as the base is what each would be without it.
        if movable and kept >= full * len(members):
            freed.update((oid, full) for oid, _ in members)
    return freed


def _stored(frame: Frame) -> int:
    pack, position = frame
    return int(pack.rows["stored"][position])


@dataclass(slots=True)
class RepackPlan:
    """What is to become of which pack."""

    dead: list[Pack] = field(default_factory=list)
    """Nothing in them was chosen."""
    rewritten: list[Pack] = field(default_factory=list)
    """What was chosen in them is to be written into new packs."""
    useful: dict[str, int] = field(default_factory=dict)
    """Bytes that what was chosen takes, its rows in an index included, by pack id."""

    @property
    def going(self) -> list[Pack]:
        """The packs that are not needed any more once the new ones are there."""
        return [*self.dead, *self.rewritten]

    @property
    def saved_bytes(self) -> int:
        """About how much less there is in the end."""
        new = pack_format.EMPTY_BYTES if self.rewritten else 0
        return sum(pack.size - self.useful.get(pack.id, 0) for pack in self.going) - new

    def costly(self) -> set[str]:
        """Return the ids of packs that are to be rewritten, without which half as much is copied:
        of those that yield least for each byte."""
        found = sorted(self.rewritten, key=lambda pack: self.useful[pack.id] / pack.size)
        room = sum(self.useful[pack.id] for pack in found) // 2
        copied = accumulate(self.useful[pack.id] for pack in found)
        return {pack.id for pack, nbytes in zip(found, copied, strict=True) if nbytes > room}


def plan(packs: Iterable[Pack], choice: FrameChoice) -> RepackPlan:
    """Decide for each of the packs that may go; the others stay as they are."""
    found = RepackPlan()
    small: list[Pack] = []
    for pack in packs:
        kept = choice.kept.get(pack.id)
        if not kept:
            found.dead.append(pack)
            continue
        (useful, index), total = (
            _bytes_of(pack, kept, choice),
            pack.index.end - pack_format.HEADER.size,
        )
        found.useful[pack.id] = useful + index
        if total - useful > WASTE * total or _must_change(pack, kept, choice):
            found.rewritten.append(pack)
        elif useful < SMALL_BYTES:
            small.append(pack)
    if len(small) + len(found.rewritten) >= MANY:
        found.rewritten += small
    return found


def _must_change(pack: Pack, kept: list[int], choice: FrameChoice) -> bool:
    """Tell whether a frame is to lose its base, or one that nobody chose has lost it already."""
    chosen = set(kept)
    oids = pack.rows["oid"].tobytes()
    for position, base in pack.based():
        oid = oids[32 * position : 32 * position + 32]
        if oid in choice.alone if position in chosen else base not in choice.needed:
            return True
    return False


def _bytes_of(pack: Pack, positions: list[int], choice: FrameChoice) -> tuple[int, int]:
    """Return what the chosen frames take, and their rows in an index."""
    rows = pack.rows[positions]
    based = np.asarray(positions)[rows["flags"] != 0].tolist()
    frames = (
        int(rows["stored"].sum(dtype="u8")) + pack_format.FRAME.size * len(rows) + 32 * len(based)
    )
    index = pack_format.ROW.itemsize * len(rows) + 32 * len(based)
    for position in based if choice.alone else ():
        row = pack.row(position)
        if row.oid in choice.alone:
            frames += choice.alone[row.oid] - row.stored - 32
            index -= 32
    return frames, index


def rewrite(
    storage: Storage,
    catalogue: PackCatalogue,
    sources: Iterable[Pack],
    choice: FrameChoice,
    progress: Callable[[int], None],
    *,
    recompress: bool = False,
) -> dict[str, int]:
    """Copy the chosen frames of packs into new packs, durable on return; returns their ids and
    lengths.

    With `recompress` each in the smallest form that is found for it. `progress` is told the bytes
    of each. Raises an IntegrityError for a frame that is damaged.
    """
    written: dict[str, int] = {}
    writer: PackWriter | None = None
    try:
        for pack in sorted(sources, key=lambda pack: pack.id):
            rows = map(pack.row, choice.kept[pack.id])
            for row in sorted(rows, key=lambda row: row.offset):
                writer = writer or PackWriter(storage.create())
                encoded, base = _form(catalogue, pack, row, choice, recompress=recompress)
                writer.append(row.kind, row.oid, row.raw, encoded, base=base)
                progress(row.stored)
                if writer.size >= FULL_BYTES:
                    made, writer = writer.publish(), None
                    written[made.id] = made.size
        if writer is not None:
            made = writer.publish()
            written[made.id] = made.size
    finally:
        if writer is not None:
            writer.discard()
    return written


def _form(
    catalogue: PackCatalogue, pack: Pack, row: FrameRow, choice: FrameChoice, *, recompress: bool
) -> tuple[Encoded, Oid | None]:
    """Return what is to be written for a frame, and its base."""
    if row.oid in choice.alone:
        return recode.alone(catalogue, pack, row), None
    smaller = recode.smaller(catalogue, pack, row) if recompress else None
    if smaller is not None:
        return smaller
    payload = copy_of(catalogue, pack, row)
    return Encoded(Codec(row.codec), (payload,), row.stored), row.base


def recompress(
    storage: Storage,
    catalogue: PackCatalogue,
    sources: Iterable[Pack],
    choice: FrameChoice,
    progress: Callable[[int], None],
) -> Iterator[tuple[Pack, str, int]]:
    """Write packs anew, each into one of its own, with every frame in a smaller form if there is
    one; yields those for which that paid, with the new one's id and length, durable by then.

    Raises like `rewrite`; what was yielded before stays.
    """
    for pack in sorted(sources, key=lambda pack: pack.id):
        rows = sorted(map(pack.row, choice.kept[pack.id]), key=lambda row: row.offset)
        writer = PackWriter(storage.create())
        try:
            for row in rows:
                encoded, base = _form(catalogue, pack, row, choice, recompress=True)
                writer.append(row.kind, row.oid, row.raw, encoded, base=base)
                progress(row.stored)
            if writer.size < PAYS * pack.index.end:
                made = writer.publish()
                yield pack, made.id, made.size
        finally:
            writer.discard()


def prove_others(
    catalogue: PackCatalogue, packs: Iterable[Pack], going: Collection[Pack], choice: FrameChoice
) -> None:
    """Prove the chosen frames, in packs that stay, of objects that have another one in packs that
    go: so that of two copies it is never the sound one that goes.

    Raises an IntegrityError for one that is damaged.
    """
    elsewhere: set[bytes] = set()
    for pack in going:
        kept = set(choice.kept.get(pack.id, ()))
        oids = pack.rows["oid"].tobytes()
        for position in range(len(pack.rows)):
            oid = Oid(oids[32 * position : 32 * position + 32])
            if position not in kept and oid in choice.needed:
                elsewhere.add(oid)
    leaving = {pack.id for pack in going}
    for pack in packs:
        if elsewhere and pack.id not in leaving:
            for position in choice.kept.get(pack.id, ()):
                row = pack.row(position)
                if row.oid in elsewhere:
                    copy_of(catalogue, pack, row)
