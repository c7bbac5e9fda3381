from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
    get_worker_info,
)

from gradient.errors import ConfigError, MisfitError
from gradient.state import rng
from gradient.state.loader import ResumableLoader, is_loader_name, loader_name, reseeded
from gradient.state.snapshot import snapshot
from tests.state.value_roundtrip import same, through

SIZE = 23


class Numbers(Dataset[Any]):
    """Items that say which they are, what seeded their worker, and what was drawn for them."""

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, int, float]:
        self.reads.append(index)
        worker = get_worker_info()
        if worker is None:
            return index, 0, torch.rand(()).item()
        return index, worker.seed - worker.id, 0.0


class PythonSampler:
    """A sampler of the user's, with a generator of its own and a draw from the global ones."""

    def __init__(self) -> None:
        self.generator = random.Random(3)
        self.numpy = np.random.default_rng(3)

    def __len__(self) -> int:
        return SIZE

    def __iter__(self) -> Iterator[int]:
        items = list(range(SIZE))
        self.generator.shuffle(items)
        random.shuffle(items)
        order = self.numpy.permutation(np.random.permutation(SIZE))
        return iter([items[i] for i in order])


def implicit(workers: int) -> DataLoader[Any]:
    return DataLoader(Numbers(), 4, shuffle=True, num_workers=workers)


