"""A `DataLoader` that resumes in mid-epoch, without reading the data that was consumed.

Which data comes next is decided by the batch sampler and by the generators it draws from. torch
draws twice per epoch: when the workers are made (their base seed), and when the sampler is first
asked (the order). Both may happen long before a batch is consumed, since workers read ahead. So the
loader keeps the generators as they were at those two moments, counts the batches handed out, and on
resume goes the same way again: set the first, make the workers; set the second, advance the batch
sampler alone; set the generators of the moment of the commit, go on.

Not replayed: what the dataset draws inside workers, and a sampler that draws from a global
generator in the middle of an epoch, in between the draws of the training loop.
"""

from __future__ import annotations

import copy
import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from gradient.errors import ConfigError, MisfitError
from gradient.state import rng
from gradient.state.dataloader_workers import ProtectedWorkerInit, signals_blocked

_NAME = "loader"


def loader_name(number: int) -> str:
    """Return the name under which the state of a run's n-th loader is registered."""
    return f"{_NAME}.{number}" if number else _NAME


def is_loader_name(name: str) -> bool:
    """Tell whether a component is the state of a loader."""
    head, _, number = name.partition(".")
    return head == _NAME and (name == _NAME or number.isdecimal())


def reseeded(state: dict[str, Any]) -> dict[str, Any]:
    """Return a loader's state that goes on with the global generators as they are now."""
    if state["consumed"] is None:  # between epochs nothing but the loader's own is kept
        return state
    return state | {"now": state["now"] | rng.capture_cpu()}


