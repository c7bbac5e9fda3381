"""An index from object ids to packs: sorted arrays over the packs' own tables.

The packs form a few *runs*. A run is a sorted array of 8-byte prefixes with the position of each. A
new pack is a new run. Runs of similar size are merged, so that their number is at most logarithmic
in the number of commits. Readers need no lock: a run never changes, and the tuple of runs is
replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradient.objects.oid import Kind, Oid
from gradient.store import pack_format
from gradient.store.pack import Pack
from gradient.store.pack_format import FrameRow


@dataclass(frozen=True, slots=True)
class _Run:
    prefixes: npt.NDArray[np.uint64]
    """The first eight bytes of each oid as a number, sorted."""
    slots: npt.NDArray[np.uint32]
    """The pack of each."""
    positions: npt.NDArray[np.uint32]
    """The row in that pack of each."""


class ObjectIndex:
    """A set of packs. One thread at a time may change it; any thread may read it."""

    def __init__(self) -> None:
        self._packs: list[Pack | None] = []
        self._slots: dict[str, int] = {}
        self._runs: tuple[_Run, ...] = ()
        self._row_count = 0
        """The number of rows in the runs, including those of dropped packs."""
        self._dropped_rows = 0
        """The number of rows of dropped packs."""

    def __contains__(self, pack_id: str) -> bool:
        return pack_id in self._slots

    @property
    def ids(self) -> set[str]:
        """The ids of the packs."""
        return set(self._slots)

    @property
    def packs(self) -> list[Pack]:
        """The packs."""
        return [pack for pack in self._packs if pack is not None]

    def get(self, pack_id: str) -> Pack | None:
        """Return a pack; None if it is unknown."""
        slot = self._slots.get(pack_id)
        return None if slot is None else self._packs[slot]

    def add(self, packs: Iterable[Pack]) -> None:
        """Add packs that it does not contain yet."""
        fresh = list(packs)
        if not fresh:
            return
        first = len(self._packs)
        self._packs.extend(fresh)
        self._slots.update((pack.id, first + n) for n, pack in enumerate(fresh))
        counts = [len(pack.rows) for pack in fresh]
        prefixes = _prefixes(pack_format.joined([pack.rows for pack in fresh]))
        slots = np.repeat(np.arange(first, first + len(fresh), dtype=np.uint32), counts)
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        positions = (np.arange(len(prefixes)) - firsts).astype(np.uint32)
        runs = list(self._runs)
        while runs and len(runs[-1].prefixes) < 2 * len(prefixes):
            last = runs.pop()
            prefixes = np.concatenate([last.prefixes, prefixes])
            slots = np.concatenate([last.slots, slots])
            positions = np.concatenate([last.positions, positions])
        order = np.argsort(prefixes, kind="stable")
        self._runs = (*runs, _Run(prefixes[order], slots[order], positions[order]))
        self._row_count += sum(counts)

    def drop(self, pack_id: str) -> None:
        """Remove a pack; does nothing if it is unknown."""
        slot = self._slots.pop(pack_id, None)
        pack = None if slot is None else self._packs[slot]
        if slot is not None and pack is not None:
            self._packs[slot] = None
            self._dropped_rows += len(pack.rows)
            if 2 * self._dropped_rows > self._row_count:
                self._shrink()

    def _shrink(self) -> None:
        """Remove the rows of dropped packs from the runs: else they become most of them."""
        live = np.array([pack is not None for pack in self._packs], bool)
        kept = [(run, live[run.slots]) for run in self._runs]
        self._runs = tuple(
            _Run(run.prefixes[mask], run.slots[mask], run.positions[mask])
            for run, mask in kept
            if mask.any()
        )
        self._row_count -= self._dropped_rows
        self._dropped_rows = 0

    def holders(self, oid: Oid) -> Iterator[tuple[Pack, int]]:
        """Yield the packs that have an object, and its row in each."""
        number = int.from_bytes(oid[:8], "big")
        for pack, position in self._between(number, number):
            if pack.rows["oid"][position].tobytes() == oid:
                yield pack, position

    def find(self, oid: Oid) -> list[tuple[Pack, FrameRow]]:
        """Return the frames of an object, those without a base first."""
        found = [(pack, pack.row(position)) for pack, position in self.holders(oid)]
        found.sort(key=lambda item: item[1].base is not None)
        return found

    def find_prefix(self, kind: Kind, hex_prefix: str) -> list[Oid]:
        """Return the sorted ids of the objects of a kind that begin with hex digits."""
        digits = hex_prefix[:16]
        low, high = int(digits.ljust(16, "0"), 16), int(digits.ljust(16, "f"), 16)
        wanted = pack_format.KIND_IDS[kind]
        oids = {
            Oid(pack.rows["oid"][position].tobytes())
            for pack, position in self._between(low, high)
            if pack.rows["kind"][position] == wanted
        }
        return sorted(oid for oid in oids if oid.hex().startswith(hex_prefix))

    def of_kind(self, kind: Kind) -> list[Oid]:
        """Return the sorted ids of all objects of a kind."""
        oids: set[Oid] = set()
        for pack in self.packs:
            raw = pack.rows["oid"][pack.rows["kind"] == pack_format.KIND_IDS[kind]].tobytes()
            oids.update(Oid(raw[at : at + 32]) for at in range(0, len(raw), 32))
        return sorted(oids)

    def object_count(self) -> int:
        """Return the number of distinct objects."""
        rows = [pack.rows for pack in self.packs]
        return len(np.unique(_prefixes(pack_format.joined(rows)))) if rows else 0

    def frame_bytes(self) -> int:
        """Return the total bytes of all frames."""
        rows = pack_format.joined([pack.rows for pack in self.packs])
        return int(rows["stored"].sum(dtype=np.uint64))

    def _between(self, low: int, high: int) -> Iterator[tuple[Pack, int]]:
        for run in self._runs:
            start = int(run.prefixes.searchsorted(np.uint64(low)))
            while start < len(run.prefixes) and run.prefixes[start] <= high:
                pack = self._packs[run.slots[start]]
                if pack is not None:
                    yield pack, int(run.positions[start])
                start += 1


def _prefixes(rows: pack_format.Rows) -> npt.NDArray[Any]:
    octets = rows.view(np.uint8).reshape(len(rows), -1)
    return np.ascontiguousarray(octets[:, :8]).view(">u8").ravel().astype(np.uint64)
