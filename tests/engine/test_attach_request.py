"""Ways in: which repo, which branch, what the environment overrides, what is said."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest
import torch

from gradient import (
    ConfigError,
    ContextError,
    GradientConfig,
    GradientEngine,
    InvalidNameError,
    OwnershipError,
    UnknownRevisionError,
    UnsupportedValueError,
    init_repo,
    init_workspace,
    load,
)
from gradient.repo.repository import Repository
from tests.engine.training_rig import Rig, assert_same, config, trained
from tests.foreign_owner import contents, give_away, needs_root


def attach(**options: object) -> GradientEngine:
    rig = Rig()
    return GradientEngine.attach(rig.model, rig.optimizer, rig.scheduler, **options)  # type: ignore[arg-type]


def place(engine: GradientEngine) -> tuple[str, str]:
    return engine.workspace_path, engine.repo_path


def expect(workspace: str | Path, repo: str) -> tuple[str, str]:
    root = Path(workspace).absolute()
    return str(root), str(root / repo)


# -- Which repo ---------------------------------------------------------------------------------


def test_workspace_and_repo_make_what_is_missing() -> None:
    engine = attach(workspace="deep/er/work", repo="gpt")
    assert place(engine) == expect("deep/er/work", "gpt")
    assert engine.repo_name == "gpt"
    assert Path("deep/er/work/.gradient/config.json").is_file()
    assert Path("deep/er/work/gpt/.gradient-repo/config.json").is_file()
    assert Path("deep/er/work/gpt/manifest.json").is_file()


def test_a_path_object_is_a_workspace_too() -> None:
    assert place(attach(workspace=Path("work"), repo="gpt")) == expect("work", "gpt")


def test_a_config_with_both_makes_what_is_missing() -> None:
    engine = attach(config=GradientConfig(workspace_path="work", repo_name="gpt"))
    assert place(engine) == expect("work", "gpt")


def test_arguments_come_before_the_config() -> None:
    engine = attach(config=config(), workspace="other", repo="gpt")
    assert place(engine) == expect("other", "gpt")


def test_a_repo_alone_is_made_in_the_workspace_around(monkeypatch: pytest.MonkeyPatch) -> None:
    init_workspace("work")
    Path("work/sub/folder").mkdir(parents=True)
    root = Path("work").absolute()
    monkeypatch.chdir("work/sub/folder")
    assert place(attach(repo="gpt")) == expect(root, "gpt")


def test_a_repo_alone_is_made_in_the_only_workspace_below() -> None:
    init_workspace("work")
    assert place(attach(repo="gpt")) == expect("work", "gpt")


def test_a_repo_alone_without_a_workspace_is_an_error() -> None:
    with pytest.raises(ContextError, match="workspace init"):
        attach(repo="gpt")
    assert list(Path().iterdir()) == []


def test_neither_finds_the_repo_upwards(monkeypatch: pytest.MonkeyPatch) -> None:
    init_workspace("work")
    init_repo("work/a")
    init_repo("work/b")
    root = Path("work").absolute()
    Path("work/b/scripts/deep").mkdir(parents=True)
    monkeypatch.chdir("work/b/scripts/deep")
    assert place(attach()) == expect(root, "b")


def test_neither_finds_the_only_workspace_below_and_its_only_repo() -> None:
    init_workspace("work")
    init_repo("work/a")
    Path("unrelated").mkdir()
    assert place(attach()) == expect("work", "a")


def test_nothing_resolvable_names_the_remedies() -> None:
    with pytest.raises(ContextError) as caught:
        attach()
    for remedy in ("workspace=", "-w", "GRADIENT_WORKSPACE", "gradient workspace init"):
        assert remedy in str(caught.value)


def test_a_workspace_without_a_repo_names_the_remedy() -> None:
    init_workspace("work")
    with pytest.raises(ContextError, match="repo init NAME"):
        attach()


def test_objects_without_state_are_refused_before_anything_is_made() -> None:
    rig = Rig()
    for objects, what in (
        ((rig.optimizer, rig.model), "the model is of type AdamW"),
        ((rig.model, rig.model), "the optimizer is a torch.nn.Module"),
        ((rig.model, [rig.optimizer]), "the optimizer is of type list"),
        ((rig.model, rig.optimizer, object()), "the scheduler is of type object"),
    ):
        with pytest.raises(ConfigError, match=what):
            GradientEngine.attach(*objects, workspace="work", repo="gpt")  # type: ignore[arg-type]
    assert not Path("work").exists()


def test_several_workspaces_are_listed() -> None:
    for name in ("one", "two"):
        init_workspace(name)
        init_repo(f"{name}/run")
    with pytest.raises(ContextError, match="Choose one") as caught:
        attach()
    assert caught.value.candidates == (str(Path("one").absolute()), str(Path("two").absolute()))


def test_several_repos_are_listed() -> None:
    init_workspace("work")
    init_repo("work/a")
    init_repo("work/b")
    with pytest.raises(ContextError, match="Choose one") as caught:
        attach(workspace="work")
    assert caught.value.candidates == ("a", "b")


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".hidden", "-flag", "", "a\0b", "x" * 300])
def test_a_repo_name_that_could_escape_is_refused(name: str) -> None:
    with pytest.raises((InvalidNameError, ContextError)):
        attach(workspace="work", repo=name)
    assert list(Path().iterdir()) == []


# -- What the environment overrides -------------------------------------------------------------


def test_the_environment_overrides_workspace_and_repo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_WORKSPACE", "elsewhere")
    assert place(attach(workspace="work", repo="gpt")) == expect("elsewhere", "gpt")
    monkeypatch.setenv("GRADIENT_REPO", "other")
    assert place(attach(config=config())) == expect("elsewhere", "other")


def test_empty_variables_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKSPACE", "REPO", "BRANCH", "RESUME_REF", "AUTOCOMMIT", "FORK", "HANDOFF_ID"):
        monkeypatch.setenv(f"GRADIENT_{name}", "")
    engine = Rig().attach()
    assert (engine.branch, engine.current_step) == ("main", 0)
    assert engine.maybe_commit(1) is None


def test_the_branch_is_main_then_head_then_config_then_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Rig().attach().branch == "main"
    Repository.open("work/run").set_head("wip")
    assert Rig().attach().branch == "wip"
    assert Rig().attach("main").branch == "main"
    monkeypatch.setenv("GRADIENT_BRANCH", "env/x")
    assert Rig().attach("main").branch == "env/x"


def test_engines_never_move_head(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, engine = trained(1, branch="exp")
    engine.fork(from_ref="exp@1", new_branch="other")
    engine.resume("exp@1")
    assert Repository.open("work/run").head is None
    del rig


def test_resume_ref_resumes_inside_attach(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, engine = trained(1)
    one = rig.state()
    rig.train(engine, 2)
    two = rig.state()
    for ref, state, step in (("latest", two, 2), ("auto", two, 2), ("main@1", one, 1)):
        monkeypatch.setenv("GRADIENT_RESUME_REF", ref)
        other = Rig()
        assert other.attach(resume="main@1").current_step == step
        assert_same(other.state(), state)


def test_auto_is_fresh_where_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Rig().attach(resume="auto").current_step == 0
    monkeypatch.setenv("GRADIENT_RESUME_REF", "auto")
    assert Rig().attach().current_step == 0
    monkeypatch.setenv("GRADIENT_RESUME_REF", "latest")
    with pytest.raises(UnknownRevisionError):
        Rig().attach()


def test_autocommit_of_the_environment_and_of_a_later_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_AUTOCOMMIT", "2")
    engine = Rig().attach()
    assert [engine.maybe_commit(step) for step in range(1, 5)] == [None, "main@2", None, "main@4"]
    engine.autocommit(every=3)
    assert [engine.maybe_commit(step) for step in range(5, 8)] == [None, "main@6", None]


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "1e3"])
def test_autocommit_must_be_a_positive_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIENT_AUTOCOMMIT", text)
    with pytest.raises(ConfigError, match="positive whole number"):
        Rig().attach()


@pytest.mark.parametrize("every", [0, -1, 1.0, True, "5", None])
def test_autocommit_takes_a_positive_number(every: object) -> None:
    with pytest.raises(ConfigError, match="whole number"):
        Rig().attach().autocommit(every=every)  # type: ignore[arg-type]


# -- What is said -------------------------------------------------------------------------------


def test_attaching_afresh_to_history_warns_with_both_remedies() -> None:
    _, engine = trained(1)
    engine.close()
    with pytest.warns(UserWarning, match="has history") as caught:
        Rig().attach("main")
    text = str(caught[0].message)
    assert 'resume="auto"' in text
    assert "branch=" in text
    assert caught[0].filename.endswith("rig.py"), "it points at the script's line"


@pytest.mark.parametrize("resume", ["auto", "latest", "main@1"])
def test_resuming_does_not_warn(resume: str) -> None:
    _, engine = trained(1)
    engine.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Rig().attach(resume=resume)


def test_another_branch_does_not_warn() -> None:
    trained(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Rig().attach("other")


def test_a_repo_that_is_named_as_the_workspace_is_refused() -> None:
    trained(1)
    with pytest.raises(ContextError, match="is a repo; a workspace is a folder that holds repos"):
        attach(workspace="work/run", repo="run")
    assert not Path("work/run/run").exists()


def test_settings_in_a_dict_are_refused_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match="config is of type dict; allowed is a GradientConfig"):
        attach(config={"workspace_path": "work"})
    assert not Path("work").exists()


def test_parameters_that_nobody_captures_are_named(caplog: pytest.LogCaptureFixture) -> None:
    model, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD([*model.parameters(), *other.parameters()], lr=0.1)
    Rig(model, optimizer).attach()
    assert "2 parameters that the model does not own (group0.2, group0.3)" in caplog.text
    caplog.clear()
    Rig().attach("quiet")
    assert caplog.text == ""


@pytest.mark.parametrize("branch", ["../x", "a..b", "a b", "-x", "x.lock", "a@b", "/x", "HEAD"])
def test_a_bad_branch_name_is_refused(branch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidNameError):
        Rig().attach(branch)
    monkeypatch.setenv("GRADIENT_BRANCH", branch)
    with pytest.raises(InvalidNameError):
        Rig().attach()
    assert Repository.open("work/run").branches() == []


def test_a_branch_that_differs_in_case_alone_is_refused() -> None:
    trained(1, branch="Exp")
    with pytest.raises(InvalidNameError, match="Exp"):
        Rig().attach("exp")


@pytest.mark.parametrize(
    "settings",
    [{"compression": "max"}, {"view": "none"}, {"reanchor_interval": -1}, {"branch": ""}],
)
def test_a_bad_setting_is_refused_at_construction_and_names_the_allowed(
    settings: dict[str, object],
) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        GradientConfig(**settings)  # type: ignore[arg-type]


# -- Whose repo ---------------------------------------------------------------------------------


@needs_root
def test_a_repo_of_another_user_is_trained_in_once_it_is_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, engine = trained(1, 2)
    engine.close()
    give_away(Path("work"))
    before = contents(Path("work"))
    with pytest.raises(OwnershipError, match="export GRADIENT_SAFE_DIRECTORY="):
        Rig().attach(resume="latest")
    assert load("main@2")["step"] == 2
    assert contents(Path("work")) == before
    monkeypatch.setenv("GRADIENT_SAFE_DIRECTORY", str(Path("work").absolute() / "*"))
    rig = Rig()
    engine = rig.attach(resume="latest")
    rig.train(engine, 3)
    engine.close()
    assert Repository.open("work/run").resolve("main@3").commit.step == 3


def test_a_scheduler_that_cannot_be_copied_is_refused_by_the_commit_that_names_why() -> None:
    rig = Rig()
    rig.scheduler.guard = threading.Lock()
    engine = rig.attach()
    with pytest.raises(UnsupportedValueError, match=r"scheduler\.guard: a value of type _th"):
        engine.commit(1)
    del rig.scheduler.guard
    assert engine.commit(1) == "main@1"
