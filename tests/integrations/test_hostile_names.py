"""Names of tensors and components from someone else: words, and never a way out of a folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from gradient.checkpoint.reader import read_state
from gradient.errors import MalformedObjectError
from gradient.integrations.formats import find
from gradient.integrations.import_checkpoints import import_checkpoints
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.view.export import Selection, export
from gradient.view.updates import ViewUpdater
from tests.repo.test_hostile_names import NAMES, outside_of
from tests.view.making import captured, make_repo, publish

TENSORS = {name: torch.tensor([float(number)]) for number, name in enumerate(NAMES)}


def is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


TEXT = {name: tensor for name, tensor in TENSORS.items() if is_text(name)}


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    return make_repo(tmp_path / "work")


def by_torch(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save({"model": tensors}, path)


def by_safetensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write the format by hand, whose writers refuse some of the names."""
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in tensors.items():
        raw = struct.pack("<f", tensor.item())
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": "F32", "shape": [1], "data_offsets": offsets}
        data += raw
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)


def model_of(repo: Repository, branch: str) -> Any:
    return read_state(repo.store, repo.read_commit(repo.resolve(branch).oid).tree)["model"]


@pytest.mark.parametrize(("write", "suffix"), [(by_torch, "pt"), (by_safetensors, "safetensors")])
def test_tensors_of_a_file(write: Any, suffix: str, repo: Repository, tmp_path: Path) -> None:
    path = Path(f"hostile.{suffix}")
    write(path, TENSORS)
    inside = Path(repo.path)
    before = outside_of(tmp_path, inside)
    import_checkpoints(repo, find(str(path)), branch="main", step=1)
    ViewUpdater(repo, "full").add(repo.resolve("main").oid)
    assert outside_of(tmp_path, inside) == before
    assert len(TENSORS) > 200
    assert model_of(repo, "main") == TENSORS


@pytest.mark.parametrize("target", ["all.pt", "all.safetensors", "all"])
def test_tensors_are_exported_by_their_names(target: str, repo: Repository, tmp_path: Path) -> None:
    oid = publish(BranchWriter.open(repo, "main"), 1, {**captured(), "model": TEXT}).commit
    made = Path(target).resolve()
    before = outside_of(tmp_path, Path(repo.path), made)
    export(repo, oid, target, Selection(weights_only=target != "all"), force=False)
    assert outside_of(tmp_path, Path(repo.path), made) == before
    if target == "all":
        assert all(path.parent == made for path in made.iterdir())
    else:
        assert find(target)[0].read().state["model"] == TEXT


def test_components_have_files_of_the_folder(repo: Repository, tmp_path: Path) -> None:
    states = {name: {"w": tensor} for name, tensor in TEXT.items()}
    oid = publish(BranchWriter.open(repo, "main"), 1, {**captured(), **states}).commit
    made = Path("all").resolve()
    before = outside_of(tmp_path, Path(repo.path), made)
    export(repo, oid, "all", Selection(), force=False)
    assert outside_of(tmp_path, Path(repo.path), made) == before
    assert all(path.parent == made for path in made.iterdir())
    assert len([*made.iterdir()]) > len(TEXT)


@pytest.mark.parametrize("name", sorted(TENSORS.keys() - TEXT.keys()))
def test_a_component_has_a_name_of_text(name: str, repo: Repository) -> None:
    with pytest.raises(MalformedObjectError):
        publish(BranchWriter.open(repo, "main"), 1, {**captured(), name: {"w": torch.zeros(1)}})
    assert repo.tip("main") is None
