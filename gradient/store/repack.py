"""Repacking: choose the frames that are needed, and copy those of several packs into fewer ones.

Goals: no object becomes unreadable at any moment, and no byte changes. So frames are copied
unchanged, each proved when it is copied; and the old packs stay until the new ones are durable.

A base that only differences need may be larger than the space they save. Then these differences are
encoded again without a base, and the base is dropped.
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
from gradient.store import pack_format, transcode
from gradient.store.frame_reader import read_payload
from gradient.store.pack import Pack, PackWriter
from gradient.store.pack_catalogue import PackCatalogue
from gradient.store.pack_format import FrameRow

WASTE: Final = 0.3
"""A pack is rewritten if at least this share of its frames' bytes is not needed."""

SMALL_BYTES: Final = 8 << 20
"""Packs whose needed frames are smaller are merged once there are `MANY` of them."""
MANY: Final = 16

FULL_BYTES: Final = 512 << 20
"""A pack that others are merged into is closed at this many bytes."""

MAX_SHARE: Final = 0.99
"""A pack is replaced by a recompressed one that has at most this share of its bytes."""

Frame = tuple[Pack, int]
"""One frame: a pack, and the position of its row in the index."""


@dataclass(slots=True)
class FrameChoice:
    """One frame for each object that is needed."""

    kept: dict[str, list[int]] = field(default_factory=dict)
    """The positions of the chosen rows, by pack id; packs without any are absent."""
    needed: set[Oid] = field(default_factory=set)
    """All objects, including those that are only bases of others."""
    missing: set[Oid] = field(default_factory=set)
    """The needed objects that no pack has."""
    without_base: dict[Oid, int] = field(default_factory=dict)
    """Objects to encode again without a base, and an estimate of their length then."""


def choose(
    packs: Iterable[Pack], wanted: Iterable[Oid], *, rewritable: Collection[str] = ()
) -> FrameChoice:
    """Choose a frame for every wanted object and for its bases.

    If an object has several, a frame without a base is chosen; of those, the one in the largest
    pack. Frames in `rewritable` packs may lose their base.
    """
    ordered = sorted(packs, key=lambda pack: (-pack.size, pack.id))
    whole: dict[bytes, Frame] = {}
    based: dict[bytes, Frame] = {}
    for pack in ordered:
        oids, flags = pack.rows["oid"].tobytes(), pack.rows["flags"].tolist()
        for position, flag in enumerate(flags):
            table = based if flag else whole
            table.setdefault(oids[32 * position : 32 * position + 32], (pack, position))
    choice = FrameChoice()
    pending = list(wanted)
    if rewritable:
        # The bases of packs that stay are kept, needed or not: no frame loses its base.
        bases = _bases(pack for pack in ordered if pack.id not in rewritable)
        pending += [base for base in bases if base in whole or base in based]
        choice.without_base = _without_base(pending, whole, based, rewritable)
    while pending:
        oid = pending.pop()
        if oid in choice.needed:
            continue
        choice.needed.add(oid)
        frame = whole.get(oid) or based.get(oid)
        if frame is None:
            choice.missing.add(oid)
            continue
        pack, position = frame
        choice.kept.setdefault(pack.id, []).append(position)
        if oid not in whole and oid not in choice.without_base:
            base = pack.row(position).base
            assert base is not None
            pending.append(base)
    return choice


def _bases(packs: Iterable[Pack]) -> Iterator[Oid]:
    return (base for pack in packs for _, base in pack.based())


def _without_base(
    wanted: Iterable[Oid],
    whole: Mapping[bytes, Frame],
    based: Mapping[bytes, Frame],
    rewritable: Collection[str],
) -> dict[Oid, int]:
    """Return the differences whose base costs more than they save, and their length without it."""
    wanted = set(wanted)
    deltas: dict[Oid, list[tuple[Oid, Frame]]] = {}
    for oid in wanted:
        if oid not in whole and oid in based:
            pack, position = based[oid]
            base = pack.row(position).base
            # A base that is needed for its own sake costs nothing.
            if base is not None and base in whole and base not in wanted:
                deltas.setdefault(base, []).append((oid, based[oid]))
    found: dict[Oid, int] = {}
    for base, members in deltas.items():
        full = _stored(whole[base])
        kept = full + sum(_stored(frame) for _, frame in members)
        movable = all(pack.id in rewritable for _, (pack, _) in members)
        # Without the base, each is about as long as the base.
        if movable and kept >= full * len(members):
            found.update((oid, full) for oid, _ in members)
    return found


