"""How fast is the codec, per core, and how small are its payloads?

Trains a small GPT with AdamW on this machine's own Python sources, in fp32 and in bf16, and codes
the whole optimizer state (weights, first moments, second moments) in chunks. Encoding is timed
with hashing, decoding with verification; ZipNN, where it is installed, codes the same chunks in the
same rounds, without a hash. Ratios within one run are the result; times between runs are not
comparable.

Run from the root of the repository: `python -m tools.bench.codec`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import platform
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from blake3 import blake3
from torch import Tensor, nn
from torch.nn import functional

from gradient.codec.chunks import ranges
from gradient.codec.coding_plan import CodingPlan
from gradient.codec.frame import Codec, decode_into, encode
from gradient.codec.mode import Mode

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
ZIPNN_NAMES: Final = {"fp32": "float32", "bf16": "bfloat16"}
STATES: Final = ("weights", "first moments", "second moments")
CONTEXT: Final = 64

State = dict[str, bytes]


class Block(nn.Module):
    """Causal attention, then a two-layer perceptron, both on a residual stream."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.before_attention, self.before_mix = nn.LayerNorm(size), nn.LayerNorm(size)
        self.inputs, self.output = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.mix = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, size) to the same shape."""
        heads = self.inputs(self.before_attention(x)).unflatten(-1, (3, 4, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(seen.transpose(1, 2).flatten(2))
        mixed: Tensor = x + self.mix(self.before_mix(x))
        return mixed


class Gpt(nn.Module):
    """A byte-level language model."""

    def __init__(self, size: int, layers: int) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(256, size), nn.Embedding(CONTEXT, size)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, 256))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """Map bytes (batch, time) to logits (batch, time, 256)."""
        x = self.bytes(text) + self.places(torch.arange(text.shape[1]))
        logits: Tensor = self.head(self.blocks(x))
        return logits


def train(dtype: torch.dtype, *, size: int, steps: int, apart: int) -> tuple[State, State]:
    """Return the AdamW state after `steps` steps and after `apart` more."""
    torch.manual_seed(0)
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = b"".join(path.read_bytes() for path in sources)[:2_000_000]
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    model = Gpt(size, layers=4).to(dtype)
    rate = 3e-4 if dtype == torch.float32 else 1e-4
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    kept: list[State] = []
    for step in range(1, steps + apart + 1):
        starts = torch.randint(len(data) - CONTEXT - 1, (8, 1))
        text_at = data[starts + torch.arange(CONTEXT + 1)]
        logits = model(text_at[:, :-1]).float()
        loss = functional.cross_entropy(logits.flatten(0, 1), text_at[:, 1:].flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step in (steps, steps + apart):
            kept.append(flatten(model, optimizer))
    return kept[0], kept[1]


def flatten(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Return the bytes of weights and moments, each kind in one run."""
    parameters = list(model.parameters())
    moments = [optimizer.state[parameter] for parameter in parameters]
    groups = (
        [parameter.detach() for parameter in parameters],
        [moment["exp_avg"] for moment in moments],
        [moment["exp_avg_sq"] for moment in moments],
    )
    return {
        name: torch.cat([t.flatten() for t in group]).view(torch.uint8).numpy().tobytes()
        for name, group in zip(STATES, groups, strict=True)
    }


@dataclass
class Row:
    """What one system did with one run of bytes; the fastest of all rounds."""

    system: str
    raw: int
    stored: int = 0
    encode: float = field(default=float("inf"))
    decode: float = field(default=float("inf"))
    plans: list[CodingPlan | None] = field(default_factory=list)

    def text(self, what: str) -> str:
        """Format the row of the table."""
        return (
            f"| {what} | {self.system} | {self.raw / self.stored:.3f} "
            f"| {self.raw / self.encode / 1e9:.2f} | {self.raw / self.decode / 1e9:.2f} |"
        )


def chunks(data: bytes) -> list[memoryview]:
    """Cut a run of bytes as a tensor is cut."""
    view = memoryview(data)
    return [view[start:stop] for start, stop in ranges(len(view))]


