"""A `DataLoader` that resumes in the middle of an epoch without reading the consumed data again.

The batch sampler and the generators it draws from decide the order of the data. torch draws twice
per epoch: when the workers are created (their base seed), and when the sampler yields its first
batch (the order). Workers read ahead, so both draws may happen long before a batch is consumed.
The loader therefore keeps the generator states of those two moments and counts the batches it
returned. On resume it repeats the steps: set the first states and create the workers; set the
second states and advance the batch sampler alone; then set the generator states of the commit.

Not replayed: random draws of the dataset inside workers, and samplers that draw from a global
generator during an epoch, between the draws of the training loop.
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
    """Return the name under which the state of a run's loader is registered; `number` is from 0."""
    return f"{_NAME}.{number}" if number else _NAME


def is_loader_name(name: str) -> bool:
    """Return whether a component is the state of a loader."""
    head, _, number = name.partition(".")
    return head == _NAME and (name == _NAME or number.isdecimal())


def reseeded(state: dict[str, Any]) -> dict[str, Any]:
    """Return a loader's state with its global generators replaced by their current states."""
    if state["consumed"] is None:  # between epochs only the loader's own generators are kept
        return state
    return state | {"now": state["now"] | rng.capture_cpu()}


class ResumableLoader:
    """Wraps a map-style `DataLoader`; iterate over the wrapper instead.

    A commit during an epoch resumes after the last returned batch. An epoch that the script leaves
    early (``break``) has ended, as with a plain `DataLoader`.
    """

    def __init__(
        self, dataloader: DataLoader[Any], *, on_resume: Callable[[], object] | None = None
    ) -> None:
        """Wrap a loader; `on_resume` is called when iteration over a resumed epoch begins.

        Raises ConfigError for a loader that cannot be resumed.
        """
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
        """The loader that the script created; it is not iterated itself."""
        self.finished = 0
        """The number of epochs that ended, by exhaustion or because the script left them."""
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
        """Protect workers that start later against signals that are sent to the whole job."""
        if signals:
            self._protected_signals = tuple(signals)
            self._inner.worker_init_fn = ProtectedWorkerInit(
                self.dataloader.worker_init_fn, self._protected_signals
            )

    def __len__(self) -> int:
        return len(self.dataloader)

    def __getattr__(self, name: str) -> Any:
        if name == "dataloader":  # a copy or an unpickled object without attributes
            raise AttributeError(name)
        return getattr(self.dataloader, name)

    @property
    def in_epoch(self) -> bool:
        """True during an epoch, and after a resume until the rest of the epoch has been read."""
        if self._pending is not None:
            return self._pending["consumed"] is not None
        return self._reading is not None

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rest of the resumed epoch, or else over a new epoch."""
        if self._reading is not None:
            self._reading = None
            self.finished += 1  # the script left that epoch
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
        """Record the generator states from which the sampler draws the order of this epoch."""
        self._start = self.generators()

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch and the generator states; see the module."""
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
        """Resume at this state on the next ``iter()``; raises MisfitError if the batches differ."""
        here = _length(self.dataloader)
        if state["consumed"] is not None and state["batches"] != here:
            raise MisfitError(
                f"the checkpoint stands in an epoch of {state['batches']} batches, here it has "
                f"{here}: use the same dataset and batch size, or leave the loader out"
            )
        self._reading = None
        self._pending = state

    def generators(self) -> dict[str, Any]:
        """Return the states of the global CPU generators and of the loader's own generators."""
        return rng.capture_cpu() | self._own()

    def set_generators(self, state: dict[str, Any]) -> None:
        """Set all or some of the states that `generators` returned."""
        if all(name in state for name in _GLOBAL):
            rng.restore({name: state[name] for name in _GLOBAL})
        for name, generator in _own_generators(self.dataloader).items():
            if f"own.{name}" in state:
                _set(generator, state[f"own.{name}"])

    def _own(self) -> dict[str, Any]:
        return {f"own.{name}": _get(g) for name, g in _own_generators(self.dataloader).items()}


_GLOBAL = ("python", "numpy", "torch")


class _ResumableSampler:
    """The batch sampler of the inner loader: the script's sampler, from a given batch on."""

    def __init__(self, owner: ResumableLoader) -> None:
        # Weak, because in a cycle the garbage collector would end the workers, and it may run in a
        # forked child.
        self._owner = weakref.ref(owner)
        batch_sampler = owner.dataloader.batch_sampler
        self._sampler: Any = owner.dataloader.sampler if batch_sampler is None else batch_sampler
        self._generators: dict[str, Any] | None = None
        self._skip = 0
        self._batches: Iterator[Any] | None = None

    def __len__(self) -> int:
        return len(self._sampler)

    def start_at(self, generators: dict[str, Any] | None, skip: int) -> None:
        """Set the generators for the next epoch (None: unchanged) and the batches to skip."""
        self._generators, self._skip = generators, skip

    def __iter__(self) -> Iterator[Any]:
        self._batches = None
        return self._lazily()

    def begin(self) -> None:
        """Draw the order and skip batches, unless the workers have requested batches already."""
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
    """Return a copy of a loader, with its class and settings but another sampler."""
    inner = copy.copy(dataloader)
    name = "sampler" if dataloader.batch_sampler is None else "batch_sampler"
    # DataLoader.__setattr__ refuses this to protect a loader in use; this one is new.
    object.__setattr__(inner, name, order)
    inner._iterator = None
    return inner


def _length(dataloader: DataLoader[Any]) -> int | None:
    try:
        return len(dataloader)
    except TypeError:  # the sampler has no length
        return None


def _own_generators(dataloader: DataLoader[Any]) -> dict[str, Any]:
    """Return the generators of the loader and its samplers, each once, by attribute path."""
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
