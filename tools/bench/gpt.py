"""The demo's model, as something to train and take snapshots of (docs/examples/train_gpt.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional

_BATCH = 16
_SCHEDULE = 400
_RATES = {torch.float32: 1e-3, torch.bfloat16: 1e-4}


@dataclass(frozen=True)
class Shape:
    """How large a model is; the defaults are the demo's."""

    layers: int = 3
    heads: int = 4
    width: int = 96
    context: int = 64


class Block(nn.Module):
    """Causal attention, then a feed-forward layer, each added to the stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, width) to the same shape."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        mixed: Tensor = self.down(functional.gelu(self.up(self.norm2(x))))
        dropped: Tensor = self.drop(mixed)
        return x + dropped


class Gpt(nn.Module):
    """A decoder over bytes, its input and output embeddings tied."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(256, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, 256, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, text: Tensor) -> Tensor:
        """Map bytes (batch, time) to logits (batch, time, 256)."""
        x = self.tokens(text) + self.positions(torch.arange(text.shape[1]))
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def optimizer_of(model: nn.Module, dtype: torch.dtype) -> torch.optim.AdamW:
    """Return the demo's optimizer; bf16 weights get the low rate that they need."""
    return torch.optim.AdamW(
        model.parameters(), lr=_RATES[dtype], betas=(0.9, 0.95), weight_decay=0.1
    )


def train(
    shape: Shape, dtype: torch.dtype, steps: int
) -> Iterator[tuple[int, nn.Module, torch.optim.Optimizer]]:
    """Train on the text that Python's `help()` shows; yield the live objects after each step."""
    torch.manual_seed(1337)
    text = "\n".join(topics[name] for name in sorted(topics))
    data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()
    model = Gpt(shape).to(dtype)
    optimizer = optimizer_of(model, dtype)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=_SCHEDULE)
    for step in range(1, steps + 1):
        starts = torch.randint(len(data) - shape.context - 1, (_BATCH, 1))
        window = data[starts + torch.arange(shape.context + 1)]
        logits = model(window[:, :-1]).float()
        loss = functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        yield step, model, optimizer
