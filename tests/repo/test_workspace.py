from __future__ import annotations

import json
from pathlib import Path

import pytest

from gradient.errors import (
    ConfigError,
    ContextError,
    ForeignRepoError,
    GradientIOError,
    MalformedObjectError,
)
from gradient.repo.workspace import (
    create_repo,
    init_workspace,
    load_repo,
    load_workspace,
    open_workspace,
)
from gradient.storage import fs


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_workspace(tmp_path: Path) -> None:
    made = init_workspace(tmp_path / "ws")

    assert (made.name, made.root_path, made.repos) == ("ws", str(tmp_path / "ws"), [])
    assert made == load_workspace(str(tmp_path / "ws"))
    assert list(contents(tmp_path / "ws")) == [".gradient/config.json"]


def test_again_changes_nothing(tmp_path: Path) -> None:
    made = init_workspace(tmp_path / "ws", name="lab"), create_repo(tmp_path / "ws/gpt", "GPT", "d")
    before = contents(tmp_path)

    again = init_workspace(tmp_path / "ws", name="x"), create_repo(tmp_path / "ws/gpt", "x", "y")

    assert again[1] == made[1]
    assert again[0].name == "lab"
    assert contents(tmp_path) == before


def test_a_repo_in_a_workspace(tmp_path: Path) -> None:
    workspace = tmp_path / "ws"
    init_workspace(workspace)

    made = create_repo(workspace / "gpt", description="small", workspace_path=workspace)

    assert (made.name, made.description) == ("gpt", "small")
    assert (made.repo_path, made.workspace_path) == (str(workspace / "gpt"), str(workspace))
    assert open_workspace(str(workspace)).repos == ["gpt"]


def test_no_file_holds_an_absolute_path(tmp_path: Path) -> None:
    init_workspace(tmp_path / "ws")
    create_repo(tmp_path / "ws" / "gpt", workspace_path=tmp_path / "ws")

    for content in contents(tmp_path / "ws").values():
        assert str(tmp_path).encode() not in content


def test_moved_and_copied_as_it_is(tmp_path: Path) -> None:
    init_workspace(tmp_path / "ws")
    create_repo(tmp_path / "ws" / "gpt")
    moved = (tmp_path / "ws").rename(tmp_path / "moved")

    found = load_repo(str(moved / "gpt"))

    assert found is not None
    assert found.workspace_path == str(moved)
    assert open_workspace(str(moved)).repos == ["gpt"]


def test_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert init_workspace(".").root_path == str(tmp_path)


def test_the_layout(tmp_path: Path) -> None:
    create_repo(tmp_path / "gpt")

    inside = tmp_path / "gpt" / ".gradient-repo"
    folders = {path.relative_to(inside).as_posix() for path in inside.rglob("*") if path.is_dir()}
    objects = {"objects", "objects/pack", "objects/trash"}
    assert folders == objects | {"leases", "refs", "refs/heads", "refs/tags", "tmp"}
    assert json.loads((inside / "config.json").read_text(encoding="utf-8")).keys() == {
        "format", "repo_name", "description", "created_at",
    }  # fmt: skip


def test_a_repo_lies_directly_in_its_workspace(tmp_path: Path) -> None:
    init_workspace(tmp_path / "ws")

    with pytest.raises(ConfigError, match="not a direct subfolder"):
        create_repo(tmp_path / "elsewhere", workspace_path=tmp_path / "ws")
    with pytest.raises(ContextError, match="gradient workspace init"):
        create_repo(tmp_path / "none" / "gpt", workspace_path=tmp_path / "none")
    assert not (tmp_path / "elsewhere").exists()


def test_another_programs_folder_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ckpt_main_s0.pt").write_bytes(b"theirs")

    with pytest.raises(ForeignRepoError, match="gradient import"):
        create_repo(tmp_path / "run")

    assert contents(tmp_path / "run") == {"ckpt_main_s0.pt": b"theirs"}


def test_a_config_is_durable_before_the_folder_is_a_repo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []

    def watch(call: fs.Call) -> None:
        calls.append((call.operation, call.target or call.path))

    monkeypatch.setattr(fs.calls, "observer", watch)
    create_repo(tmp_path / "gpt")

    inside = str(tmp_path / "gpt" / ".gradient-repo")
    renamed = calls.index(("rename", f"{inside}/config.json"))
    assert calls[renamed - 2][0] == "sync"
    assert ("sync folder", inside) in calls[renamed:]
    assert all(operation != "make folder" for operation, _ in calls[renamed:])


def test_damaged_configs_are_named(tmp_path: Path) -> None:
    create_repo(tmp_path / "gpt")
    path = tmp_path / "gpt" / ".gradient-repo" / "config.json"
    for content in (b"{", b"[]", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(MalformedObjectError, match=r"config\.json"):
            load_repo(str(tmp_path / "gpt"))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(GradientIOError, match="file"):
        init_workspace(tmp_path / "file")
