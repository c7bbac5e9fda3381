"""Ways to save a run: what a user would pick instead of Gradient, each as its own page says.

Every system writes to a temporary name, syncs, renames and syncs the folder, unless it does so by
itself. Whether a sync reaches the disk is decided for the whole process (see `worker`).
"""

# ruff: noqa: D102 - what a method does stands in the base class

from __future__ import annotations

import importlib
import io
import json
import os
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from tools.bench.workloads import Run


@dataclass(frozen=True)
class Saved:
    """How long one checkpoint took."""

    blocked: float
    """Seconds until the training loop may go on."""
    durable: float
    """Seconds until the checkpoint would survive a power cut."""


class System(ABC):
    """One way to save a run into a folder, and to put it back in another process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Everything the system writes lies in it."""

    def open(self, run: Run) -> None:  # noqa: B027 - most need nothing
        """Get ready to save a run, or to restore into it; not timed."""

    @abstractmethod
    def save(self, run: Run, number: int) -> Saved:
        """Save a run as checkpoint `number`."""

    @abstractmethod
    def restore(self, run: Run, number: int) -> None:
        """Put a fresh run back to checkpoint `number`, in a process that saved nothing."""

    def fork(self, run: Run, number: int) -> Saved:
        """Begin a branch at checkpoint 0: for most, another checkpoint."""
        return self.save(run, number)

    def close(self) -> None:  # noqa: B027 - most need nothing
        """Finish; not timed."""


class _Files(System):
    """One file per checkpoint."""

    def save(self, run: Run, number: int) -> Saved:
        begin = time.perf_counter()
        temporary = self.folder / f"{number}.tmp"
        self.write(run, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.rename(self.folder / f"{number}.ckpt")
        sync_folder(self.folder)
        seconds = time.perf_counter() - begin
        return Saved(seconds, seconds)

    def restore(self, run: Run, number: int) -> None:
        self.read(run, self.folder / f"{number}.ckpt")

    @abstractmethod
    def write(self, run: Run, path: Path) -> None:
        """Write one file."""

    @abstractmethod
    def read(self, run: Run, path: Path) -> None:
        """Read it back."""


class TorchSave(_Files):
    """`torch.save` of both state dicts."""

    def write(self, run: Run, path: Path) -> None:
        torch.save(run.state_dict(), path)

    def read(self, run: Run, path: Path) -> None:
        run.load(torch.load(path))


class Safetensors(_Files):
    """safetensors of all tensors, the optimizer's options in its metadata."""

    def write(self, run: Run, path: Path) -> None:
        ties = _ties(run)
        tensors = {name: value for name, value in run.tensors() if name not in ties}
        groups = run.optimizer.state_dict()["param_groups"]
        save_file(tensors, path, metadata={"param_groups": json.dumps(groups)})

    def read(self, run: Run, path: Path) -> None:
        tensors = load_file(path)
        groups = run.optimizer.state_dict()["param_groups"]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                state.setdefault(int(number), {})[key] = value
        for name, first in _ties(run).items():
            tensors[name] = tensors[first]
        size = len("model.")
        model = {name[size:]: value for name, value in tensors.items() if name[:size] == "model."}
        run.load({"model": model, "optimizer": {"state": state, "param_groups": groups}})


def _ties(run: Run) -> dict[str, str]:
    """Map names of tied tensors to the first name of the same memory."""
    first: dict[int, str] = {}
    return {
        name: first[value.data_ptr()]
        for name, value in run.tensors()
        if first.setdefault(value.data_ptr(), name) != name
    }


class ZipNN(_Files):
    """ZipNN over the bytes of `torch.save`."""

    def _coder(self, run: Run) -> Any:
        dtype = next(run.model.parameters()).dtype
        names = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
        threads = len(os.sched_getaffinity(0))
        module = importlib.import_module("zipnn")
        return module.ZipNN(input_format="byte", bytearray_dtype=names[dtype], threads=threads)

    def write(self, run: Run, path: Path) -> None:
        buffer = io.BytesIO()
        torch.save(run.state_dict(), buffer)
        path.write_bytes(self._coder(run).compress(bytearray(buffer.getbuffer())))

    def read(self, run: Run, path: Path) -> None:
        raw = self._coder(run).decompress(path.read_bytes())
        run.load(torch.load(io.BytesIO(raw)))


class Dcp(System):
    """`torch.distributed.checkpoint.save` of what its own `get_state_dict` returns."""

    def _state(self, run: Run) -> dict[str, Any]:
        model, optimizer = get_state_dict(run.model, run.optimizer)
        return {"model": model, "optimizer": optimizer}

    def save(self, run: Run, number: int) -> Saved:
        begin = time.perf_counter()
        target = self.folder / str(number)
        save(self._state(run), storage_writer=FileSystemWriter(target), no_dist=True)
        sync_folder(target)
        sync_folder(self.folder)
        seconds = time.perf_counter() - begin
        return Saved(seconds, seconds)

    def restore(self, run: Run, number: int) -> None:
        state = self._state(run)
        reader = FileSystemReader(self.folder / str(number))
        load(state, storage_reader=reader, no_dist=True)
        set_state_dict(
            run.model,
            run.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )


class DcpAsync(Dcp):
    """`torch.distributed.checkpoint.async_save`, its writer in a thread."""

    def save(self, run: Run, number: int) -> Saved:
        begin = time.perf_counter()
        target = self.folder / str(number)
        pending = async_save(
            self._state(run), storage_writer=FileSystemWriter(target), no_dist=True
        )
        blocked = time.perf_counter() - begin
        cast("Future[Any]", pending).result()
        sync_folder(target)
        sync_folder(self.folder)
        return Saved(blocked, time.perf_counter() - begin)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


OTHERS: Final[dict[str, type[System]]] = {
    "torch.save": TorchSave,
    "safetensors": Safetensors,
    "DCP save": Dcp,
    "DCP async_save": DcpAsync,
    "ZipNN": ZipNN,
}
"""The systems that are not Gradient, by name."""
