from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import gradient
from gradient.errors import ContextError
from gradient.repo.branch_writer import BranchWriter
from gradient.view import thin
from gradient.view.updates import ViewUpdater
from tests.view.making import PLAIN, captured, commit, make_repo
from tests.view.test_desc_payload import same

if TYPE_CHECKING:
    from gradient.repo.repository import Repository

ROOT = Path(gradient.__file__).parent.parent


@pytest.fixture
def state() -> dict[str, Any]:
    return captured(env=PLAIN, odd={"kept": frozenset({frozenset({1})})})


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repo(tmp_path / "ws" / "repo")


@pytest.fixture
def file(repo: Repository, state: dict[str, Any]) -> Path:
    return Path(str(commit(ViewUpdater(repo, "thin"), BranchWriter.open(repo, "main"), 5, state)))


def python(code: str) -> str:
    """Run code in a new process; returns its output."""
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("weights_only", [True, False])
def test_loading_gives_the_payload_back(
    file: Path, state: dict[str, Any], *, weights_only: bool
) -> None:
    found = torch.load(file, weights_only=weights_only)

    assert file.stat().st_size < 1200
    assert found["is_delta"] is False
    assert same(found["data"]["model"], state["model"])
    assert found["data"]["env"] == {"version": None, "state": PLAIN}
    assert found["data"]["odd"]["state"] == state["odd"]


def test_the_same_commit_gives_the_same_bytes() -> None:
    one, other = (thin.to_bytes("00" * 32, "main@5", "/repo", comment=b"x") for _ in "ab")

    assert one == other


def test_a_moved_repo_is_found_from_where_it_is(
    file: Path, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(repo.path).parent.rename(Path(repo.path).parent.with_name("moved"))
    with pytest.raises(ContextError, match="gradient export"):
        torch.load(moved / "repo" / file.name)

    monkeypatch.chdir(moved / "repo")

    assert torch.load(file.name)["data"]["step"] == 5


def test_another_repo_at_the_old_place_is_not_believed(
    file: Path, repo: Repository, tmp_path: Path
) -> None:
    content = file.read_bytes()
    Path(repo.path).rename(tmp_path / "elsewhere")
    make_repo(Path(repo.path))
    file.write_bytes(content)

    with pytest.raises(ContextError):
        torch.load(file)


@pytest.mark.parametrize(
    "order", ["import torch; import gradient", "import gradient; import torch"]
)
def test_the_global_is_safe_as_soon_as_both_are_there(file: Path, order: str) -> None:
    code = f"{order}; print('step', torch.load({str(file)!r})['data']['step'])"

    assert python(code).strip() == "step 5"


def test_importing_gradient_leaves_nothing_behind_once_torch_is_there() -> None:
    code = (
        "import importlib.util, sys, gradient; assert importlib.util.find_spec('torch'); "
        "before = len(sys.meta_path); assert 'torch' not in sys.modules; import torch; "
        "print(before - len(sys.meta_path), torch.__spec__.loader.exec_module.__name__)"
    )

    assert python(code).strip() == "1 exec_module"


@pytest.mark.parametrize("weights_only", [True, False])
def test_without_gradient_the_error_says_what_to_do(file: Path, *, weights_only: bool) -> None:
    absent = "import sys; sys.modules['gradient'] = None; import torch"

    said = python(f"{absent}; torch.load({str(file)!r}, weights_only={weights_only})")

    expected = "gradient.thin_file_needs_gradient_export" if weights_only else "import of gradient"
    assert expected in said
