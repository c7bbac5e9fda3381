from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from gradient.errors import ConfigError, ConflictError, NotFoundError, UnsupportedValueError
from gradient.objects.oid import Oid
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.state.tensors import same_bits
from gradient.view import safetensors as format
from gradient.view.export import Selection, export
from tests.view.making import captured, make_repo, publish

BIG = torch.randn(600_000)  # three chunks
WEIGHT = torch.randn(20, 20)


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "repo")


def commit(repo: Repository, **components: object) -> Oid:
    state = {**captured(), **components}
    return publish(BranchWriter.open(repo, "main"), 7, state).commit


@pytest.fixture
def oid(repo: Repository) -> Oid:
    model = OrderedDict(
        {
            "wte.weight": WEIGHT,
            "h.0.lora_A.weight": torch.randn(3, 4).bfloat16(),
            "h.0.count": torch.arange(300),
            "h.0.last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "h.0.part": BIG[100:700].view(20, 30).t(),
            "big": BIG,
            "half": torch.randn(200).half(),
            "empty": torch.ones(0, 3),
            "head.weight": WEIGHT,
        }
    )
    return commit(repo, model=model, ema={"w": torch.ones(300), "n": 3}, plain={"../x": 1})


def model_of(repo: Repository, oid: Oid) -> dict[str, torch.Tensor]:
    export(repo, oid, "all.pt", Selection(weights_only=True), force=True)
    found = torch.load("all.pt", weights_only=True)
    assert isinstance(found, dict)
    return found


def test_names_in_safetensors_are_the_models(repo: Repository) -> None:
    model = OrderedDict({"weight": torch.zeros(3), "opaque.weight": torch.ones(3)})
    oid = commit(repo, model=model, opaque={"opaque": {"w": torch.ones(2)}})
    export(repo, oid, "m.safetensors")
    found = safetensors.torch.load_file("m.safetensors")
    assert found.keys() == model.keys()
    assert all(same_bits(found[name], model[name]) for name in model)
    export(repo, oid, "o.safetensors", Selection(("opaque",)))
    assert safetensors.torch.load_file("o.safetensors").keys() == {"opaque.w"}


@pytest.mark.parametrize("other", [{"a": {"b": torch.ones(3)}}, {"a": [torch.ones(3)]}])
def test_no_tensor_is_lost_to_another_of_its_name(repo: Repository, other: object) -> None:
    oid = commit(repo, ema={"n": other, "n.a.b": torch.zeros(3), "n.a.0": torch.zeros(3)})
    with pytest.raises(UnsupportedValueError, match="two tensors of one name"):
        export(repo, oid, "x.safetensors", Selection(("ema",)))
    assert not Path("x.safetensors").exists()