def round_gradient(row: Row, data: bytes, base: bytes | None, width: int, mode: Mode) -> None:
    """Hash and encode, then decode and verify, once, letting go of each result.

    With the plans of the round before, as a run's commits have those of the commit before.
    """
    pieces = chunks(data)
    bases = chunks(base) if base is not None else [None] * len(pieces)
    plans = row.plans or [None] * len(pieces)
    begin = time.perf_counter()
    for piece, against, plan in zip(pieces, bases, plans, strict=True):
        blake3(piece).digest()
        encode(piece, width=width, mode=mode, base=against, plan=plan)
    row.encode = min(row.encode, time.perf_counter() - begin)
    frames = [
        encode(piece, width=width, mode=mode, base=against, plan=plan)
        for piece, against, plan in zip(pieces, bases, plans, strict=True)
    ]
    row.plans = [frame.plan for frame in frames]
    row.stored = sum(frame.size for frame in frames)
    payloads = [b"".join(bytes(part) for part in frame.parts) for frame in frames]
    names = [blake3(piece).digest() for piece in pieces]
    room = memoryview(bytearray(len(pieces[0])))
    begin = time.perf_counter()
    for piece, frame, payload, name, against in zip(
        pieces, frames, payloads, names, bases, strict=True
    ):
        out = room[: len(piece)]
        decode_into(frame.codec, payload, out, base=against if frame.codec is Codec.DELTA else None)
        if blake3(out).digest() != name:
            raise SystemExit("a chunk came back different")
    row.decode = min(row.decode, time.perf_counter() - begin)


def round_zipnn(row: Row, data: bytes, coder: Any) -> None:
    """Compress, then decompress, once: the same chunks, without a hash."""
    pieces = [bytearray(piece) for piece in chunks(data)]
    begin = time.perf_counter()
    for piece in pieces:
        coder.compress(piece)
    row.encode = min(row.encode, time.perf_counter() - begin)
    pieces = [bytearray(piece) for piece in chunks(data)]
    frames = [bytes(coder.compress(piece)) for piece in pieces]
    row.stored = sum(len(frame) for frame in frames)
    begin = time.perf_counter()
    for frame in frames:
        coder.decompress(frame)
    row.decode = min(row.decode, time.perf_counter() - begin)


def zipnn_coder(dtype: str) -> Any | None:
    """Return ZipNN's single-threaded coder for a dtype, or None where it is not installed."""
    try:
        zipnn = importlib.import_module("zipnn")
    except ImportError:
        return None
    return zipnn.ZipNN(input_format="byte", bytearray_dtype=ZIPNN_NAMES[dtype], threads=1)


def measure(dtype: str, before: State, after: State, rounds: int) -> Iterator[str]:
    """Yield the table's rows; systems take turns, so that they share the machine's moods."""
    width = DTYPES[dtype].itemsize
    totals: dict[str, Row] = {}
    for name in STATES:
        data, base = after[name], before[name]
        turns = {
            "auto": partial(round_gradient, data=data, base=None, width=width, mode=Mode.AUTO),
            "aggressive": partial(
                round_gradient, data=data, base=None, width=width, mode=Mode.AGGRESSIVE
            ),
            "auto, delta": partial(
                round_gradient, data=data, base=base, width=width, mode=Mode.AUTO
            ),
        }
        if (coder := zipnn_coder(dtype)) is not None:
            turns["ZipNN"] = partial(round_zipnn, data=data, coder=coder)
        rows = {system: Row(system, len(data)) for system in turns}
        for _ in range(rounds):
            for system, turn in turns.items():
                turn(rows[system])
        for system, row in rows.items():
            yield row.text(f"{dtype} {name}")
            total = totals.setdefault(system, Row(system, 0, 0, 0.0, 0.0))
            total.raw += row.raw
            total.stored += row.stored
            total.encode += row.encode
            total.decode += row.decode
    for row in totals.values():
        yield row.text(f"{dtype} **state**")


def main() -> None:
    """Print the machine, the versions and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=int, default=256, help="the model's width (default 256)")
    parser.add_argument("--steps", type=int, default=300, help="steps of training (default 300)")
    parser.add_argument("--apart", type=int, default=10, help="steps to the delta's base")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each system")
    parser.add_argument("--dtype", choices=[*DTYPES], action="append", help="default: both")
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = " ".join(
        f"{name} {version(name)}" for name in ("numpy", "zstandard", "blake3", "torch", "zipnn")
    )
    print(f"{time.strftime('%Y-%m-%d')} {platform.machine()} {processor()}")
    print(f"python {platform.python_version()} {versions}\n")
    print("| data | system | ratio | encode GB/s | decode GB/s |\n|---|---|---|---|---|")
    for dtype in options.dtype or DTYPES:
        states = train(DTYPES[dtype], size=options.size, steps=options.steps, apart=options.apart)
        for row in measure(dtype, *states, options.rounds):
            print(row, flush=True)


def processor() -> str:
    """Return what the system calls its processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    lines = cpuinfo.read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")


def version(distribution: str) -> str:
    """Return an installed version, or a dash."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "-"


if __name__ == "__main__":
    main()
