"""`gradient.load`: a commit as plain data, without a run."""

from __future__ import annotations

import os
import pickle
from pathlib import PurePath
from typing import Any

import torch

from gradient.engine.commit.commit_handle import settled
from gradient.errors import MalformedObjectError, NotFoundError
from gradient.repo import discovery
from gradient.repo.damage import naming_commits
from gradient.repo.repository import Repository
from gradient.state.live_objects import BUILT_IN, RESERVED
from gradient.storage import fs
from gradient.view import desc_payload, thin


def load(
    ref: str | os.PathLike[str],
    *,
    workspace: str | os.PathLike[str] | None = None,
    repo: str | None = None,
) -> dict[str, Any]:
    """Return the state of a revision, of a ``ckpt_*.pt`` file, or of an exported ``.pt`` file.

    The state is a dict with ``step``, ``model`` (a state dict), ``optimizer`` (as
    `torch.optim.Optimizer.load_state_dict` takes it), ``scheduler``, ``rng``, ``meta``, and each
    registered state under its name. Tensors are on the CPU. A file is read without running code
    from it; a thin one is filled from its store.

    Raises UnknownRevisionError, ContextError if no repo is found, NotFoundError for a missing file,
    and IntegrityError for damage.
    """
    ref = settled(ref)
    if PurePath(ref).suffix == ".pt":
        return _plain(_read_file(fs.absolute(ref)))
    place = discovery.locate(workspace=workspace, repo=repo)
    opened = Repository.open(place.repo)
    with naming_commits(opened):
        return _plain(desc_payload.read(opened, opened.resolve(os.fspath(ref)).oid))


def _read_file(path: str) -> Any:
    if not fs.is_file(path):
        raise NotFoundError(f"there is no file {path}")
    thin.register()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise MalformedObjectError(f"{path} is not a checkpoint: {error}") from error


def _plain(content: Any) -> dict[str, Any]:
    """Flatten a payload: registered states become entries next to the components."""
    if isinstance(content, dict) and content.keys() >= {"step", "model", "meta"}:
        return content  # an export has this shape already
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict):
        raise MalformedObjectError("the file is not a checkpoint: it has no data")
    dropped = {"amp", "distributed", "external"}
    return {
        name: value if name in RESERVED or name in BUILT_IN else value["state"]
        for name, value in data.items()
        if name not in dropped
    }
