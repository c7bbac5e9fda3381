"""Would predicting the exponents of AdamW's moments make `aggressive` commits smaller?

Two ideas, tried on the demo's GPT (docs/decisions has what came of it). *Rank one*: a second
moment's exponent is predicted by a sum of its row's and its column's mean logarithm, and the
residual is coded. *Conditional*: a first moment's exponent is predicted by half the exponent of its
second moment. Both are integer arithmetic, so that they could be undone anywhere; the means are
counted in. Printed are the bits per exponent, alone and predicted, as zstd's Huffman codes make
them, and what the whole state would gain.

Run from the root of the repository: `python -m tools.bench.exponents`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from gradient.codec.entropy import Coder, compress
from gradient.codec.frame import encode
from gradient.codec.mode import Mode
from tools.bench import gpt
from tools.bench.workloads import DTYPES

Exponents = npt.NDArray[np.int64]

_FRACTION: Final = 4
"""Bits after the point of a stored mean."""


@dataclass
class Tally:
    """Bytes over all tensors."""

    exponents: int = 0
    alone: int = 0
    predicted: int = 0
    seconds: float = 0.0

    def add(self, exponents: Exponents, residual: Exponents, side: int, seconds: float) -> None:
        """Count one tensor; `side` bytes go along with the residual."""
        self.exponents += exponents.size
        self.alone += coded(exponents)
        self.predicted += coded(residual) + side
        self.seconds += seconds


def coded(values: Exponents) -> int:
    """Return the bytes that zstd's Huffman codes make of integers modulo 256."""
    return len(compress((values & 255).astype(np.uint8).ravel().data, Coder.ENTROPY))


def exponents_of(tensor: torch.Tensor) -> Exponents:
    """Return the eight bits of exponent of fp32 or bf16 elements."""
    words = tensor.detach().view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)
    shift = 23 if tensor.dtype == torch.float32 else 7
    exponents: Exponents = (words.numpy().astype(np.int64) >> shift) & 255
    return exponents


def rank_one(exponents: Exponents) -> tuple[Exponents, int]:
    """Return the residual of a matrix of exponents, and the bytes of the means."""
    rows, columns = exponents.mean(1), exponents.mean(0) - exponents.mean()
    scale = 1 << _FRACTION
    predicted = np.rint(rows * scale)[:, None] + np.rint(columns * scale)[None, :] + scale // 2
    residual = exponents - (predicted.astype(np.int64) >> _FRACTION)
    return residual, 2 * (rows.size + columns.size)


def halved(first: Exponents, second: Exponents) -> Exponents:
    """Return how first moments' exponents differ from what second moments' say."""
    return first - ((second + 127) >> 1)


def measure(dtype: torch.dtype, steps: int) -> Iterator[str]:
    """Yield the table's rows."""
    *_, (_, model, optimizer) = gpt.train(gpt.Shape(), dtype, steps)
    second, first = Tally(), Tally()
    total = stored = 0
    for parameter in model.parameters():
        state: dict[str, Any] = optimizer.state[parameter]
        for tensor in (parameter.detach(), state["exp_avg"], state["exp_avg_sq"]):
            raw = tensor.flatten().view(torch.uint8).numpy().data
            total += raw.nbytes
            stored += encode(raw, width=dtype.itemsize, mode=Mode.AGGRESSIVE).size
        if parameter.dim() != 2:
            continue
        below, above = exponents_of(state["exp_avg"]), exponents_of(state["exp_avg_sq"])
        begin = time.perf_counter()
        residual, side = rank_one(above)
        middle = time.perf_counter()
        second.add(above, residual, side, middle - begin)
        residual = halved(below, above)
        first.add(below, residual, 0, time.perf_counter() - middle)
    for name, tally in (("rank one", second), ("conditional", first)):
        bits = 8 / tally.exponents
        saved = tally.alone - tally.predicted
        yield (
            f"| {str(dtype).removeprefix('torch.')} | {name} | {tally.alone * bits:.2f} | "
            f"{tally.predicted * bits:.2f} | {total / stored:.3f} | "
            f"{total / (stored - saved):.3f} | {100 * saved / stored:.1f} % | "
            f"{tally.exponents * dtype.itemsize / tally.seconds / 1e9:.2f} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="steps of training (default 200)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| dtype | idea | bits alone | bits predicted | state's ratio | with it | saved | GB/s |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for dtype in DTYPES.values():
        for row in measure(dtype, options.steps):
            print(row, flush=True)


if __name__ == "__main__":
    main()