def explicit(workers: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(5)
    return DataLoader(Numbers(), 4, shuffle=True, num_workers=workers, generator=generator)


def replacing(workers: int) -> DataLoader[Any]:
    data, generator = Numbers(), torch.Generator().manual_seed(5)
    sampler = RandomSampler(data, replacement=True, num_samples=60, generator=generator)
    return DataLoader(data, 4, sampler=sampler, generator=generator, num_workers=workers)


def weighted(workers: int) -> DataLoader[Any]:
    sampler = WeightedRandomSampler([1.0] * SIZE, SIZE)
    return DataLoader(Numbers(), 4, sampler=sampler, drop_last=True, num_workers=workers)


def single(workers: int) -> DataLoader[Any]:
    return DataLoader(Numbers(), None, shuffle=True, num_workers=workers)


def custom(workers: int) -> DataLoader[Any]:
    return DataLoader(Numbers(), 4, sampler=PythonSampler(), num_workers=workers)


def persistent(workers: int) -> DataLoader[Any]:
    keep = workers > 0
    return DataLoader(Numbers(), 4, shuffle=True, num_workers=workers, persistent_workers=keep)


Made = Callable[[int], DataLoader[Any]]
KINDS: dict[str, Made] = {
    made.__name__: made
    for made in (implicit, explicit, replacing, weighted, single, custom, persistent)
}


def noise() -> tuple[float, ...]:
    return torch.rand(()).item(), random.random(), np.random.rand()


def read(loader: Any, first: int, states: list[Any] | None = None) -> list[Any]:
    """Train for three epochs: every batch, and what the training loop draws after it."""
    seen: list[Any] = []

    def commit(epoch: int) -> None:
        if states is not None:
            position = through(loader.state_dict())
            states.append((epoch, position, rng.capture(), len(seen)))

    for epoch in range(first, 3):
        for batch in loader:
            seen.append(([torch.as_tensor(part).tolist() for part in batch], noise()))
            commit(epoch)
        seen.append(noise())
        commit(epoch + 1)
    return seen


def check(made: Made, workers: int, every: int) -> None:
    rng.reseed(3)
    plain = read(made(workers), 0)
    rng.reseed(3)
    states: list[Any] = []
    whole = read(ResumableLoader(made(workers)), 0, states)
    assert whole == plain
    for epoch, position, generators, count in states[::every]:
        rng.reseed(99)
        inner = made(workers)
        loader = ResumableLoader(inner)
        loader.load_state_dict(snapshot(position))
        assert same(loader.state_dict(), position)
        rng.restore(generators)
        rest = read(loader, epoch)
        assert rest == whole[count:]
        if not workers:
            batches = [item[0][0] for item in rest if isinstance(item[0], list)]
            handed = sum(len(b) if isinstance(b, list) else 1 for b in batches)
            assert len(inner.dataset.reads) == handed


@pytest.mark.parametrize("kind", KINDS)
def test_every_position_resumes_to_the_bit(kind: str) -> None:
    check(KINDS[kind], 0, 1)


@pytest.mark.parametrize("kind", ["implicit", "explicit", "replacing", "persistent"])
def test_positions_with_workers_resume_to_the_bit(kind: str) -> None:
    check(KINDS[kind], 2, 5)


def test_draws_between_the_resume_and_the_loop_shift_nothing() -> None:
    rng.reseed(3)
    loader = ResumableLoader(implicit(0))
    batches = iter(loader)
    next(batches)
    position, generators = through(loader.state_dict()), rng.capture()
    expected = [batch[0].tolist() for batch in batches], noise()
    other = ResumableLoader(implicit(0))
    other.load_state_dict(position)
    rng.restore(generators)
    noise()
    assert ([batch[0].tolist() for batch in other], noise()) == expected


def test_a_reseed_changes_the_loop_and_not_the_order() -> None:
    loader = ResumableLoader(implicit(0))
    batches = iter(loader)
    next(batches)
    position = through(loader.state_dict())
    rest = [batch[0].tolist() for batch in batches]
    rng.reseed(11)
    changed = through(reseeded(position))
    draws = []
    for _ in range(2):
        other = ResumableLoader(implicit(0))
        other.load_state_dict(snapshot(changed))
        noise()
        assert [batch[0].tolist() for batch in other] == rest
        draws.append(noise())
    assert draws[0] == draws[1]
    between = ResumableLoader(implicit(0)).state_dict()
    assert reseeded(between) is between


def test_the_reading_of_a_resumed_epoch_is_announced() -> None:
    calls: list[int] = []
    loader = ResumableLoader(implicit(0), on_resume=lambda: calls.append(1))
    batches = iter(loader)
    next(batches)
    position = through(loader.state_dict())
    list(batches)
    assert not calls
    loader.load_state_dict(position)
    list(loader)
    list(loader)
    assert calls == [1]


def test_names() -> None:
    assert [loader_name(0), loader_name(2)] == ["loader", "loader.2"]
    for name, expected in {
        "loader": True,
        "loader.2": True,
        "loader.x": False,
        "env": False,
    }.items():
        assert is_loader_name(name) is expected


def test_epochs_are_counted() -> None:
    loader = ResumableLoader(implicit(0))
    assert not loader.in_epoch
    batches = iter(loader)
    assert loader.in_epoch
    next(batches)
    assert (loader.in_epoch, loader.finished) == (True, 0)
    position = through(loader.state_dict())
    list(batches)
    assert (loader.in_epoch, loader.finished) == (False, 1)
    for _ in loader:
        break
    assert (loader.in_epoch, loader.finished) == (False, 2)
    assert loader.state_dict()["consumed"] is None
    loader.load_state_dict(position)
    assert (loader.in_epoch, loader.finished) == (True, 2)
    list(loader)
    assert (loader.in_epoch, loader.finished) == (False, 3)


def test_a_resume_in_the_middle_of_an_epoch_wins() -> None:
    rng.reseed(3)
    loader = ResumableLoader(implicit(0))
    batches = iter(loader)
    next(batches)
    position = through(loader.state_dict())
    expected = [batch[0].tolist() for batch in batches]
    stale = iter(loader)
    next(stale)
    loader.load_state_dict(position)
    next(stale)
    stale.close()
    assert loader.finished == 1
    assert [batch[0].tolist() for batch in loader] == expected


def test_another_number_of_batches_is_a_misfit() -> None:
    loader = ResumableLoader(implicit(0))
    fresh = loader.state_dict()
    next(batches := iter(loader))
    position = loader.state_dict()
    batches.close()
    other = ResumableLoader(DataLoader(Numbers(9), 4))
    with pytest.raises(MisfitError, match="epoch of 6 batches, here it has 3"):
        other.load_state_dict(position)
    other.load_state_dict(fresh)


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_what_cannot_resume_is_refused() -> None:
    with pytest.raises(ConfigError, match="the loader is of type list, no DataLoader of torch"):
        ResumableLoader([1, 2, 3])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="IterableDataset"):
        ResumableLoader(DataLoader(Stream()))
    with pytest.raises(ConfigError, match="in_order"):
        ResumableLoader(DataLoader(Numbers(), num_workers=2, in_order=False))


def test_it_looks_like_the_loader() -> None:
    loader = ResumableLoader(implicit(0))
    assert len(loader) == 6
    assert loader.batch_size == 4
    assert loader.dataset.size == SIZE
    with pytest.raises(AttributeError):
        loader.nothing  # noqa: B018


def test_a_sampler_without_a_length() -> None:
    class Endless:
        def __iter__(self) -> Iterator[int]:
            return iter([2, 0, 1])

    def build() -> ResumableLoader:
        return ResumableLoader(DataLoader(Numbers(), 1, sampler=Endless()))

    loader = build()
    batches = iter(loader)
    next(batches)
    other = build()
    other.load_state_dict(through(loader.state_dict()))
    assert [batch[0].tolist() for batch in other] == [[0], [1]]
