"""The commands that change a repo, on a real run with forks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from gradient import open_repo
from tests.cli.command import call, finish, spawn

if TYPE_CHECKING:
    from tests.cli.real.conftest import Trained

WEIGHTS = ("embed.weight", "embed.bias", "head.weight", "head.bias")


def parsed(*arguments: str) -> Any:
    return json.loads(call(*arguments, "--json").stdout)


def revision(text: str) -> str:
    return call("rev-parse", text).stdout.strip()


def model(text: str = "main@40") -> dict[str, torch.Tensor]:
    """Return a commit's weights, read by the Python API."""
    found = open_repo("ws/gpt")[text]["model"]
    return {name: found[name] for name in WEIGHTS}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


# -- Names ----------------------------------------------------------------------------------------


def test_switch_changes_latest(trained: Trained) -> None:
    assert "high_lr" in call("switch", "high_lr").stdout
    assert revision("latest") == revision("high_lr@40") != revision("main@40")
    assert parsed("status")["tip"]["anchor"].startswith(("high_lr@", "main@"))


def test_branches_are_created_renamed_and_deleted(trained: Trained) -> None:
    call("branch", "idea", "main.old1@30")
    call("branch", "-m", "idea", "thought")
    assert revision("thought") == revision("main.old1@30")
    call("branch", "-d", "high_lr")
    assert [each["name"] for each in parsed("branch")["branches"]] == [
        *("main", "main.old1", "thought")
    ]
    call("branch", "high_lr", "high_lr@{0}")
    assert parsed("log", "high_lr", "-n", "1")["commits"][0]["message"] == ""
    assert revision("high_lr") == revision("high_lr@40")


def test_tags_stay_where_they_are(trained: Trained) -> None:
    call("tag", "good", "main@10", code=5)
    call("tag", "--force", "good", "main@10")
    assert revision("good") == revision("main@10")
    call("tag", "-d", "good")
    assert "main@20" not in call("rev-parse", "good", code=4).stdout


def test_reset_sets_the_old_tip_aside(trained: Trained) -> None:
    tip = revision("main")
    call("reset", "main@20")
    assert revision("latest") == revision("main@20")
    assert revision("main.old2") == tip
    assert "set aside" in call("status").stdout


# -- Comparing and merging ------------------------------------------------------------------------


def test_a_page_of_the_changes(trained: Trained) -> None:
    call("diff", "main@20", "high_lr@40", "--stat", "--optimizer", "--html", "change.html")
    page = Path("change.html").read_text(encoding="utf-8")
    assert "high_lr@40" in page
    assert "embed" in page
    assert "<script" not in page
    assert "http" not in page


@pytest.mark.parametrize("way", ["--average", "--slerp", "--ema"])
def test_a_merge_has_two_parents(trained: Trained, way: str) -> None:
    call("merge", "main@40", "high_lr@40", way, "-b", "soup")
    found = parsed("show", "soup")
    assert found["commit"]["parents"] == [revision("main@40"), revision("high_lr@40")]
    assert sorted(found["components"]) == ["model", "rng"]
    merged, first, second = model("soup"), model("main@40"), model("high_lr@40")
    for name in WEIGHTS:
        low, high = (
            torch.minimum(first[name], second[name]),
            torch.maximum(first[name], second[name]),
        )
        if way != "--slerp":
            assert bool(((merged[name] >= low - 1e-6) & (merged[name] <= high + 1e-6)).all())
        assert not torch.equal(merged[name], first[name])
    if way == "--average":
        expected = (first["embed.weight"].double() + second["embed.weight"].double()) / 2
        assert torch.equal(merged["embed.weight"], expected.float())


# -- Taking out and in ----------------------------------------------------------------------------


def test_a_pt_file_is_a_checkpoint_for_a_plain_load(trained: Trained) -> None:
    out = call("export", "main@40", "whole.pt").stdout
    assert "torch.load('whole.pt'" in out
    found = torch.load("whole.pt", weights_only=True)
    assert_same(dict(found["model"]), model())
    assert found["optimizer"]["param_groups"][0]["lr"] == 0.01


