"""Checkpoints made by the real libraries, and by hand in the layout of those too heavy to have."""

from __future__ import annotations

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file, save_model

from gradient.checkpoint.reader import read_state, read_value
from gradient.engine.engine import GradientEngine
from gradient.errors import (
    BranchExistsError,
    ConfigError,
    IntegrityError,
    MalformedObjectError,
    NotFoundError,
    StepError,
)
from gradient.integrations.file_tensors import open_side
from gradient.integrations.formats import FoundCheckpoint, find
from gradient.integrations.import_checkpoints import import_checkpoints
from gradient.integrations.imported_checkpoint import Incoming, step_of_name
from gradient.maintenance.garbage_collection import collect
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.state import rng
from gradient.state.tensors import same_bits
from gradient.view.init_repo import init_repo


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = torch.nn.Embedding(7, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 7, bias=False)
        self.head.weight = self.wte.weight


@pytest.fixture
def model() -> torch.nn.Module:
    return Tied()


@pytest.fixture
def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def only(path: str) -> Incoming:
    (found,) = find(path)
    return found.read()


def check_model(state: Any, model: torch.nn.Module) -> None:
    expected = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(same_bits(state[name], expected[name]) for name in expected)


def same_state(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return same_bits(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_state(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_state, one, other))
    return bool(one == other)


def test_a_state_dict_alone(model: torch.nn.Module) -> None:
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(wrapped, "model_500.pt")
    found = only("model_500.pt")
    check_model(found.state["model"], model)
    assert (found.step, step_of_name(found.path)) == (None, 500)


@pytest.mark.parametrize(
    ("names", "step"),
    [
        (("model", "optimizer", "scheduler", "step"), 40),
        (("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "iteration"), 40),
        (("state_dict", "optimizer_states", "lr_schedulers", "global_step"), 40),
    ],
)
def test_parts_under_many_names(
    names: tuple[str, ...],
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    lists = names[1].endswith("states")
    schedule: Any = {"last_epoch": 3}
    state: Any = optimizer.state_dict()
    values = [model.state_dict(), [state] if lists else state, [schedule] if lists else schedule]
    content = dict(zip(names, [*values, step], strict=True))
    content |= {"best_loss": 0.25, "hparams": {"width": 4}, "ema": {"w": torch.ones(2)}}
    torch.save(content, "a.pt")
    found = only("a.pt")
    check_model(found.state["model"], model)
    assert same_state(found.state["optimizer"], {"class": None, "opaque": state})
    assert found.state["scheduler"] == schedule
    assert found.step == 40
    assert found.metrics["best_loss"] == 0.25
    assert found.hparams == {"width": 4}
    assert torch.equal(found.state["ema"]["w"], torch.ones(2))


def test_no_part_takes_the_name_of_another(model: torch.nn.Module) -> None:
    parts = {"amp_state": {"a": 1}, "amp": {"b": 2}, "meta": {"c": 3}}
    torch.save({"model": model.state_dict(), **parts}, "a.pt")
    state = only("a.pt").state
    assert state["amp_state"] == {"a": 1}
    assert state["amp_state_state"] == {"b": 2}
    assert state["meta_state"] == {"c": 3}


def test_files_of_several_optimizers_are_compared(optimizer: torch.optim.Optimizer) -> None:
    several = [optimizer.state_dict(), optimizer.state_dict()]
    torch.save({"optimizer_states": several, "step": 1}, "a.pt")
    side = open_side("a.pt")
    assert {name.split(".")[1] for name in side.tensors["optimizer"]} == {"0", "1"}
    assert "param groups" not in side.facts


def test_safetensors_with_tied_weights(model: torch.nn.Module) -> None:
    save_model(model, "m.safetensors")
    state = only("m.safetensors").state["model"]
    assert set(state) == set(model.state_dict())
    assert state["head.weight"] is state["wte.weight"]
    assert same_bits(state["wte.weight"], model.state_dict()["wte.weight"])


ALONE = "ignore:torch.distributed is disabled:UserWarning"
"""What torch says where a checkpoint is written without a process group."""


@pytest.mark.filterwarnings(ALONE)
def test_distributed(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7}
    dcp.save({**content, "note": "x", "big": torch.randn(3, 5)[:, ::2]}, checkpoint_id="dcp")
    found = only("dcp")
    check_model(found.state["model"], model)
    assert same_state(found.state["optimizer"]["opaque"], optimizer.state_dict())
    assert found.step == 7
    assert found.state["note"] == "x"
    assert find(".")[0].path.endswith("dcp")


@pytest.mark.filterwarnings(ALONE)
def test_distributed_with_names(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    names = [name for name, _ in model.named_parameters()]
    state = optimizer.state_dict()
    named = {
        "state": {names[i]: value for i, value in state["state"].items()},
        "param_groups": [{**state["param_groups"][0], "params": names}],
    }
    dcp.save({"model": model.state_dict(), "optimizer": named}, checkpoint_id="dcp")
    captured = only("dcp").state["optimizer"]
    assert captured["class"] is None
    assert captured["param_groups"][0]["params"] == names
    assert same_bits(captured["state"][names[0]]["exp_avg"], state["state"][0]["exp_avg"])


def trainer_folder(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    path.mkdir(parents=True)
    save_model(model, str(path / "model.safetensors"))
    torch.save(optimizer.state_dict(), path / "optimizer.pt")
    torch.save({"last_epoch": step}, path / "scheduler.pt")
    generators = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.get_rng_state(),
    }
    torch.save(generators, path / "rng_state.pth")
    (path / "training_args.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    history = [
        {"step": step - 1, "loss": 0.5, "epoch": 0.1},
        {"step": step, "eval_loss": 0.25, "epoch": 0.2},
    ]
    told = {"global_step": step, "log_history": history, "best_metric": 0.25}
    (path / "trainer_state.json").write_text(json.dumps(told), encoding="utf-8")


def test_trainer(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in (1000, 500):
        trainer_folder(Path(f"out/checkpoint-{step}"), model, optimizer, step)
    found = find("out")
    assert [Path(each.path).name for each in found] == ["checkpoint-500", "checkpoint-1000"]
    incoming = found[1].read()
    check_model(incoming.state["model"], model)
    assert same_state(incoming.state["optimizer"]["opaque"], optimizer.state_dict())
    assert incoming.step == 1000
    metrics = {"loss": 0.5, "eval_loss": 0.25, "epoch": 0.2, "best_metric": 0.25}
    assert incoming.metrics == metrics
    assert incoming.notes == (
        f"{found[1].path}: training_args.bin stay behind: they are files of other programs: "
        "keep them beside",
    )
    captured = rng.capture_cpu()
    assert torch.equal(incoming.state["rng"]["python"]["state"], captured["python"]["state"])
    assert torch.equal(
        incoming.state["rng"]["numpy"]["state"]["key"], captured["numpy"]["state"]["key"]
    )


def test_weights_in_several_files(model: torch.nn.Module) -> None:
    folder = Path("checkpoint-3")
    folder.mkdir()
    where = {}
    for number, (name, value) in enumerate(model.state_dict().items()):
        where[name] = f"model-{number}.safetensors"
        save_file({name: value.clone()}, folder / where[name])
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    found = only("checkpoint-3")
    check_model(found.state["model"], model)
    assert found.step == 3


def test_each_name_is_taken_from_the_file_that_the_index_gives_to_it() -> None:
    folder = Path("checkpoint-3")
    folder.mkdir()
    save_file({"a": torch.ones(2), "b": torch.zeros(2)}, folder / "1.safetensors")
    save_file({"b": torch.ones(2), "a": torch.zeros(2)}, folder / "2.safetensors")
    index = folder / "model.safetensors.index.json"
    where = {"a": "1.safetensors", "b": "2.safetensors"}
    index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    state = only("checkpoint-3").state["model"]
    assert state["a"].tolist() == state["b"].tolist() == [1.0, 1.0]
    where["b"] = "1.safetensors"
    where["c"] = "2.safetensors"
    index.write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    with pytest.raises(IntegrityError, match="weights are missing, 'c'"):
        only("checkpoint-3")


def test_the_metadata_of_a_file_is_no_tensors_name() -> None:
    save_file({"pt": torch.ones(2)}, "one.safetensors", {"format": "pt", "tied": "pt"})
    state = only("one.safetensors").state["model"]
    assert set(state) == {"pt", "tied"}


def test_an_epoch_is_a_step_only_where_nothing_else_is(model: torch.nn.Module) -> None:
    saved = {"model_state_dict": model.state_dict(), "epoch": 3}
    for name, step in (("step_100.pt", 100), ("last.pt", 3)):
        torch.save(saved, name)
        assert only(name).step == step
    torch.save({**saved, "global_step": 7}, "step_100.pt")
    assert only("step_100.pt").step == 7


def test_onto_branches(model: torch.nn.Module) -> None:
    for step in (3, 1, 2):
        torch.save({"model": model.state_dict(), "loss": step / 2}, f"step_{step}.pt")
    init_repo("ws/gpt")
    repo = Repository.open("ws/gpt", workers=1)
    found = [find(f"step_{step}.pt")[0] for step in (1, 2)]
    done = import_checkpoints(repo, found, branch="main")
    assert (done.branch, done.steps) == ("main", [1, 2])
    line = [commit for _, commit in repo.line("main")]
    assert [commit.metrics["loss"] for commit in line] == [1.0, 0.5]
    assert line[0].fork is not None
    origin = read_value(repo.store, line[0].fork)
    assert origin == {"imported": "torch", "source": "step_2.pt"}
    check_model(read_state(repo.store, line[0].tree)["model"], model)
    three = find("step_3.pt")
    with pytest.raises(BranchExistsError):
        import_checkpoints(repo, three, branch="main")
    with pytest.raises(StepError, match="below 2"):
        import_checkpoints(repo, three, branch="main", onto=True, step=1)
    with pytest.raises(ConfigError, match="one checkpoint"):
        import_checkpoints(repo, found, branch="new", step=1)
    import_checkpoints(repo, three, branch="main", onto=True)
    assert [commit.step for _, commit in repo.line("main")] == [3, 2, 1]


def test_one_that_cannot_be_read_leaves_the_branch(model: torch.nn.Module) -> None:
    torch.save(model.state_dict(), "step_1.pt")
    Path("step_2.pt").write_bytes(b"damaged")
    init_repo("ws/gpt")
    repo = Repository.open("ws/gpt", workers=1)
    with pytest.raises(Exception, match=r"step_2\.pt"):
        import_checkpoints(repo, [*find("step_1.pt"), *find("step_2.pt")], branch="main")
    assert repo.branches() == []


def three_to_import(model: torch.nn.Module) -> list[FoundCheckpoint]:
    for step in (1, 2, 3):
        torch.save({"model": model.state_dict(), "loss": float(step)}, f"step_{step}.pt")
    return [find(f"step_{step}.pt")[0] for step in (1, 2, 3)]


def commit_one(step: int) -> None:
    """Make a commit on main, as another process would in the meantime."""
    other = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(other.parameters())
    with GradientEngine.attach(other, optimizer, workspace="ws", repo="gpt", resume="auto") as run:
        run.commit(step)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_collection_in_the_middle_takes_nothing_away(model: torch.nn.Module, after: int) -> None:
    found = three_to_import(model)
    init_repo("ws/gpt")
    repo = Repository.open("ws/gpt", workers=1)
    taken = 0

    def advance(count: int) -> None:
        nonlocal taken
        taken += count
        if taken == after:
            collect(Repository.open("ws/gpt", workers=1), grace=0, wait=0)

    import_checkpoints(repo, found, branch="main", progress=advance)
    collect(Repository.open("ws/gpt", workers=1), grace=0)
    fresh = Repository.open("ws/gpt", workers=1)
    read = [read_state(fresh.store, commit.tree)["model"] for _, commit in fresh.line("main")]
    assert len(read) == 3
    for state in read:
        check_model(state, model)


def test_of_two_who_begin_a_branch_the_import_gives_way(model: torch.nn.Module) -> None:
    found = three_to_import(model)
    init_repo("ws/gpt")
    repo = Repository.open("ws/gpt", workers=1)
    with pytest.raises(BranchExistsError):
        import_checkpoints(repo, found[:1], branch="main", progress=lambda _: commit_one(7))
    assert [commit.step for _, commit in Repository.open("ws/gpt").line("main")] == [7]


def test_a_commit_made_as_an_import_begins_is_not_set_aside(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = three_to_import(model)
    commit_one(1)
    opened = BranchWriter.open.__func__  # type: ignore[attr-defined]

    def slowly(cls: type[BranchWriter], repo: Repository, branch: str) -> BranchWriter:
        monkeypatch.setattr(BranchWriter, "open", classmethod(opened))
        commit_one(2)
        line: BranchWriter = opened(cls, repo, branch)
        return line

    monkeypatch.setattr(BranchWriter, "open", classmethod(slowly))
    repo = Repository.open("ws/gpt", workers=1)
    import_checkpoints(repo, found[2:], branch="main", onto=True)
    assert repo.branches() == ["main"]
    assert [commit.step for _, commit in repo.line("main")] == [3, 2, 1]


def test_what_is_of_no_format() -> None:
    Path("empty").mkdir()
    Path("text.txt").write_text("x", encoding="utf-8")
    for path in ("empty", "text.txt", "absent"):
        with pytest.raises(NotFoundError):
            find(path)


@pytest.mark.filterwarnings(ALONE)
@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"size": torch.Size([4, 3]), "twice": True}, "pieces of 'w' are missing"),
        ({"dtype": torch.float64}, "a piece of 'w' has the wrong form"),
        ({"sizes": torch.Size([2])}, "a piece of 'w' has the wrong form"),
    ],
)
def test_pieces_that_are_not_what_the_index_says(claim: dict[str, Any], said: str) -> None:
    """As many elements in all, but some of them twice; or elements that would be cast."""
    dcp.save({"w": torch.randn(2, 3), "v": torch.ones(2)}, checkpoint_id="dcp")
    index = Path("dcp/.metadata")
    metadata = pickle.loads(index.read_bytes())  # noqa: S301 - it was just written
    described = metadata.state_dict_metadata["w"]
    described.size = claim.get("size", described.size)
    described.properties.dtype = claim.get("dtype", described.properties.dtype)
    (piece,) = described.chunks
    described.chunks *= 2 if "twice" in claim else 1
    described.chunks[0] = replace(piece, sizes=claim.get("sizes", piece.sizes))
    index.write_bytes(pickle.dumps(metadata))
    with pytest.raises(IntegrityError, match=said):
        only("dcp")


@pytest.mark.filterwarnings(ALONE)
def test_a_distributed_checkpoint_that_was_damaged(model: torch.nn.Module) -> None:
    dcp.save({"model": model.state_dict()}, checkpoint_id="dcp")
    data = Path("dcp/__0_0.distcp")
    whole = data.read_bytes()
    data.write_bytes(whole[:-100])
    with pytest.raises(IntegrityError, match="too short"):
        only("dcp")
    flipped = bytearray(whole)
    flipped[whole.index(model.state_dict()["wte.weight"].numpy().tobytes())] ^= 1
    data.write_bytes(flipped)
    with pytest.raises(IntegrityError, match="checksum"):
        only("dcp")
    index = Path("dcp/.metadata")
    index.write_bytes(index.read_bytes().replace(b"__0_0.distcp", b"../0_0distcp"))
    with pytest.raises(MalformedObjectError, match="outside of the folder"):
        only("dcp")
