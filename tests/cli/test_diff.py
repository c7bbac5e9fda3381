from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gradient import GradientEngine
from tests.cli.command import call


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte = torch.nn.Embedding(20, 10)
        self.h = torch.nn.ModuleList(torch.nn.Linear(10, 10) for _ in range(2))


@pytest.fixture
def net() -> Net:
    """``runs/gpt`` with main@0 and main@5, which differ in one layer and the learning rate."""
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with GradientEngine.attach(
        net, optimizer, workspace="runs", repo="gpt", hparams={"width": 10}
    ) as engine:
        engine.commit(0, metrics={"loss": 2.0})
        with torch.no_grad():
            net.h[1].weight *= 2  # type: ignore[operator]
        optimizer.param_groups[0]["lr"] = 0.05
        engine.commit(5, metrics={"loss": 1.0})
    return net


def test_what_changed(net: Net) -> None:
    out = call("diff", "main@0", "main@5").stdout
    words = [line.split() for line in out.splitlines()]
    assert ["param", "groups", "0.lr", "0.1", "→", "0.05"] in words
    assert ["metrics", "loss", "2", "→", "1"] in words
    assert "5 tensors: 1 changed, 4 equal" in out
    assert "h.1.weight" in out
    assert "h.0.weight" not in out


def test_a_missing_file_is_named(net: Net) -> None:
    assert "error: there is no file gone.pt" in call("diff", "main", "gone.pt", code=4).stderr
    assert "unknown revision 'gone'" in call("diff", "main", "gone", code=4).stderr


@pytest.mark.parametrize("words", [["main@0..main@5"], ["main@0.."], ["main@0"], ["@^", "@"]])
def test_ranges_and_a_single_argument(net: Net, words: list[str]) -> None:
    assert call("diff", *words).stdout == call("diff", "main@0", "main@5").stdout


def test_by_layer_and_as_a_page(net: Net) -> None:
    out = call("diff", "main@0", "main@5", "--stat", "--optimizer", "--html", "x.html").stdout
    assert "█" in out
    assert "1 of 2" in out
    page = Path("x.html").read_text(encoding="utf-8")
    assert "h.1" in page
    assert "<script" not in page
    assert "http" not in page


def test_tensors_that_became_nan_come_first(net: Net) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    with GradientEngine.attach(
        net, optimizer, workspace="runs", repo="gpt", resume="latest"
    ) as engine:
        with torch.no_grad():
            net.wte.weight *= 3
            net.h[0].weight[2, :2] = float("nan")  # type: ignore[index]
        with pytest.warns(UserWarning, match="NaN or infinite values"):
            engine.commit(6)
    first = call("diff", "main@5", "main@6").stdout.partition("cosine")[2].splitlines()[1]
    assert first.split()[0] == "inf"
    assert "h.0.weight" in first
    assert "not finite: 0 → 2" in first
    layers = call("diff", "main@5", "main@6", "--stat", "--html", "x.html").stdout
    assert "1 of 2   not finite: 0 → 2" in layers
    assert "not finite: 0 → 2" in Path("x.html").read_text(encoding="utf-8")


def test_as_json(net: Net) -> None:
    found = json.loads(call("diff", "main@0", "main@5", "--json").stdout)
    assert {(each["section"], each["name"]) for each in found["facts"]} == {
        ("param groups", "0.lr"),
        ("metrics", "loss"),
    }
    first = found["tensors"]["model"][0]
    assert (first["name"], first["relative"], first["fraction"]) == ("h.1.weight", 1.0, 1.0)
    assert found["components"]["model"] == "differs"
    assert [layer["name"] for layer in found["layers"]["model"]] == ["wte", "h.0", "h.1"]


def test_with_files(net: Net) -> None:
    torch.save(net.state_dict(), "m.pt")
    assert "5 tensors: 5 equal" in call("diff", "latest", "m.pt").stdout
    call("export", "main@0", "m.safetensors")
    assert "1 changed, 4 equal" in call("diff", "m.safetensors", "m.pt").stdout
    call("export", "main@5", "all.pt")
    assert "5 tensors: 5 equal" in call("diff", "all.pt", "latest").stdout
    call("view", "rebuild", "--mode", "thin")
    assert "1 changed" in call("diff", "runs/gpt/ckpt_main_s0.pt", "m.pt").stdout


def test_nothing_changed(net: Net) -> None:
    out = call("diff", "main@5", "latest").stdout
    assert "5 tensors: 5 equal" in out


def test_missing_arguments(net: Net) -> None:
    call("diff", "main@0", "main@7", code=4)
    call("diff", "main@0", "absent.pt", code=4)


def test_export_says_how_to_load(net: Net) -> None:
    result = call("export", "latest", "m.pt", "--weights-only", "--match", "h.*")
    line = result.stdout.splitlines()[-1].removeprefix("to load it: ")
    assert line == (
        "import torch; model.load_state_dict(torch.load('m.pt', map_location='cpu'), strict=False)"
    )
    exec(line, {"model": Net()})
    call("export", "latest", "x.pt", "--component", "optimizer", "--dtype", "bfloat16", code=2)
    assert "latest" not in call("export", "latest", "out/").stdout


def test_import_of_other_formats(net: Net) -> None:
    torch.save({"model": net.state_dict(), "step": 3}, "three.pt")
    torch.save(net.state_dict(), "step_4.pt")
    assert "1 commit (step 3) on main in three" in call("import", "three.pt").stdout
    assert "(step 4)" in call("import", "step_4.pt", "-r", "three", "-b", "other").stdout
    assert "(step 9)" in call("import", "step_4.pt", "-r", "gpt", "-b", "in", "--step", "9").stdout
    call("import", "step_4.pt", "-r", "gpt", code=5)
    call("import", "three.pt", "step_4.pt", "-r", "new", "--step", "1", code=2)
    assert not Path("runs/new").exists()
    assert "5 equal" in call("-r", "gpt", "diff", "latest", "in").stdout
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="has history"):
        engine = GradientEngine.attach(model, optimizer, workspace="runs", repo="three")
    with engine:
        engine.resume("main@3", components=("model",))
    assert torch.equal(model.wte.weight, net.wte.weight)
