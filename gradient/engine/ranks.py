"""Several ranks with replicas of one model: rank 0 commits, and sharded models are refused."""

from __future__ import annotations

import logging

import torch

from gradient.errors import UnsupportedValueError

_LOG = logging.getLogger("gradient")

_SHARDING_MODULES = ("FullyShardedDataParallel",)


def commits() -> bool:
    """Return whether this process commits: it is the only process, or rank 0."""
    return not are_several() or torch.distributed.get_rank() == 0


def are_several() -> bool:
    """Return whether this process is one of several ranks."""
    distributed = torch.distributed
    initialized = distributed.is_available() and distributed.is_initialized()
    return initialized and distributed.get_world_size() > 1


def warn_of_shared_generators() -> None:
    """Warn, on every rank but the first, that a resume has restored rank 0's generators."""
    if not commits():
        _LOG.warning(
            "rank %d continues with the generators of rank 0, the only ones that are committed, "
            "and draws the same numbers; for numbers of its own, seed in each step by step and "
            "rank: torch.manual_seed(step * world_size + rank)",
            torch.distributed.get_rank(),
        )


def refuse_sharded(model: torch.nn.Module) -> None:
    """Raise UnsupportedValueError, on every rank, if the model is sharded across ranks.

    The first rank could commit only its own part, or would wait for the others forever.
    """
    for name, module in model.named_modules():
        if type(module).__name__ in _SHARDING_MODULES:
            _refuse(f"model.{name}" if name else "model", type(module).__name__)
    for name, parameter in model.named_parameters():
        if type(parameter).__module__.startswith("torch.distributed."):
            _refuse(f"model.{name}", type(parameter).__name__)


def _refuse(path: str, kind: str) -> None:
    raise UnsupportedValueError(
        path, f"a {kind} is sharded: each rank holds a part of it", "Attach a replicated model"
    )
