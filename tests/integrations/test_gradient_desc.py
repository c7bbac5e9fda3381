from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gradient import GradientEngine
from gradient.checkpoint import reader
from gradient.errors import IntegrityError, MalformedObjectError, NotFoundError
from gradient.integrations.gradient_desc.history import ImportedHistory, import_history
from gradient.integrations.gradient_desc.source import open_source
from gradient.repo.repository import Repository
from gradient.repo.workspace import create_repo, init_workspace
from tests.integrations.published import Published, Run, build, train


def taken_over(source: Published, target: Path) -> tuple[Repository, ImportedHistory]:
    """Import into a new repo; the source must not have changed."""
    before = digest(source.folder)
    init_workspace(target.parent)
    create_repo(target)
    repo = Repository.open(target, workers=1)
    done = import_history(open_source(str(source.folder)), repo)
    assert digest(source.folder) == before
    return repo, done


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def state(repo: Repository, revision: str) -> dict[str, Any]:
    return reader.read_state(repo.store, repo.resolve(revision).commit.tree)


def origin(repo: Repository, revision: str) -> Any:
    fork = repo.resolve(revision).commit.fork
    assert fork is not None
    return reader.read_value(repo.store, fork)


def assert_same(one: Any, other: Any, path: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key, value in one.items():
            assert_same(value, other[key], f"{path}.{key}")
    else:
        assert one == other, path


@pytest.fixture
def source(tmp_path: Path) -> Published:
    return Published(tmp_path / "theirs" / "pub")


@pytest.fixture
def run() -> Run:
    return build()


def test_anchors_come_over_bit_for_bit(source: Published, run: Run, tmp_path: Path) -> None:
    written = []
    for step in (0, 2, 4):
        written.append(source.anchor(run, "main", step, env={"n": step, "t": (1, 2.5)}))
        train(run, 2)
    source.save()
    repo, done = taken_over(source, tmp_path / "ours" / "gpt")
    assert (done.commits, done.lossy, done.notes) == (3, [], [])
    for data in written:
        found = state(repo, f"main@{data['step']}")
        assert_same(found["model"], data["model"])
        assert_same(found["optimizer"], {"class": None, "opaque": data["optimizer"]})
        assert_same(found["scheduler"], data["scheduler"])
        assert_same(found["env"], data["env"]["state"])
        assert_same(found["rng"]["torch"], data["rng"]["torch"])
        assert "external" not in found
    line = [commit for _, commit in repo.line("main")]
    assert [commit.step for commit in line] == [4, 2, 0]
    assert line[0].message == "at 4"
    assert line[0].time == "2026-02-10T11:02:56.000001"
    assert origin(repo, "main@4")["lossy"] is False


@pytest.mark.parametrize("scheme", ["fp16", "sparse_fp16", "raw"])
def test_deltas_come_over_as_the_package_restores_them(
    scheme: str, source: Published, run: Run, tmp_path: Path
) -> None:
    train(run, 1)
    anchor = source.anchor(run, "main", 1, env={"n": 1})
    train(run, 2)
    expected = source.delta(run, "main", 3, anchor, scheme=scheme)
    source.save()
    repo, done = taken_over(source, tmp_path / "ours" / "gpt")
    found = state(repo, "main@3")
    assert_same(found["model"], expected["model"])
    assert_same(found["optimizer"]["opaque"], expected["optimizer"])
    assert found["env"] == {"n": 3}
    assert done.lossy == ["main@3"]
    assert origin(repo, "main@3") == {
        "imported": "gradient-desc",
        "revision": "main@3",
        "id": expected["meta"]["ckpt_id"],
        "type": "delta",
        "lossy": True,
    }
    assert ("read as the default has it" in "".join(done.notes)) == (scheme == "raw")


def test_an_optimizer_that_was_kept_whole(source: Published, run: Run, tmp_path: Path) -> None:
    train(run, 1)
    anchor = source.anchor(run, "main", 1)
    train(run, 1)
    source.delta(run, "main", 2, anchor)
    whole = run[1].state_dict()
    payload = torch.load(source.file("main@2"), weights_only=True)
    payload["data"]["optimizer"] = whole
    torch.save(payload, source.file("main@2"))
    source.save()
    repo, _ = taken_over(source, tmp_path / "ours" / "gpt")
    assert_same(state(repo, "main@2")["optimizer"]["opaque"], whole)


def test_forks_begin_at_their_source(source: Published, run: Run, tmp_path: Path) -> None:
    # The fork's name sorts before its source's.
    source.anchor(run, "main", 0)
    train(run, 2)
    source.anchor(run, "main", 2)
    source.anchor(run, "hot", 2, parent_ref="main@2")
    train(run, 1)
    source.anchor(run, "hot", 3)
    source.anchor(run, "alone", 1, parent_ref="gone@7")
    source.save()
    repo, _ = taken_over(source, tmp_path / "ours" / "gpt")
    assert [commit.step for _, commit in repo.line("hot")] == [3, 2, 2, 0]
    assert [commit.step for _, commit in repo.line("alone")] == [1]
    hot = repo.resolve("hot@2")
    assert hot.commit.parents == (repo.resolve("main@2").oid,)
    assert hot.commit.tree == repo.resolve("main@2").commit.tree


def test_a_run_goes_on_as_the_source_would(source: Published, run: Run, tmp_path: Path) -> None:
    train(run, 2)
    source.anchor(run, "main", 2, env={"n": 2})
    source.save()
    taken_over(source, tmp_path / "ours" / "gpt")
    train(run, 3)
    resumed = build()
    env: dict[str, int] = {}
    where: dict[str, Any] = {"workspace": tmp_path / "ours", "repo": "gpt"}
    engine = GradientEngine.attach(*resumed, **where, resume="main@2")
    engine.register_state("env", getter=lambda: dict(env), setter=env.update)
    assert engine.current_step == 2
    assert env == {"n": 2}
    train(resumed, 3)
    assert_same(resumed[0].state_dict(), run[0].state_dict())
    assert_same(resumed[1].state_dict(), run[1].state_dict())
    assert engine.commit(5) == "main@5"
    engine.close()


def test_steps_follow_each_other(source: Published, run: Run, tmp_path: Path) -> None:
    for step in (4, 0, 2):
        source.anchor(run, "main", step)
    source.save()
    repo, done = taken_over(source, tmp_path / "ours" / "gpt")
    assert [commit.step for _, commit in repo.line("main")] == [4, 2, 0]
    assert "out of order" in done.notes[0]


def test_branches_that_ours_cannot_have(source: Published, run: Run, tmp_path: Path) -> None:
    for branch in ("main", "Main", "latest", "a b"):
        source.anchor(run, branch, 0)
    source.save()
    repo, done = taken_over(source, tmp_path / "ours" / "gpt")
    assert len(repo.branches()) == 4
    assert sum("is called" in note for note in done.notes) >= 2


def test_what_is_not_here_is_named(source: Published, run: Run, tmp_path: Path) -> None:
    source.anchor(run, "main", 0)
    source.anchor(run, "main", 1)
    source.save()
    source.file("main@1").unlink()
    repo, done = taken_over(source, tmp_path / "ours" / "gpt")
    assert done.notes == ["main@1 is not on this machine and was left out"]
    assert [commit.step for _, commit in repo.line("main")] == [0]


def test_files_that_the_manifest_lacks(source: Published, run: Run, tmp_path: Path) -> None:
    source.anchor(run, "main", 0)
    source.anchor(run, "main", 1)
    source.entries.pop()
    source.save()
    repo, _ = taken_over(source, tmp_path / "ours" / "gpt")
    assert [commit.step for _, commit in repo.line("main")] == [1, 0]
    (source.folder / "manifest.json").unlink()
    repo, _ = taken_over(source, tmp_path / "ours" / "again")
    assert [commit.step for _, commit in repo.line("main")] == [1, 0]


def test_a_delta_without_its_anchor(source: Published, run: Run, tmp_path: Path) -> None:
    anchor = source.anchor(run, "main", 0)
    source.delta(run, "main", 1, anchor)
    source.entries.pop(0)
    source.save()
    source.file("main@0").unlink()
    with pytest.raises(IntegrityError, match=r"ckpt_main_s1.pt: its anchor main@0 is not there"):
        taken_over(source, tmp_path / "ours" / "gpt")


def test_a_delta_whose_anchor_was_overwritten(source: Published, run: Run, tmp_path: Path) -> None:
    anchor = source.anchor(run, "main", 0)
    source.delta(run, "main", 1, anchor)
    train(run, 1)
    source.anchor(run, "main", 0)
    source.entries.pop(0)
    source.save()
    with pytest.raises(IntegrityError, match=r"ckpt_main_s1.pt: its anchor was overwritten"):
        taken_over(source, tmp_path / "ours" / "gpt")
    source.file("main@1").unlink()
    _, done = taken_over(source, tmp_path / "ours" / "other")
    assert done.commits == 1


def test_states_with_names_that_mean_something_else(
    source: Published, run: Run, tmp_path: Path
) -> None:
    source.anchor(run, "main", 0)
    payload = torch.load(source.file("main@0"), weights_only=True)
    payload["data"]["amp"] = {"scale": 2.0}
    payload["data"]["external"] = {"version": "1", "state": [1, 2]}
    torch.save(payload, source.file("main@0"))
    source.save()
    repo, done = taken_over(source, tmp_path / "ours" / "gpt")
    found = state(repo, "main@0")
    assert (found["amp_scaler"], found["external_state"]) == ({"scale": 2.0}, [1, 2])
    assert len(done.notes) == 2


def test_wrapped_models(source: Published, run: Run, tmp_path: Path) -> None:
    source.anchor(run, "main", 0)
    payload = torch.load(source.file("main@0"), weights_only=True)
    model = payload["data"]["model"]
    payload["data"]["model"] = {f"module.{name}": value for name, value in model.items()}
    torch.save(payload, source.file("main@0"))
    source.save()
    repo, _ = taken_over(source, tmp_path / "ours" / "gpt")
    assert_same(state(repo, "main@0")["model"], model)


def test_what_is_no_such_repo(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="neither"):
        open_source(str(tmp_path))
    create_repo(tmp_path / "ours")
    (tmp_path / "ours" / "manifest.json").write_text('{"checkpoints": []}')
    with pytest.raises(NotFoundError, match="nothing to import"):
        open_source(str(tmp_path / "ours"))


@pytest.mark.parametrize(
    "manifest", ["", "[]", '{"checkpoints": {}}', '{"checkpoints": [{"step": -1, "branch": "m"}]}']
)
def test_a_damaged_manifest(manifest: str, source: Published) -> None:
    (source.folder / "manifest.json").write_text(manifest)
    with pytest.raises(MalformedObjectError, match=r"manifest.json"):
        open_source(str(source.folder))


def test_a_file_that_is_no_checkpoint(source: Published, run: Run, tmp_path: Path) -> None:
    source.anchor(run, "main", 0)
    source.save()
    torch.save({"weights": 1}, source.file("main@0"))
    with pytest.raises(MalformedObjectError, match="not a checkpoint of gradient-desc"):
        taken_over(source, tmp_path / "ours" / "gpt")


def test_entries_without_a_time_or_a_file(source: Published, run: Run, tmp_path: Path) -> None:
    source.anchor(run, "main", 0)
    source.entries[0] |= {"created_at": None, "file": None}
    source.save()
    repo, _ = taken_over(source, tmp_path / "ours" / "gpt")
    assert repo.resolve("main@0").commit.time > "2026"
    assert json.loads((source.folder / "manifest.json").read_text())["checkpoints"]