def test_the_printed_lines_load_it(trained: Trained) -> None:
    """In a process that does not import gradient."""
    code = ["import sys, torch"]
    for path in ("plain.pt", "plain.safetensors", "folder"):
        out = call("export", "main@40", path).stdout
        (line,) = (text for text in out.splitlines() if text.startswith("to load it: "))
        code += [
            "model = torch.nn.Sequential()",
            "model.add_module('embed', torch.nn.Linear(8, 64))",
            "model.add_module('head', torch.nn.Linear(64, 1))",
            line.removeprefix("to load it: "),
            f"torch.save(dict(model.state_dict()), '{path}.loaded')",
        ]
    code += ["assert 'gradient' not in sys.modules"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", "\n".join(code)], env=environment, check=True)
    for path in ("plain.pt", "plain.safetensors", "folder"):
        assert_same(torch.load(f"{path}.loaded", weights_only=True), model())


@pytest.mark.parametrize("path", ["m.pt", "m.safetensors"])
def test_chosen_weights_in_another_dtype(trained: Trained, path: str) -> None:
    call("export", "main@40", path, "--match", "embed*", "--dtype", "bfloat16")
    found = (
        safetensors.torch.load_file(path)
        if path.endswith(".safetensors")
        else torch.load(path, weights_only=True)
    )
    expected = {n: t.bfloat16() for n, t in model().items() if n.startswith("embed")}
    assert {name: tensor.dtype for name, tensor in found.items()} == dict.fromkeys(
        expected, torch.bfloat16
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_one_component(trained: Trained) -> None:
    call("export", "main@40", "optimizer.pt", "--component", "optimizer")
    found = torch.load("optimizer.pt", weights_only=True)
    assert len(found["state"]) == 4
    assert found["param_groups"][0]["lr"] == 0.01


def test_a_folder_holds_each_component(trained: Trained) -> None:
    call("export", "main@40", "all")
    assert sorted(path.name for path in Path("all").iterdir()) == [
        *("commit.json", "model.safetensors", "optimizer.pt", "rng.pt")
    ]
    found = safetensors.torch.load_file("all/model.safetensors")
    assert_same({name: found[name] for name in WEIGHTS}, model())


@pytest.mark.parametrize("path", ["m.pt", "m.safetensors"])
def test_an_exported_file_is_imported_unchanged(trained: Trained, path: str) -> None:
    call("export", "main@40", path)
    assert "4 equal" in call("diff", "main@40", path).stdout
    call("import", path, "-w", "ws", "-r", "copy", "--step", "40")
    assert "4 equal" in call("-r", "copy", "diff", "main@40", path).stdout
    components = ["model"] if path.endswith(".safetensors") else ["model", "optimizer"]
    assert sorted(parsed("-r", "copy", "show", "main@40")["components"]) == components


# -- Judging --------------------------------------------------------------------------------------

JUDGE = """
import os, sys, torch
state = torch.load(os.environ["GRADIENT_BISECT_FILE"], weights_only=True)["optimizer"]["state"]
sys.exit(int(state[0]["step"].item() > 25))
"""


def test_bisect_finds_the_first_bad_commit_by_its_contents(trained: Trained) -> None:
    Path("judge.py").write_text(JUDGE, encoding="utf-8")
    call("bisect", "start", "main", "main@0")
    out, _ = finish(spawn("bisect", "run", "--", sys.executable, "judge.py"))
    bad = trained.repo.resolve("main@30").oid.short
    assert f"main@30 ({bad}) is the first bad commit" in out
    assert f"main@20 ({trained.repo.resolve('main@20').oid.short}) → main@30" in out
    assert "embed.weight" in out


def test_verify_proves_that_the_run_is_reproducible(trained: Trained) -> None:
    words = ("verify", "main@10..main@20", "--", sys.executable, str(trained.script))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    out, _ = finish(spawn("-C", "ws", *words, env=environment))
    assert out.startswith("bit-identical: from main@10, the command reproduced")


def test_verify_names_what_differs_and_by_how_much(trained: Trained) -> None:
    other = trained.script.read_text(encoding="utf-8").replace(
        "torch.randn(32, 8)", "torch.randn(32, 8) * (1 + 1e-6)"
    )
    Path("other.py").write_text(other, encoding="utf-8")
    words = ("verify", "main@10..main@20", "--", sys.executable, "other.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    out, _ = finish(spawn(*words, env=environment), code=1)
    assert "the first commit that differs: step 20" in out
    lines = [line.split() for line in out.splitlines() if line.startswith("  ")]
    named = [words[0] for words in lines]
    assert {name for name in named if name.startswith(("embed", "head"))} == set(WEIGHTS)
    assert "state" not in named  # its tensors are named
    assert "the generators agree and the differences are small" in out


def test_every_stored_byte_is_sound(trained: Trained) -> None:
    assert parsed("fsck")["findings"] == []
