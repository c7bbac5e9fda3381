"""The published gradient-desc 0.1.17 resumes full view files, bit for bit."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradient.errors import ForeignRepoError
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.repo.workspace import init_workspace
from gradient.state.capture import capture
from gradient.state.live_objects import Registered
from gradient.view.updates import ViewUpdater
from tests.view import published
from tests.view.making import Box, commit, make_repo, make_run

if TYPE_CHECKING:
    from gradient.state.live_objects import LiveObjects

REQUIREMENT = "gradient-desc==0.1.17"

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""As in this process: sums depend on how they are split."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the published package and nothing else."""
    folder = tmp_path_factory.mktemp("published")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{REQUIREMENT} could not be downloaded within a minute")
    if done.returncode:
        pytest.skip(f"{REQUIREMENT} could not be downloaded: {done.stderr.strip()[-200:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "package")
    return folder / "package"


@pytest.fixture
def run() -> LiveObjects:
    """Return a run whose registered state the published package can take."""
    made = make_run()
    box = Box({"seen": [0.5, -0.0], "name": "env"})
    made.registered["env"] = Registered(box.get, box.set)
    return made


@pytest.fixture
def repo(tmp_path: Path, run: LiveObjects) -> Repository:
    init_workspace(tmp_path / "ws")
    made = make_repo(tmp_path / "ws" / "gpt")
    commit(ViewUpdater(made, "full"), BranchWriter.open(made, "main"), 5, capture(run))
    return made


def resume(package: Path, repo: Repository, *, then: str = "") -> dict[str, Any]:
    """Resume and train in the published package; returns what the run is then."""
    where = Path(repo.path)
    done = subprocess.run(
        [sys.executable, published.__file__, str(where.parent), where.name, "main@5", "3", then],
        env={"PYTHONPATH": str(package), **ONE_THREAD},
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_published_package_goes_on_bit_for_bit(
    package: Path, repo: Repository, run: LiveObjects
) -> None:
    generators = torch.get_rng_state(), random.getstate()
    found = resume(package, repo)

    torch.set_rng_state(generators[0])
    random.setstate(generators[1])
    live = (run.model, run.optimizer, run.scheduler, run.registered["env"].getter())
    published.train(*live, 3)

    assert found == {"step": 5, **published.digest(*live)}


def test_what_it_leaves_in_the_repo_is_respected(package: Path, repo: Repository) -> None:
    resume(package, repo)
    Repository.open(repo.path).check_writable()

    resume(package, repo, then="commit")
    theirs = Path(repo.path, "ckpt_main_s8.pt")
    before = theirs.read_bytes()

    opened = Repository.open(repo.path)
    with pytest.raises(ForeignRepoError, match="gradient import"):
        opened.check_writable()
    assert theirs.read_bytes() == before
    assert opened.resolve("main@5").commit.step == 5


def test_its_own_repos_are_told_apart(package: Path, tmp_path: Path) -> None:
    code = (
        "import sys, torch, gradient; model = torch.nn.Linear(2, 2); "
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1); "
        "engine = gradient.GradientEngine.attach(model, optimizer, workspace=sys.argv[1], "
        "repo='theirs'); engine.commit(0); engine.commit(1)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "ws")],
        env={"PYTHONPATH": str(package)},
        cwd=package,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    theirs = tmp_path / "ws" / "theirs"
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}

    with pytest.raises(ForeignRepoError, match="gradient import"):
        Repository.open(theirs)
    with pytest.raises(ForeignRepoError, match="gradient import"):
        make_repo(theirs)

    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before
