"""What is saved: runs made on the spot, the same bits for every system.

A workload builds a run, and moves it on from one checkpoint to the next. Everything is seeded by
the number of the checkpoint alone, so that each system, in its own process, saves the same states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from blake3 import blake3
from torch import nn

from tools.bench import gpt

_WIDTH: Final = 1024
_SMALL_WIDTH: Final = 128
_RANK: Final = 8
_WIDE_LAYERS: Final = 4


@dataclass
class Run:
    """Live objects, as a training script has them."""

    model: nn.Module
    """What is trained."""
    optimizer: torch.optim.Optimizer
    """What trains it; without state where the workload is about weights alone."""

    def state_dict(self) -> dict[str, Any]:
        """Return what is saved; tensors are the live ones."""
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Put a saved state back with both `load_state_dict`s."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every tensor of the state under a name."""
        for name, value in self.model.state_dict().items():
            yield f"model.{name}", value
        state = self.optimizer.state_dict()["state"]
        for number, entries in state.items():
            for name, value in entries.items():
                yield f"optimizer.{number}.{name}", value

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors, tied ones once."""
        return sum({t.data_ptr(): t.nbytes for _, t in self.tensors()}.values())

    @property
    def trained(self) -> int:
        """The bytes of parameters that have gradients, and of their optimizer state."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        moments = (self.optimizer.state.get(parameter, {}).values() for parameter in parameters)
        return sum(t.nbytes for group in (parameters, *moments) for t in group)

    def digest(self) -> str:
        """Return a hash of every name, dtype, shape and bit, whatever their order."""
        hasher = blake3()
        for name, value in sorted(self.tensors(), key=lambda item: item[0]):
            hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
            if value.numel():
                flat = value.detach().contiguous().flatten().view(torch.uint8)
                hasher.update(flat.numpy().data)
        return hasher.hexdigest()


@dataclass(frozen=True)
class Workload:
    """One kind of work."""

    name: str
    """As on the command line."""
    about: str
    """For the report."""
    build: Callable[[int, Path], Run]
    """Makes the objects of a script that begins, for a state of so many MB."""
    begin: Callable[[Run, Path], None]
    """Trains them up to the first checkpoint."""
    advance: Callable[[Run, int, Path], None]
    """Moves the run from checkpoint number n - 1 to n."""
    saves: int | None = None
    """Checkpoints after the first; None: one per round."""
    forks: bool = False
    """Whether later checkpoints are forks of the first one."""


def _stack(megabytes: int, dtype: torch.dtype, per_weight: int) -> nn.Sequential:
    """Return linear layers that with `per_weight` bytes per weight make a state of that size."""
    width = _WIDTH if megabytes >= 32 else _SMALL_WIDTH
    return _layers(max(2, megabytes * 1_000_000 // (per_weight * width * width)), width).to(dtype)


def _layers(count: int, width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(count)))


def _adamw(dtype: torch.dtype, rate: float) -> Callable[[int, Path], Run]:
    def build(megabytes: int, _: Path) -> Run:
        model = _stack(megabytes, dtype, 3 * dtype.itemsize)
        return Run(model, torch.optim.AdamW(model.parameters(), lr=rate))

    return build


def _step(run: Run, number: int, _: Path | None = None) -> None:
    """One optimizer step on noise; layers differ in scale, as those of real models do."""
    torch.manual_seed(1000 + number)
    for place, parameter in enumerate(run.model.parameters()):
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape) * 10.0 ** -(2 + place % 3)
            parameter.grad = noise.to(parameter.dtype)
    run.optimizer.step()
    run.optimizer.zero_grad()


def _warm(run: Run, _: Path) -> None:
    for number in range(-3, 0):
        _step(run, number)


def _untrained(run: Run, folder: Path) -> None:
    """Begin as constructed."""


def _nothing(run: Run, number: int, folder: Path) -> None:
    """Leave everything as it is."""


class _Adapted(nn.Module):
    """A frozen layer with a low-rank adapter."""

    def __init__(self, base: nn.Module, width: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(_RANK, width) * 0.02)
        self.up = nn.Parameter(torch.zeros(width, _RANK))


def _lora(megabytes: int, _: Path) -> Run:
    return _adapted(_stack(megabytes, torch.float32, 4))


