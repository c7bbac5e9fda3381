"""Four small training runs that between them hold everything a resumed run can get wrong.

Each is written the way its user would write it: `build` makes the objects from a fixed seed, and
`batch_loss` computes one step's loss. What drives them is in `drive.py`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 40
SEED = 1234


@dataclass
class Rig:
    """The live objects of one run."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: Any
    batch_loss: Callable[[Any], torch.Tensor]
    registered: dict[str, Any] = field(default_factory=dict)
    """Anything with state_dict and load_state_dict, by the name it is registered under."""
    loader: DataLoader[Any] | None = None
    """The source of batches; without one, `batch_loss` draws its own."""

    def holders(self) -> list[Any]:
        """Return whatever has state, for a digest."""
        return [self.model, self.optimizer, self.scheduler, *self.registered.values()]


def seed_everything() -> None:
    """Start every generator where a script with a fixed seed starts them."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


# A GPT with dropout, AdamW and a cosine schedule -------------------------------------------------


class Block(nn.Module):
    """Attention and a feed-forward part, each with dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        split = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.1)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.feed(self.norm2(x))


class GPT(nn.Module):
    """Tied embeddings, two blocks."""

    def __init__(self, *, vocabulary: int = 64, width: int = 32, context: int = 16) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(tokens.shape[1])
        x = self.drop(self.tokens(tokens) + self.positions(positions))
        return self.head(self.norm(self.blocks(x)))


def build_gpt() -> Rig:
    seed_everything()
    text = torch.randint(64, (2000,))
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    scheduler = CosineAnnealingLR(optimizer, T_max=STEPS)

    def batch_loss(_: Any) -> torch.Tensor:
        starts = torch.randint(len(text) - 17, (4,))
        window = torch.stack([text[start : start + 17] for start in starts])
        logits = model(window[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())

    return Rig(model, optimizer, scheduler, batch_loss)


# A convolutional net with batch norm, SGD momentum and OneCycleLR, fed by a DataLoader ------------


def build_conv() -> Rig:
    seed_everything()
    images, labels = torch.randn(50, 1, 8, 8), torch.randint(4, (50,))
    # 13 batches an epoch, the last of them short: 40 steps end inside the fourth epoch.
    loader = DataLoader(TensorDataset(images, labels), batch_size=4, shuffle=True, num_workers=2)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 4),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    scheduler = OneCycleLR(optimizer, max_lr=0.2, total_steps=STEPS + 1)

    def batch_loss(batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return functional.cross_entropy(model(inputs), targets)

    return Rig(model, optimizer, scheduler, batch_loss, loader=loader)


# An LSTM with Adam amsgrad and an environment that draws from Python's and NumPy's generators -----


class Walk:
    """An environment: a drunkard's walk with gusts, and a generator of its own beside them."""

    def __init__(self) -> None:
        self.position = 0.0
        self.trail: list[float] = []
        self.own = np.random.default_rng(SEED)

    def observe(self, length: int) -> torch.Tensor:
        """Walk on and return the last `length` + 1 positions."""
        for _ in range(length + 1):
            gust = random.gauss(0.0, 0.3) + 0.1 * self.own.standard_normal()
            self.position = 0.9 * self.position + float(np.random.uniform(-1, 1)) + gust
            self.trail.append(self.position)
        self.trail = self.trail[-(length + 1) :]
        return torch.tensor(self.trail)

    def state_dict(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "trail": list(self.trail),
            "own": self.own.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        self.trail = list(state["trail"])
        self.own.bit_generator.state = state["own"]


class Forecaster(nn.Module):
    """Predicts the next position of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 16, num_layers=2, dropout=0.1)
        self.head = nn.Linear(16, 1)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        hidden, _ = self.lstm(series[:, None, None])
        return self.head(hidden)[:, 0, 0]


def build_lstm() -> Rig:
    seed_everything()
    model = Forecaster()
    walk = Walk()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=True)
    scheduler = LambdaLR(optimizer, lambda step: 1.0 / math.sqrt(1 + step))

    def batch_loss(_: Any) -> torch.Tensor:
        trail = walk.observe(12)
        return functional.mse_loss(model(trail[:-1]), trail[1:])

    return Rig(model, optimizer, scheduler, batch_loss, registered={"walk": walk})


# bfloat16 parameters with float32 moments ---------------------------------------------------------


class WideAdam(torch.optim.Optimizer):
    """Adam that keeps its moments in float32, whatever the parameters are."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["first"] = torch.zeros_like(parameter, dtype=torch.float32)
                    state["second"] = torch.zeros_like(parameter, dtype=torch.float32)
                gradient = parameter.grad.float()
                state["step"] += 1
                state["first"].lerp_(gradient, 0.1)
                state["second"].lerp_(gradient.square(), 0.05)
                first = state["first"] / (1 - 0.9 ** state["step"])
                second = state["second"] / (1 - 0.95 ** state["step"])
                update = first / (second.sqrt() + 1e-8)
                parameter.copy_(parameter.float() - group["lr"] * update)


def build_bf16() -> Rig:
    seed_everything()
    model = nn.Sequential(
        nn.Linear(8, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 8), nn.LayerNorm(8)
    ).to(torch.bfloat16)
    optimizer = WideAdam(model.parameters(), lr=1e-2)
    scheduler = CosineAnnealingLR(optimizer, T_max=STEPS)

    def batch_loss(_: Any) -> torch.Tensor:
        inputs = torch.randn(16, 8, dtype=torch.bfloat16)
        return functional.mse_loss(model(inputs).float(), inputs.float().flip(1))

    return Rig(model, optimizer, scheduler, batch_loss)


WORKLOADS: dict[str, Callable[[], Rig]] = {
    "gpt-adamw-cosine": build_gpt,
    "conv-sgd-onecycle-loader": build_conv,
    "lstm-amsgrad-environment": build_lstm,
    "bf16-wide-moments": build_bf16,
}
