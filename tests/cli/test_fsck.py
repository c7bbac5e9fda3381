from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import ROOT, call
from tests.integrations.published import Published, build
from tests.maintenance import rig
from tests.maintenance.test_fsck import DAMAGE, INSIDE, first, payload


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return rig.build(tmp_path)


def fsck(root: Path, *arguments: str, code: int = 0) -> str:
    return call("-C", str(root), "fsck", *arguments, code=code).stdout


def test_a_sound_repo(root: Path) -> None:
    text = fsck(root)
    assert "3 commits in 3 packs; 12 contents compared with their ids" in text
    assert text.endswith("nothing is wrong\n")
    facts = json.loads(fsck(root, "--json"))
    assert facts["sound"]
    assert facts["complete"]
    assert facts["findings"] == []
    assert facts["actions"] is None


def test_damage_has_an_exit_code_of_its_own(root: Path) -> None:
    DAMAGE["frame-hash"](root)
    text = fsck(root, code=3)
    assert "error frame-hash" in text
    assert "needed by main@1" in text
    assert "remedy:" in text
    facts = json.loads(fsck(root, "--json", code=3))
    assert facts["damaged"] == ["main@1"]
    assert {"id", "severity", "path", "object", "message", "commits", "remedy"} == set(
        facts["findings"][0]
    )


def test_the_published_packages_repos_are_not_damaged_ones(tmp_path: Path) -> None:
    source = Published(tmp_path / "theirs" / "pub")
    source.anchor(build(), "main", 0)
    source.save()
    files = sorted(source.folder.rglob("*"))
    before = [path.read_bytes() for path in files if path.is_file()]
    for arguments in ((), ("--repair",)):
        result = call("-C", str(source.folder), "fsck", *arguments, code=5)
        assert "gradient import" in result.stderr
    assert sorted(source.folder.rglob("*")) == files
    assert [path.read_bytes() for path in files if path.is_file()] == before


def test_warnings_alone_are_not_a_failure(root: Path) -> None:
    DAMAGE["pack-foreign"](root)
    assert "1 warning" in fsck(root)


def test_repair_reports_its_actions(root: Path) -> None:
    DAMAGE["manifest-missing"](root)
    rig.replace(first(root), first(root).read_bytes()[:-1])
    facts = json.loads(fsck(root, "--repair", "--json"))
    assert [action["what"] for action in facts["actions"]] == ["moved", "saved"]
    assert len(facts["healed"]) == 1
    assert "nothing is wrong" in fsck(root, "--repair")


def test_a_repo_without_its_config_is_still_found(root: Path) -> None:
    (root / INSIDE / "config.json").unlink()
    (root.parent / ".gradient/config.json").unlink()
    assert "config-missing" in fsck(root, code=3)
    fsck(root, "--repair", code=3)
    assert "config-missing" not in fsck(root, code=3)


def test_parts(root: Path) -> None:
    counts = [json.loads(fsck(root, "--subset", f"{n}/2", "--json"))["frames"] for n in (1, 2)]
    assert sum(counts) == 12
    assert "not all contents were checked" in fsck(root, "--quick")
    assert json.loads(fsck(root, "--max-time", "100", "--json"))["complete"]


def test_each_damage_is_found_by_one_part(root: Path) -> None:
    """And by no other part: a part reports only on its own contents."""
    path, at = payload(root, 1)
    rig.alter(path, b"\xff", at)
    part = int(path.name[:8], 16) % 5 + 1
    for number in range(1, 6):
        limited = fsck(root, "--subset", f"{number}/5", code=3 if number == part else 0)
        assert ("frame-undecodable" in limited) == (number == part)


def test_lost_objects_are_recovered_from_a_backup(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "backup"
    shutil.copytree(root, other)
    rig.packs(root)[0].unlink()
    assert "fetched" in fsck(root, "--repair", "--from", str(other))
    fsck(root)
    fsck(root, "--from", str(other), code=2)
    fsck(root, "--repair", "--from", str(tmp_path / "absent"), code=2)


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "1", "x/y"])
def test_invalid_parts(wrong: str, root: Path) -> None:
    fsck(root, "--subset", wrong, code=2)


def test_repair_takes_no_limits(root: Path) -> None:
    fsck(root, "--repair", "--quick", code=2)


def test_without_a_repo() -> None:
    call("fsck", code=4)


def test_doctor(root: Path) -> None:
    facts = json.loads(call("-C", str(root), "doctor", "--json").stdout)
    assert facts["path"] == str(root)
    assert facts["verdict"] in ("ok", "note", "warning")
    assert {"link", "sync", "repo"} <= {probe["name"] for probe in facts["probes"]}
    assert "versions" in call("doctor", str(root.parent)).stdout
    DAMAGE["pack-cut"](root)
    assert "FAILED" in call("-C", str(root), "doctor", code=1).stdout


def test_neither_needs_torch() -> None:
    code = "import gradient.cli.fsck, gradient.cli.doctor, sys; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0