def _stored(frame: Frame) -> int:
    pack, position = frame
    return int(pack.rows["stored"][position])


@dataclass(slots=True)
class RepackPlan:
    """The fate of each pack."""

    dead: list[Pack] = field(default_factory=list)
    """Packs without a chosen frame."""
    rewritten: list[Pack] = field(default_factory=list)
    """Packs whose chosen frames are written into new packs."""
    useful: dict[str, int] = field(default_factory=dict)
    """The bytes of the chosen frames and of their rows in an index, by pack id."""

    @property
    def going(self) -> list[Pack]:
        """The packs that can be removed once the new ones are durable."""
        return [*self.dead, *self.rewritten]

    @property
    def saved_bytes(self) -> int:
        """An estimate of the bytes that are freed."""
        new = pack_format.EMPTY_BYTES if self.rewritten else 0
        return sum(pack.size - self.useful.get(pack.id, 0) for pack in self.going) - new

    def costly(self) -> set[str]:
        """Return the rewritten packs that free the least per copied byte.

        Leaving them out halves the bytes that are copied.
        """
        found = sorted(self.rewritten, key=lambda pack: self.useful[pack.id] / pack.size)
        half = sum(self.useful[pack.id] for pack in found) // 2
        copied = accumulate(self.useful[pack.id] for pack in found)
        return {pack.id for pack, nbytes in zip(found, copied, strict=True) if nbytes > half}


def plan(packs: Iterable[Pack], choice: FrameChoice) -> RepackPlan:
    """Decide for each of these packs whether it stays, is rewritten or is removed."""
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
    """Return whether a chosen frame loses its base, or another frame's base is not kept."""
    chosen = set(kept)
    oids = pack.rows["oid"].tobytes()
    for position, base in pack.based():
        oid = oids[32 * position : 32 * position + 32]
        if oid in choice.without_base if position in chosen else base not in choice.needed:
            return True
    return False


def _bytes_of(pack: Pack, positions: list[int], choice: FrameChoice) -> tuple[int, int]:
    """Return the bytes of the chosen frames, and of their rows in an index."""
    rows = pack.rows[positions]
    based = np.asarray(positions)[rows["flags"] != 0].tolist()
    frames = (
        int(rows["stored"].sum(dtype="u8")) + pack_format.FRAME.size * len(rows) + 32 * len(based)
    )
    index = pack_format.ROW.itemsize * len(rows) + 32 * len(based)
    for position in based if choice.without_base else ():
        row = pack.row(position)
        if row.oid in choice.without_base:
            frames += choice.without_base[row.oid] - row.stored - 32
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
    """Copy the chosen frames into new packs, durably; returns the ids and lengths of these.

    With `recompress` each frame is written in the smallest encoding found for it. `progress` is
    called with the bytes of each. Raises an IntegrityError for a damaged frame.
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
    """Return the payload to write for a frame, and its base."""
    if row.oid in choice.without_base:
        return transcode.without_base(catalogue, pack, row), None
    smaller = transcode.smaller(catalogue, pack, row) if recompress else None
    if smaller is not None:
        return smaller
    payload = read_payload(catalogue, pack, row)
    return Encoded(Codec(row.codec), (payload,), row.stored), row.base


def recompress(
    storage: Storage,
    catalogue: PackCatalogue,
    sources: Iterable[Pack],
    choice: FrameChoice,
    progress: Callable[[int], None],
) -> Iterator[tuple[Pack, str, int]]:
    """Write each pack again with every frame in the smallest encoding found for it.

    Yields the packs for which that paid, with the id and length of the new pack, which is durable
    by then. Raises like `rewrite`; the packs yielded before stay.
    """
    for pack in sorted(sources, key=lambda pack: pack.id):
        rows = sorted(map(pack.row, choice.kept[pack.id]), key=lambda row: row.offset)
        writer = PackWriter(storage.create())
        try:
            for row in rows:
                encoded, base = _form(catalogue, pack, row, choice, recompress=True)
                writer.append(row.kind, row.oid, row.raw, encoded, base=base)
                progress(row.stored)
            if writer.size < MAX_SHARE * pack.index.end:
                made = writer.publish()
                yield pack, made.id, made.size
        finally:
            writer.discard()


def prove_others(
    catalogue: PackCatalogue, packs: Iterable[Pack], going: Collection[Pack], choice: FrameChoice
) -> None:
    """Prove the chosen frames of objects that also have a frame in a pack that is removed.

    So the intact one of two copies is never removed. Raises an IntegrityError for a damaged frame.
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
                    read_payload(catalogue, pack, row)
