"""One short word for everything that decides how a run goes on.

Knows nothing of Gradient: what it sees is what torch, NumPy and Python say of their own state.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


def digest(*holders: Any) -> str:
    """Hash the generators and the `state_dict` of each holder, to the last bit and dtype."""
    seen = hashlib.blake2b(digest_size=16)
    generators = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    for piece in pieces([generators, [holder.state_dict() for holder in holders]]):
        seen.update(len(piece).to_bytes(8, "little"))
        seen.update(piece)
    return seen.hexdigest()


def pieces(value: Any) -> Iterator[bytes]:
    """Spell out nested plain values and tensors, types included."""
    yield type(value).__qualname__.encode()
    if isinstance(value, torch.Tensor):
        dense = value.detach().contiguous().reshape(-1)
        yield f"{value.dtype} {tuple(value.shape)} {value.stride()}".encode()
        yield dense.view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from pieces(key)
            yield from pieces(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from pieces(item)
    elif isinstance(value, float):
        yield value.hex().encode()
    else:
        yield repr(value).encode()
