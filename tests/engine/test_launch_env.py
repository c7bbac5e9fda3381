"""The launch environment is consumed once, and a restart continues the run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from gradient import ConfigError, GradientEngine
from gradient.engine import launch_env
from gradient.engine.fork_options import ForkOptions
from gradient.engine.launch_env import LaunchEnv
from gradient.repo.repository import Repository
from tests.engine.training_rig import Rig, assert_same, trained


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the variables as the command line does; each call is a new process's first attach."""

    def set_all(**told: Any) -> None:
        for name in launch_env.OWNED:
            monkeypatch.delenv(name, raising=False)
        for name, value in LaunchEnv(**told).to_environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(launch_env, "_consumed", set())

    return set_all


def attach(rig: Rig) -> GradientEngine:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return rig.attach()


def steps(branch: str) -> list[int]:
    return [commit.step for _, commit in Repository.open("work/run").line(branch)][::-1]


def test_what_is_written_is_read() -> None:
    options = ForkOptions(True, True, 0, {"lr": 1e-2}, 2.0, False, "why")
    told = LaunchEnv("w", "r", "b", "main@1", 5, options, "1234")
    assert LaunchEnv.read(told.to_environ()) == told
    assert LaunchEnv.read({}) == LaunchEnv()
    assert LaunchEnv().to_environ() == {}


@pytest.mark.parametrize(
    "text", ["{", "[]", "5", '{"rate": 1}', '{"reset_rng_seed": -1}', '{"scale_lr": "x"}', "null"]
)
def test_fork_options_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        ForkOptions.parse(text)


@pytest.mark.parametrize("text", ["{", "[]", "5", '""', "null"])
def test_the_error_says_that_it_is_not_an_object(text: str) -> None:
    with pytest.raises(ConfigError, match="GRADIENT_FORK is not a JSON object"):
        ForkOptions.parse(text)


def test_a_launched_fork_happens_inside_attach(launch: Callable[..., None]) -> None:
    trained(1, 2)
    launch(branch="exp", resume="main@1", fork=ForkOptions(set={"lr": 0.5}), id="aaaa")
    rig = Rig()
    engine = attach(rig)
    assert (engine.branch, engine.current_step) == ("exp", 1)
    assert rig.optimizer.param_groups[0]["lr"] == 0.5
    rig.train(engine, 2)
    assert steps("exp") == [1, 1, 2]


def test_only_the_first_attach_of_a_process_takes_the_handoff(launch: Callable[..., None]) -> None:
    trained(1, 2)
    launch(branch="exp", resume="main@1", fork=ForkOptions(), id="bbbb")
    attach(Rig())
    with pytest.warns(UserWarning, match="has history"):
        second = Rig().attach()
    assert (second.branch, second.current_step) == ("exp", 0)


def test_a_restarted_fork_goes_on_from_the_branchs_latest(launch: Callable[..., None]) -> None:
    trained(1, 2)
    told = {"branch": "exp", "resume": "main@1", "fork": ForkOptions(scale_lr=2.0), "id": "cccc"}
    launch(**told)
    rig = Rig()
    rig.train(attach(rig), 2, 3)
    launch(**told)
    other = Rig()
    engine = attach(other)
    assert engine.current_step == 3
    assert_same(other.state(), rig.state())
    other.train(engine, 4)
    assert steps("exp") == [1, 1, 2, 3, 4]


def test_a_restarted_resume_of_an_older_step_does_not_turn_back_again(
    launch: Callable[..., None],
) -> None:
    trained(1, 2, 3)
    told = {"branch": "main", "resume": "main@1", "id": "dddd"}
    launch(**told)
    rig = Rig()
    engine = attach(rig)
    assert engine.current_step == 1
    with pytest.warns(UserWarning, match=r"main\.old1"):
        rig.train(engine, 7)
    launch(**told)
    other = Rig()
    engine = attach(other)
    assert engine.current_step == 7
    other.train(engine, 8)
    assert steps("main") == [1, 7, 8]
    assert steps("main.old1") == [1, 2, 3]


def test_a_restart_before_the_first_commit_begins_again(launch: Callable[..., None]) -> None:
    trained(1, 2)
    told = {"branch": "main", "resume": "main@1", "id": "eeee"}
    for _ in range(2):
        launch(**told)
        assert attach(Rig()).current_step == 1


def test_another_launch_of_the_same_is_a_new_beginning(launch: Callable[..., None]) -> None:
    trained(1, 2)
    for number in (1, 2):
        launch(branch="main", resume="main@1", id=f"ff{number}")
        rig = Rig()
        engine = attach(rig)
        assert engine.current_step == 1
        with pytest.warns(UserWarning, match=rf"main\.old{number}"):
            rig.train(engine, 5 + number)


def test_a_restart_finds_the_branch_that_its_launch_was_diverted_to(
    launch: Callable[..., None],
) -> None:
    other, rival = trained(1, 2)
    told = {"branch": "main", "resume": "main@2", "id": "abcd"}
    launch(**told)
    rig = Rig()
    engine = attach(rig)
    other.train(rival, 3)
    with pytest.warns(UserWarning, match="another writer"):
        rig.train(engine, 3)
    assert engine.branch == "main.run2"
    launch(**told)
    again = Rig()
    engine = attach(again)
    assert (engine.branch, engine.current_step) == ("main.run2", 3)
    again.train(engine, 4)
    assert steps("main.run2") == [1, 2, 3, 4]


def test_the_former_name_of_an_option_is_read() -> None:
    assert ForkOptions.parse('{"partial": true, "scale_lr": 2.0}') == ForkOptions(
        strict=False, scale_lr=2.0
    )
    assert ForkOptions(strict=False, reset_rng_seed=0).record == {
        "strict": False,
        "reset_rng_seed": 0,
    }
