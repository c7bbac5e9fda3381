"""Repos as the published gradient-desc 0.1.17 writes them, made without it."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

import torch

Run = tuple[torch.nn.Module, torch.optim.Optimizer, Any]


def build() -> Run:
    """Make a small run with buffers, a Counter in its scheduler and tied nothing."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])


def train(run: Run, steps: int) -> None:
    model, optimizer, scheduler = run
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
        scheduler.step()


class Published:
    """One repo that is being written."""

    def __init__(self, folder: Path, *, workspace: bool = True) -> None:
        self.folder = folder
        self.entries: list[dict[str, Any]] = []
        self._ids: dict[str, str] = {}
        """The newest anchors' ids, by ref."""
        (folder / ".gradient-repo").mkdir(parents=True)
        config = {"repo_name": folder.name, "description": "theirs", "workspace_path": "/gone"}
        (folder / ".gradient-repo" / "config.json").write_text(json.dumps(config))
        if workspace:
            (folder.parent / ".gradient").mkdir()
            config = {"workspace_name": "w", "root_path": "/gone", "repos": [folder.name]}
            (folder.parent / ".gradient" / "config.json").write_text(json.dumps(config))

    def anchor(
        self, run: Run, branch: str, step: int, *, env: Any = None, **meta: Any
    ) -> dict[str, Any]:
        """Write a checkpoint that holds the whole state; returns its data."""
        data = capture(run, branch, step, env, meta)
        self._write(data, is_delta=False, anchor=f"{branch}@{step}")
        return data

    def delta(
        self, run: Run, branch: str, step: int, anchor: dict[str, Any], *, scheme: str = "fp16"
    ) -> dict[str, Any]:
        """Write a checkpoint as differences; returns what the package restores from it."""
        data = capture(run, branch, step, {"n": step}, {})
        restored = dict(data)
        for name in ("model", "optimizer"):
            data[name], restored[name] = _difference(anchor[name], data[name], scheme)
        self._write(data, is_delta=True, anchor=anchor["meta"]["checkpoint_ref"])
        return restored

    def save(self) -> None:
        """Write the manifest."""
        manifest = {"checkpoints": self.entries, "repo_name": self.folder.name}
        (self.folder / "manifest.json").write_text(json.dumps(manifest))

    def file(self, ref: str) -> Path:
        """Return the file of a checkpoint."""
        branch, step = ref.split("@")
        return self.folder / f"ckpt_{branch}_s{step}.pt"

    def _write(self, data: dict[str, Any], *, is_delta: bool, anchor: str) -> None:
        ref = data["meta"]["checkpoint_ref"]
        if not is_delta:
            self._ids[ref] = data["meta"]["ckpt_id"]
        payload = {
            "data": data,
            "is_delta": is_delta,
            "anchor_id": self._ids[anchor],
            "anchor_ref": anchor,
            # The repo was moved since.
            "anchor_path": f"/gone/{self.file(anchor).name}",
        }
        torch.save(payload, self.file(ref))
        self.entries.append(
            {
                "id": f"{len(self.entries):032x}",
                "ref": ref,
                "step": data["step"],
                "branch": data["meta"]["branch"],
                "file": f"/gone/{self.file(ref).name}",
                "type": "delta" if is_delta else "anchor",
                "storage": "local",
                "object_key": None,
                "anchor_ref": anchor,
                "created_at": f"2026-02-10T12:{len(self.entries):02d}:56.000001+01:00",
            }
        )


def capture(run: Run, branch: str, step: int, env: Any, meta: dict[str, Any]) -> dict[str, Any]:
    model, optimizer, scheduler = run
    ref = f"{branch}@{step}"
    return torch_copy(
        {
            "step": step,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "rng": {"torch": torch.get_rng_state(), "cuda": None, "python": random.getstate()},
            "amp": None,
            "distributed": None,
            "external": {"version": None, "state": None},
            "env": {"version": None, "state": env},
            "meta": {
                "branch": branch,
                "message": f"at {step}",
                "checkpoint_ref": ref,
                "ckpt_id": uuid.uuid4().hex,
                **meta,
            },
        }
    )


def torch_copy(value: Any) -> Any:
    """Copy the tensors of nested dicts; the run goes on with its own."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict) and type(value).__name__ != "Counter":
        return {key: torch_copy(item) for key, item in value.items()}
    return value


def _difference(anchor: Any, current: Any, scheme: str) -> tuple[Any, Any]:
    """Return the delta, and what adding it to the anchor gives."""
    if isinstance(current, torch.Tensor):
        raw = current - anchor
        if scheme == "raw":
            return raw, anchor + raw
        if scheme == "sparse_fp16":
            mask = raw.abs() > 1e-3
            if not mask.any():
                packed = {"__compressed__": True, "scheme": "zeros", "shape": raw.shape}
                return packed, anchor + torch.zeros_like(anchor)
            rounded = torch.zeros_like(anchor)
            rounded[mask] = raw[mask].to(torch.float16).to(anchor.dtype)
            content = {"indices": mask.nonzero().int(), "values": raw[mask].to(torch.float16)}
        else:
            rounded = raw.to(torch.float16).to(anchor.dtype)
            content = {"values": raw.to(torch.float16)}
        head = {"__compressed__": True, "scheme": scheme, "shape": raw.shape}
        return {**head, **content}, anchor + rounded
    if isinstance(current, dict):
        pairs = {
            key: _difference(anchor[key], value, scheme) if key in anchor else (value, value)
            for key, value in current.items()
        }
        return {k: p[0] for k, p in pairs.items()}, {k: p[1] for k, p in pairs.items()}
    return current, current
