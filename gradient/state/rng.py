"""The random generators of a training loop as plain data.

They are Python's ``random``, NumPy's global generator, torch's CPU generator, and the generators of
CUDA devices and MPS if these are in use. Capturing does not initialise CUDA.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gradient.errors import ConfigError, MisfitError

_MAX_SEED = (1 << 64) - 1


def capture() -> dict[str, Any]:
    """Return the state of every generator in use, in memory of its own."""
    state = capture_cpu()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def capture_cpu() -> dict[str, Any]:
    """Return the state of the generators that draw on the CPU."""
    version, words, gauss = random.getstate()
    return {
        "python": {
            "version": version,
            "state": torch.tensor(words, dtype=torch.int64, device="cpu").to(torch.uint32),
            "gauss": gauss,
        },
        "numpy": _to_tensors(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
    }


def check(state: Any) -> None:
    """Raise MisfitError for a state that `restore` cannot set. Changes no generator."""
    try:
        random.Random().setstate(_python(state["python"]))
        if "numpy" in state:
            _check_numpy(state["numpy"])
        torch.Generator("cpu").set_state(state["torch"])
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, MisfitError):
            raise
        raise MisfitError(f"the checkpoint's generators cannot be set: {error}") from None


def restore(state: Mapping[str, Any]) -> None:
    """Set every generator to a captured state.

    Warns about captured CUDA devices that do not exist, and ignores them. NumPy's generator is
    unchanged if the state lacks it, as checkpoints of other programs do.
    """
    random.setstate(_python(state["python"]))
    if "numpy" in state:
        np.random.set_state(_to_arrays(state["numpy"]))
    torch.set_rng_state(state["torch"])
    saved = state.get("cuda", [])
    here = torch.cuda.device_count() if saved else 0
    if here != len(saved):
        warnings.warn(
            f"the checkpoint has generators of {len(saved)} CUDA devices, here are {here}: "
            f"{min(here, len(saved))} restored; what is drawn on the others will differ",
            stacklevel=2,
        )
    for index, generator in enumerate(saved[:here]):
        torch.cuda.set_rng_state(generator, index)
    if "mps" in state:
        if torch.backends.mps.is_available():
            torch.mps.set_rng_state(state["mps"])
        else:
            warnings.warn("the checkpoint has a generator of MPS, which is not here", stacklevel=2)


def reseed(seed: int) -> None:
    """Seed every generator, including those of all CUDA devices; raises ConfigError."""
    if type(seed) is not int or not 0 <= seed <= _MAX_SEED:
        raise ConfigError(f"a seed is an integer from 0 to 2**64 - 1, not {seed!r}")
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32] if seed >> 32 else seed)
    torch.manual_seed(seed)


def _check_numpy(saved: Mapping[str, Any]) -> None:
    live = np.random.get_state(legacy=False)["bit_generator"]
    if live != saved["bit_generator"]:
        kind = saved["bit_generator"]
        raise MisfitError(f"NumPy's global generator is {live} here, saved {kind}")
    if live == "MT19937":
        np.random.RandomState().set_state(_to_arrays(saved))


def _python(state: Mapping[str, Any]) -> tuple[Any, ...]:
    return state["version"], tuple(state["state"].tolist()), state["gauss"]


def _to_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def _to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_arrays(item) for key, item in value.items()}
    return value.numpy() if isinstance(value, torch.Tensor) else value
