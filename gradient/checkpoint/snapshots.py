"""Copies of drafts, so that the training loop can change its tensors while a commit is written.

Goals: the caller waits about as long as a copy takes; the number of buffers does not exceed the
number of snapshots that exist at one time; unchanged tensors are not copied.

Rules
1. Buffers are reused, because allocating memory costs more than copying into it. A buffer is
   released only after its commit has ended.
2. Only the hash decides whether a tensor changed. Hashing is skipped if a few sampled bytes differ
   from the last commit, and for `PAUSE` commits after a hash that found a change.
3. Device memory is copied to pinned memory on a stream of its own, and `take` waits for the copy.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch

from gradient.checkpoint import chunk_walk
from gradient.checkpoint.draft import Draft, Slot, memory
from gradient.codec.chunks import ranges
from gradient.errors import GradientError
from gradient.objects.oid import Oid
from gradient.objects.tree_reader import TreeReader
from gradient.state import tensors

if TYPE_CHECKING:
    from typing_extensions import Buffer

PAUSE: Final = 16
"""The number of commits for which a tensor is copied without hashing after it had changed."""

_ALIGNED = 64
_SAMPLE = 64
_MAX_EXCESS = 16 << 20


class Store(TreeReader, Protocol):
    """The part of the object database that snapshots use."""

    def name_blobs(self, chunks: Iterable[Buffer]) -> Iterator[Oid]:
        """Yield the id of each chunk, without storing it."""


@dataclass(slots=True)
class Snapshot:
    """One draft that is independent of the live objects."""

    draft: Draft
    """The draft; its slots refer to `buffer`."""
    samples: dict[str, bytes]
    """A few bytes of each slot's content, by path."""
    buffer: torch.Tensor | None
    """The copied memory; None if nothing was copied, or after `release`."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """The content at one path of the last successful commit."""

    chunks: Sequence[Oid]
    sample: bytes | None


@dataclass(slots=True)
class Snapshots:
    """Takes snapshots for one run. Call `take` on the loop's thread, the others on any thread."""

    store: Store
    """The object database to which the commits are written."""
    _stored: Mapping[str, _Stored] = field(default_factory=dict)
    _root: Oid | None = None
    _pauses: dict[str, int] = field(default_factory=dict)
    _free: list[torch.Tensor] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def restored_to(self, root: Oid) -> None:
        """Record that the run was restored to the state of a root tree."""
        self._root = root

    def take(self, draft: Draft) -> Snapshot:
        """Copy the content of the draft's slots that is not stored yet. Changes the draft."""
        self._read_stored()
        samples = _samples(draft.slots)
        copied: list[tuple[int, Slot]] = []
        size, pinned = 0, False
        for slot in draft.slots:
            if type(slot.data) is bytes:
                continue  # immutable
            slot.stored = self._unchanged(slot, samples.get(slot.path))
            if slot.stored is not None:
                slot.data = b""
                continue
            copied.append((size, slot))
            size += -(-slot.nbytes // _ALIGNED) * _ALIGNED
            pinned = pinned or (isinstance(slot.data, torch.Tensor) and slot.data.is_cuda)
        buffer = self._buffer(size, pinned) if copied else None
        if buffer is not None:
            try:
                _copy(copied, buffer)
            except BaseException:
                self._free.append(buffer)
                raise
        return Snapshot(draft, samples, buffer)

    def remember_stored(self, snapshot: Snapshot) -> None:
        """Remember the chunks of a snapshot whose commit succeeded."""
        self._stored = {
            slot.path: _Stored(slot.written, snapshot.samples.get(slot.path))
            for slot in snapshot.draft.slots
        }

    def release(self, snapshot: Snapshot) -> None:
        """Reuse the memory of a snapshot whose commit has ended, whether or not it succeeded."""
        buffer, snapshot.buffer = snapshot.buffer, None
        # A reference to the draft (in the traceback of a failure) must not keep the memory alive.
        snapshot.draft.parts.clear()
        snapshot.draft.slots.clear()
        if buffer is not None:
            self._free.append(buffer)

    def forget_stored(self) -> None:
        """Forget the stored chunks, because a commit that relied on them failed."""
        self._stored, self._root = {}, None

    def _read_stored(self) -> None:
        """Read the chunks of the commit to which the run was restored."""
        root, self._root = self._root, None
        if root is None:
            return
        try:
            self._stored = {
                content.path: _Stored(content.chunks(self.store), None)
                for content in chunk_walk.contents(self.store, root)
            }
        except GradientError:
            self._stored = {}  # everything is copied, and the writer reports the error

    def _unchanged(self, slot: Slot, sample: bytes | None) -> Sequence[Oid] | None:
        """Return the chunks of a slot's content if the last commit has the same content."""
        stored = self._stored.get(slot.path)
        if stored is None or sample is None or stored.sample not in (None, sample):
            return None
        rest = self._pauses.get(slot.path, 0)
        if rest:
            self._pauses[slot.path] = rest - 1
            return None
        content = memory(slot.data)
        chunks = (content[start:stop] for start, stop in ranges(slot.nbytes))
        expected = iter(stored.chunks)
        same = all(oid == next(expected, None) for oid in self.store.name_blobs(chunks))
        if same and next(expected, None) is None:  # shorter content may be a prefix
            return stored.chunks
        self._pauses[slot.path] = PAUSE
        return None

    def _buffer(self, size: int, pinned: bool) -> torch.Tensor:
        """Return a free buffer, or a new one if the free one is too small or far too large."""
        with self._lock:
            free = self._free.pop() if self._free else None
        if (
            free is not None
            and size <= free.nbytes <= 2 * size + _MAX_EXCESS
            and free.is_pinned() == pinned
        ):
            return free
        del free  # release it before allocating
        return torch.empty(max(size, 1), dtype=torch.uint8, device="cpu", pin_memory=pinned)


def _samples(slots: list[Slot]) -> dict[str, bytes]:
    """Return a few bytes of each slot whose memory is dense, by path."""
    found: dict[str, bytes] = {}
    slices: dict[torch.device, tuple[list[str], list[torch.Tensor]]] = {}
    for slot in slots:
        data = slot.data
        if not isinstance(data, torch.Tensor):
            found[slot.path] = b"".join(_ends(memory(data)))
        elif not tensors.is_dense(data):
            continue
        elif data.device.type == "cpu":
            found[slot.path] = b"".join(_ends(memory(data)))
        else:
            paths, pieces = slices.setdefault(data.device, ([], []))
            raw = tensors.flat(data)
            paths.append(slot.path)
            pieces += [raw[start : start + _SAMPLE] for start in _sample_starts(raw.nbytes)]
    for paths, pieces in slices.values():
        together = torch.cat(pieces).cpu().numpy().tobytes()  # one transfer for a whole device
        length = _SAMPLE * 3
        for number, path in enumerate(paths):
            found[path] = together[number * length : (number + 1) * length]
    return found


def _ends(content: memoryview) -> Iterator[memoryview]:
    return (content[start : start + _SAMPLE] for start in _sample_starts(content.nbytes))


def _sample_starts(nbytes: int) -> tuple[int, int, int]:
    # Slots hold more than inline data does, so the three samples fit.
    return 0, nbytes // 2, nbytes - _SAMPLE


def _copy(copied: list[tuple[int, Slot]], buffer: torch.Tensor) -> None:
    """Copy each slot's content into a buffer, and make the slot refer to the copy."""
    whole = buffer.numpy()
    copies: list[tuple[Slot, memoryview]] = []
    with ExitStack() as stack:
        streams: dict[torch.device, torch.cuda.Stream] = {}
        for start, slot in copied:
            place = slice(start, start + slot.nbytes)
            copies.append((slot, whole[place].data))
            if not isinstance(slot.data, torch.Tensor):
                whole[place] = np.frombuffer(memory(slot.data), np.uint8)
            elif slot.data.is_cuda:
                device = slot.data.device
                if device not in streams:
                    streams[device] = _stream(device)
                    stack.callback(streams[device].synchronize)
                raw = tensors.flat(slot.data)
                streams[device].wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(streams[device]):
                    buffer[place].copy_(raw, non_blocking=True)
                    raw.record_stream(streams[device])
            else:
                buffer[place].copy_(tensors.flat(slot.data))
    for slot, content in copies:
        slot.data = content


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