def test_safetensors_are_loaded_by_the_real_library(repo: Repository, oid: Oid) -> None:
    done = export(repo, oid, "m.safetensors")
    found = safetensors.torch.load_file("m.safetensors")
    expected = model_of(repo, oid)
    assert done.dropped == {"head.weight": "wte.weight"}
    assert found.keys() == expected.keys() - {"head.weight"}
    assert all(same_bits(found[name], expected[name]) for name in found)
    with safe_open("m.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["head.weight"] == "wte.weight"
    assert metadata["gradient.commit"] == str(oid)
    assert "load_model" in done.load


def test_our_reader_reads_what_the_real_library_wrote() -> None:
    tensors = {"a": torch.randn(3), "b": torch.tensor(True), "c": torch.ones(0), "d": BIG.double()}
    safetensors.torch.save_file(tensors, "m.safetensors", metadata={"x": "y"})
    found, metadata = format.open_tensors("m.safetensors")
    assert metadata == {"x": "y"}
    assert found.keys() == tensors.keys()
    assert all(same_bits(found[name].load(), tensors[name]) for name in tensors)


def test_weights_are_converted(repo: Repository, oid: Oid) -> None:
    expected = model_of(repo, oid)
    for path in ("m.safetensors", "m.pt"):
        export(repo, oid, path, Selection(weights_only=True, dtype="bfloat16"))
    found = safetensors.torch.load_file("m.safetensors")
    plain = torch.load("m.pt", weights_only=True)
    assert plain["wte.weight"].data_ptr() == plain["head.weight"].data_ptr()
    for name, value in found.items():
        wanted = expected[name]
        wanted = wanted.bfloat16() if wanted.is_floating_point() else wanted
        assert same_bits(value, wanted)
        assert same_bits(plain[name], wanted)


def test_patterns(repo: Repository, oid: Oid) -> None:
    export(repo, oid, "lora.pt", Selection(match=("lora_*",)))
    assert list(torch.load("lora.pt", weights_only=True)) == ["h.0.lora_A.weight"]
    export(repo, oid, "two.safetensors", Selection(match=("big", "h.0.c*")))
    assert set(safetensors.torch.load_file("two.safetensors")) == {"big", "h.0.count"}
    for path in ("x.pt", "x.safetensors"):
        with pytest.raises(NotFoundError, match="no weight's name matches"):
            export(repo, oid, path, Selection(match=("bias",)))
        assert not Path(path).exists()


def test_the_default_shape_and_its_parts(repo: Repository, oid: Oid) -> None:
    done = export(repo, oid, "all.pt")
    found = torch.load("all.pt", weights_only=True)
    assert list(found) == [
        "step", "model", "optimizer", "scheduler", "rng", "ema", "plain", "meta",
    ]  # fmt: skip
    assert found["step"] == 7
    assert found["ema"]["n"] == 3
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    export(repo, oid, "opt.pt", Selection(("optimizer",)))
    optimizer.load_state_dict(torch.load("opt.pt", weights_only=True))
    export(repo, oid, "two.pt", Selection(("model", "ema")))
    assert torch.load("two.pt", weights_only=True).keys() == {"model", "ema"}
    assert "checkpoint['model']" in done.load
    export(repo, oid, "opt.safetensors", Selection(("optimizer",)))
    names = safetensors.torch.load_file("opt.safetensors").keys()
    assert "state.0.weight.exp_avg" in names


def test_a_folder(repo: Repository, oid: Oid) -> None:
    done = export(repo, oid, "out")
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "commit.json", "ema.pt", "model.safetensors", "optimizer.pt", "plain.pt", "rng.pt",
        "scheduler.pt",
    ]  # fmt: skip
    about = json.loads(Path("out/commit.json").read_text(encoding="utf-8"))
    assert (about["commit"], about["step"]) == (str(oid), 7)
    assert str(Path.cwd() / "out" / "model.safetensors") in done.load
    with pytest.raises(ConflictError):
        export(repo, oid, "out")
    export(repo, oid, "out", Selection(weights_only=True), force=True)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "commit.json", "model.safetensors",
    ]  # fmt: skip
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["out"]


def test_a_folder_of_somebody_is_left(repo: Repository, oid: Oid) -> None:
    Path("mine").mkdir()
    Path("mine/file").touch()
    with pytest.raises(ConflictError, match="no export of a commit"):
        export(repo, oid, "mine", force=True)
    assert Path("mine/file").exists()


def test_names_stay_in_the_folder(repo: Repository) -> None:
    oid = commit(repo, **{"../../up": {"a": 1}})
    export(repo, oid, "out")
    assert Path("out/%2E%2E%2F%2E%2E%2Fup.pt").is_file()


def test_a_folder_that_is_not_there_is_named(repo: Repository, oid: Oid) -> None:
    with pytest.raises(NotFoundError, match=r"there is no folder .*gone$"):
        export(repo, oid, "gone/x.pt")


def test_what_contradicts_itself(repo: Repository, oid: Oid) -> None:
    for selection in (
        Selection(("optimizer",), weights_only=True),
        Selection(("optimizer",), dtype="bfloat16"),
        Selection(dtype="int4"),
    ):
        with pytest.raises(ConfigError):
            export(repo, oid, "x.pt", selection)
    with pytest.raises(ConfigError):
        export(repo, oid, "x.safetensors", Selection(("model", "optimizer")))
    with pytest.raises(ConfigError, match="names no format"):
        export(repo, oid, "x.gguf")
    with pytest.raises(NotFoundError, match="no component"):
        export(repo, oid, "x.pt", Selection(("emma",)))


def test_what_the_format_lacks(repo: Repository) -> None:
    oid = commit(repo, model={"a": torch.ones(3, dtype=torch.complex128)})
    with pytest.raises(UnsupportedValueError, match="complex128"):
        export(repo, oid, "x.safetensors")
    assert not list(Path.cwd().iterdir())