def _wide_lora(megabytes: int, _: Path) -> Run:
    width = math.isqrt(megabytes * 1_000_000 // (4 * _WIDE_LAYERS)) // 64 * 64
    return _adapted(_layers(_WIDE_LAYERS, max(width, _SMALL_WIDTH)))


def _adapted(base: nn.Sequential) -> Run:
    """Freeze a model and train adapters on it."""
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    layers = [_Adapted(layer, int(layer.in_features)) for layer in base]  # type: ignore[arg-type]
    model = nn.Sequential(*layers)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Run(model, torch.optim.AdamW(trained, lr=1e-4))


def _weights(megabytes: int, _: Path) -> Run:
    model = _stack(megabytes, torch.bfloat16, 2)
    return Run(model, torch.optim.SGD(model.parameters(), lr=1e-6))


def _sparse(run: Run, number: int, _: Path) -> None:
    """Change one weight in a hundred, anywhere, by one unit in the last place."""
    torch.manual_seed(2000 + number)
    for parameter in run.model.parameters():
        flat = parameter.data.view(-1).view(torch.int16)
        chosen = torch.randint(flat.numel(), (max(1, flat.numel() // 100),))
        flat[chosen] += 1


def snapshot_path(folder: Path, dtype: str, step: int) -> Path:
    """Return where the state of the real run after a step lies."""
    return folder / f"real-{dtype}-{step}.pt"


def _real(dtype: str) -> Callable[[int, Path], Run]:
    kind = DTYPES[dtype]

    def build(_: int, folder: Path) -> Run:
        shape = torch.load(folder / "shape.pt")
        model = gpt.Gpt(gpt.Shape(**shape)).to(kind)
        return Run(model, gpt.optimizer_of(model, kind))

    return build


def _replay(dtype: str, apart: int) -> Callable[[Run, int, Path], None]:
    def advance(run: Run, number: int, folder: Path) -> None:
        step = REAL_START + number * apart
        run.load(torch.load(snapshot_path(folder, dtype, step)))

    return advance


def _first(dtype: str) -> Callable[[Run, Path], None]:
    advance = _replay(dtype, 1)
    return lambda run, folder: advance(run, 0, folder)


DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
REAL_START: Final = 200
"""The step of the real run's first checkpoint."""
REAL_SAVES: Final = {1: 10, 10: 10, 50: 4}
"""Steps between checkpoints, and how many follow the first."""


def real_steps(dtype: str, names: list[str]) -> list[int]:
    """Return the steps of the real run whose state the workloads named need."""
    steps = {
        REAL_START + number * apart
        for apart, saves in REAL_SAVES.items()
        if f"real-{dtype}-{apart}" in names
        for number in range(saves + 1)
    }
    return sorted(steps)


WORKLOADS: Final[dict[str, Workload]] = {
    each.name: each
    for each in [
        Workload(
            "full",
            "fp32 weights and AdamW state, one step apart",
            _adamw(torch.float32, 1e-4),
            _warm,
            _step,
        ),
        Workload(
            "bf16",
            "bf16 weights and AdamW state, low learning rate, one step apart",
            _adamw(torch.bfloat16, 1e-5),
            _warm,
            _step,
        ),
        Workload("lora", "frozen fp32 base, rank-8 adapters with AdamW", _lora, _warm, _step),
        Workload(
            "lora-wide",
            "as lora, four wide layers (300 MB: as wide as those of 7 billion parameters)",
            _wide_lora,
            _warm,
            _step,
        ),
        Workload(
            "frozen", "as full, nothing changed", _adamw(torch.float32, 1e-4), _warm, _nothing
        ),
        Workload("sparse", "bf16 weights alone, 99 % unchanged", _weights, _untrained, _sparse),
        Workload(
            "fork",
            "as full; a second branch is started at the first checkpoint (others save again)",
            _adamw(torch.float32, 1e-4),
            _warm,
            _nothing,
            forks=True,
        ),
        *(
            Workload(
                f"real-{dtype}-{apart}",
                f"the demo's GPT, {dtype}, checkpoints {apart} step{'s' * (apart > 1)} apart",
                _real(dtype),
                _first(dtype),
                _replay(dtype, apart),
                saves=saves,
            )
            for dtype in DTYPES
            for apart, saves in REAL_SAVES.items()
        ),
    ]
}
"""Every workload by name."""