class ResumableLoader:
    """Wraps a map-style `DataLoader`; iterate over this one instead.

    A commit while an epoch is read resumes after the last batch handed out. An epoch that the
    script leaves early (``break``) is over, as it is for a plain `DataLoader`.
    """

    def __init__(
        self, dataloader: DataLoader[Any], *, on_resume: Callable[[], object] | None = None
    ) -> None:
        """Wrap a loader; `on_resume` is called where the reading of a resumed epoch begins."""
        if not hasattr(dataloader, "dataset"):
            raise ConfigError(
                f"the loader is of type {type(dataloader).__name__}, no DataLoader of "
                "torch.utils.data; of something else, register the position: register_state"
            )
        if isinstance(dataloader.dataset, IterableDataset):
            raise ConfigError(
                "an IterableDataset decides itself what comes next, so the loader cannot resume "
                "it; use a map-style dataset, or register the dataset's own position"
            )
        if dataloader.num_workers > 1 and not dataloader.in_order:
            raise ConfigError(
                "in_order=False hands out batches in no order that could be resumed; "
                "use in_order=True"
            )
        self.dataloader = dataloader
        """The loader as the script made it; it is not iterated itself."""
        self.finished = 0
        """How many epochs ended here, by exhaustion or because the script left them."""
        self._on_resume = on_resume
        self._sampler = _ResumableSampler(self)
        self._inner = _with_sampler(dataloader, self._sampler)
        self._protected_signals: tuple[int, ...] = ()
        self._reading: object | None = None
        self._consumed = 0
        self._workers: dict[str, Any] | None = None
        self._start: dict[str, Any] | None = None
        self._pending: dict[str, Any] | None = None

    def protect_workers(self, signals: Sequence[int]) -> None:
        """Let workers that start from now on outlive signals that are sent to the whole job."""
        if signals:
            self._protected_signals = tuple(signals)
            self._inner.worker_init_fn = ProtectedWorkerInit(
                self.dataloader.worker_init_fn, self._protected_signals
            )

    def __len__(self) -> int:
        return len(self.dataloader)

    def __getattr__(self, name: str) -> Any:
        if name == "dataloader":  # not set yet: a copy or an unpickled shell asks
            raise AttributeError(name)
        return getattr(self.dataloader, name)

    @property
    def in_epoch(self) -> bool:
        """Whether an epoch is being read, or will be read on after a resume."""
        if self._pending is not None:
            return self._pending["consumed"] is not None
        return self._reading is not None

    def __iter__(self) -> Iterator[Any]:
        """Read an epoch: the rest of the resumed one if there is one, else a new one."""
        if self._reading is not None:
            self._reading = None
            self.finished += 1  # the script left that epoch, and another begins
        batches = self._begin(self._pending)
        self._consumed = 0 if self._pending is None else self._pending["consumed"] or 0
        if self.in_epoch and self._on_resume is not None:
            self._on_resume()
        self._pending = None
        self._reading = token = object()
        return self._read(token, batches)

    def _read(self, token: object, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            for batch in batches:
                if self._reading is token:
                    self._consumed += 1
                yield batch
        finally:
            if self._reading is token:
                self._reading = None
                self.finished += 1

    def _begin(self, pending: dict[str, Any] | None) -> Iterator[Any]:
        persistent = self._inner.persistent_workers and self._inner.num_workers > 0
        if pending is not None and pending["consumed"] is None:
            self.set_generators(pending["now"])
        here = self.generators()
        self._sampler.start_at(None, 0)
        if pending is not None and (pending["consumed"] is not None or persistent):
            if pending["workers"] is not None:
                self.set_generators(pending["workers"])
            if pending["consumed"] is None:
                self._sampler.start_at(here, 0)
            else:
                self._sampler.start_at(pending["start"], pending["consumed"])
        if not persistent or self._inner._iterator is None:
            self._workers = self.generators()
        with signals_blocked(self._protected_signals):
            batches = iter(self._inner)
        if pending is not None and pending["consumed"] is not None:
            self._sampler.begin()
            self.set_generators(pending["now"])
        return batches

    def started(self) -> None:
        """Note the generators from which the sampler draws the order of this epoch."""
        self._start = self.generators()

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch, and the generators of the moments that matter."""
        if self._pending is not None:
            return self._pending
        reading = self._reading is not None
        return {
            "batches": _length(self.dataloader),
            "consumed": self._consumed if reading else None,
            "workers": self._workers,
            "start": self._start if reading else None,
            "now": self.generators() if reading else self._own(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume there at the next ``iter()``; raises MisfitError where the batches differ."""
        here = _length(self.dataloader)
        if state["consumed"] is not None and state["batches"] != here:
            raise MisfitError(
                f"the checkpoint stands in an epoch of {state['batches']} batches, here it has "
                f"{here}: use the same dataset and batch size, or leave the loader out"
            )
        self._reading = None
        self._pending = state

    def generators(self) -> dict[str, Any]:
        """Return the state of the global CPU generators and of the loader's own."""
        return rng.capture_cpu() | self._own()

    def set_generators(self, state: dict[str, Any]) -> None:
        """Set what `generators` returned, or a part of it."""
        if all(name in state for name in _GLOBAL):
            rng.restore({name: state[name] for name in _GLOBAL})
        for name, generator in _own_generators(self.dataloader).items():
            if f"own.{name}" in state:
                _set(generator, state[f"own.{name}"])

    def _own(self) -> dict[str, Any]:
        return {f"own.{name}": _get(g) for name, g in _own_generators(self.dataloader).items()}


_GLOBAL = ("python", "numpy", "torch")


class _ResumableSampler:
    """The batch sampler of the inner loader: the script's, from any batch on."""

    def __init__(self, owner: ResumableLoader) -> None:
        # Weak, since a cycle would leave workers to the collector, which may run in a forked child.
        self._owner = weakref.ref(owner)
        batch_sampler = owner.dataloader.batch_sampler
        self._sampler: Any = owner.dataloader.sampler if batch_sampler is None else batch_sampler
        self._generators: dict[str, Any] | None = None
        self._skip = 0
        self._batches: Iterator[Any] | None = None

    def __len__(self) -> int:
        return len(self._sampler)

    def start_at(self, generators: dict[str, Any] | None, skip: int) -> None:
        """Say what the next epoch draws from (None: as they are), and its first batch."""
        self._generators, self._skip = generators, skip

    def __iter__(self) -> Iterator[Any]:
        self._batches = None
        return self._lazily()

    def begin(self) -> None:
        """Draw the order and skip, unless the workers have asked for batches already."""
        owner = self._owner()
        if self._batches is not None or owner is None:
            return
        if self._generators is not None:
            owner.set_generators(self._generators)
        owner.started()
        self._batches = iter(self._sampler)
        for _ in range(self._skip):
            next(self._batches, None)

    def _lazily(self) -> Iterator[Any]:
        self.begin()
        batches = self._batches
        if batches is not None:
            yield from batches


def _with_sampler(dataloader: DataLoader[Any], order: _ResumableSampler) -> DataLoader[Any]:
    """Copy a loader (subclass and settings included) and give the copy another sampler."""
    inner = copy.copy(dataloader)
    name = "sampler" if dataloader.batch_sampler is None else "batch_sampler"
    # A DataLoader refuses this through setattr, to protect one that is in use; this one is new.
    object.__setattr__(inner, name, order)
    inner._iterator = None
    return inner


def _length(dataloader: DataLoader[Any]) -> int | None:
    try:
        return len(dataloader)
    except TypeError:  # a sampler without a length
        return None


def _own_generators(dataloader: DataLoader[Any]) -> dict[str, Any]:
    """Find the generators that the loader and its samplers hold, each once, by place."""
    batch_sampler = dataloader.batch_sampler
    places = {
        "loader": dataloader,
        "sampler": dataloader.sampler,
        "batch_sampler": batch_sampler,
        "batch_sampler.sampler": getattr(batch_sampler, "sampler", None),
    }
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for place, holder in places.items():
        for name, value in sorted(getattr(holder, "__dict__", {}).items()):
            if isinstance(value, _KINDS) and id(value) not in seen:
                seen.add(id(value))
                found[f"{place}.{name}"] = value
    return found


_KINDS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


def _get(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.get_state()


def _set(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)
