"""Weights that are not finite are seen, marked, and gone back from."""

from __future__ import annotations

import warnings

import pytest
import torch

from gradient import ConfigError, GradientConfig, NonfiniteError, UnknownRevisionError
from gradient.engine.commit.nan_check import nonfinite
from gradient.repo.repository import Repository
from tests.engine.background_runs import settle
from tests.engine.training_rig import Rig, assert_same, config, network
from tests.repo.making import damage_packs

FLOATS = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.complex128),
]


def spoil(rig: Rig, value: float = float("nan")) -> None:
    rig.model[0].weight.data[0, 0] = value


def commits() -> dict[int, bool | None]:
    repo = Repository.open("work/run")
    return {commit.step: commit.finite for _, commit in repo.line("main")}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("place", [0, 1_500_000, -1])
def test_one_bad_element_is_found(dtype: torch.dtype, bad: float, place: int) -> None:
    if dtype is torch.float8_e4m3fn and bad == bad:
        bad = float("nan")  # this type has no infinities
    tensor = torch.ones(2_000_000, dtype=torch.float32).to(dtype)
    model = {"good": tensor, "bad": tensor.clone(), "count": torch.tensor(3), "extra": b"x"}
    assert nonfinite(model) == []
    spoiled = model["bad"].to(torch.complex128 if dtype.is_complex else torch.float32)
    spoiled[place] = bad
    model["bad"] = spoiled.to(dtype)
    assert nonfinite(model) == ["bad"]


def test_large_numbers_that_add_up_to_infinity_are_finite() -> None:
    assert nonfinite({"a": torch.full((9,), 3e38), "b": torch.full((9,), 6e4).half()}) == []


def test_infinities_that_cancel_out_are_found() -> None:
    assert nonfinite({"a": torch.tensor([float("inf"), float("-inf")])}) == ["a"]


@pytest.mark.parametrize("shape", [(), (0,), (3, 4)])
def test_views_and_empty_tensors(shape: tuple[int, ...]) -> None:
    assert nonfinite({"a": torch.zeros(shape), "b": torch.zeros(4, 6)[:, ::2].t()}) == []
    assert nonfinite({"b": torch.full((4, 6), torch.nan)[:, ::2].t()}) == ["b"]


@pytest.mark.parametrize("background", [False, True])
def test_a_commit_says_whether_its_weights_are_finite(background: bool) -> None:
    rig = Rig()
    with rig.attach(config=config(background=background)) as engine:
        rig.train(engine, 1)
        spoil(rig)
        with pytest.warns(UserWarning, match=r"main@2: the weights .*: 0\.weight\. .*rollback"):
            engine.commit(2)
        engine.commit(3)  # said once
        spoil(rig, 0.0)
        engine.commit(4)
        spoil(rig)
        with pytest.warns(UserWarning, match="main@5: the weights contain"):
            engine.commit(5)
        engine.flush()
    assert commits() == {5: False, 4: True, 3: False, 2: False, 1: True}
    assert Repository.open("work/run").resolve("main@last-finite").commit.step == 4


@pytest.mark.parametrize("background", [False, True])
def test_a_commit_is_refused_where_that_was_asked_for(background: bool) -> None:
    rig = Rig()
    asked = config(background=background, on_nonfinite="raise")
    with rig.attach(config=asked) as engine:
        rig.train(engine, 1)
        spoil(rig)
        with pytest.raises(
            NonfiniteError,
            match=r"not committed: the weights contain NaN or infinite values: 0\.weight",
        ) as raised:
            engine.commit(2)
        assert raised.value.tensors == ("0.weight",)
        spoil(rig, 0.0)
        settle(engine.commit(2))
    assert commits() == {2: True, 1: True}


def test_nobody_looks_where_that_was_asked_for() -> None:
    rig = Rig()
    with rig.attach(config=config(on_nonfinite="ignore")) as engine:
        spoil(rig)
        engine.commit(1)
        engine.log(loss=1.0)
        engine.commit(2)
    assert commits() == {2: None, 1: None}
    # The metrics are what is left to go by.
    assert Repository.open("work/run").resolve("main@last-finite").commit.step == 2


def test_other_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="on_nonfinite"):
        GradientConfig(on_nonfinite="stop")  # type: ignore[arg-type]


@pytest.mark.parametrize("background", [False, True])
def test_a_run_that_diverges_goes_back_and_on(background: bool) -> None:
    """The loop goes on after the step that it went back to, and so does a restart."""
    rig = Rig(network(16))
    seen: list[int] = []
    with rig.attach(config=config(background=background)) as engine:
        for step in engine.steps(8):
            seen.append(step)
            if len(seen) == 5:
                rig.model[3].weight.data.mul_(1e30)  # the loss overflows, and so do the moments
            rig.step()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                engine.commit(step)
                if not rig.model[0].weight.isfinite().all():
                    engine.rollback(scale_lr=0.5, reset_rng_seed=7)
    assert seen == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    repo = Repository.open("work/run")
    assert repo.resolve("main.old1").commit.finite is False
    assert [commit.step for _, commit in repo.line("main")] == [8, 7, 6, 5, 4, 4, 3, 2, 1]
    assert all(commit.finite for _, commit in repo.line("main"))
    again = Rig(network(16))
    with again.attach(config=config(), resume="latest") as engine:
        assert engine.current_step == 8
        assert_same(again.state(), rig.state())


def test_what_is_gone_back_to_is_what_was_committed_but_for_what_was_asked() -> None:
    rig = Rig()
    with rig.attach(config=config()) as engine:
        rig.train(engine, 1, 2)
        good = rig.state()
        rate = rig.optimizer.param_groups[0]["lr"]
        rig.step()
        spoil(rig)
        with pytest.warns(UserWarning, match="NaN or infinite values"):
            engine.commit(3)
        with pytest.warns(UserWarning, match=r"set aside as 'main\.old1'"):
            revision = engine.rollback(scale_lr=0.25)
        assert revision == "main@2"
        assert engine.current_step == 2
        assert rig.optimizer.param_groups[0]["lr"] == rate * 0.25
        now = rig.state()
        assert_same(
            {"model": now["model"], "rng": now["rng"]}, {k: good[k] for k in ("model", "rng")}
        )
        rig.train(engine, 3)
    repo = Repository.open("work/run")
    steps = [(commit.step, commit.message) for _, commit in repo.line("main")]
    assert steps == [(3, ""), (2, "rollback"), (2, ""), (1, "")]


def test_a_rollback_gets_past_a_damaged_commit() -> None:
    rig = Rig()
    with rig.attach(config=config()) as engine:
        rig.train(engine, 1, 2)
        engine.commit(3)  # the same state: its pack holds little more than the commit
        spoil(rig)
        with pytest.warns(UserWarning, match="NaN or infinite values"):
            engine.commit(4)
    repo = Repository.open("work/run")
    damage_packs(repo, repo.resolve("main@3").oid)
    again = Rig()
    with (
        again.attach(config=config(), resume="latest") as engine,
        pytest.warns(UserWarning, match="set aside"),
    ):
        assert engine.rollback(scale_lr=0.25) == "main@2"


def test_going_back_with_nothing_changed_is_said_to_be_in_vain() -> None:
    rig = Rig()
    with rig.attach(config=config()) as engine:
        rig.train(engine, 1)
        with pytest.warns(UserWarning, match="diverge as before"):
            engine.rollback()
        assert engine.current_step == 1


def test_where_nothing_is_finite_nothing_changes() -> None:
    rig = Rig()
    with rig.attach(config=config()) as engine:
        spoil(rig)
        with pytest.warns(UserWarning, match="NaN or infinite values"):
            engine.commit(1)
        before = rig.state()
        with pytest.raises(UnknownRevisionError, match="known to be finite"):
            engine.rollback(scale_lr=0.5)
        assert_same(rig.state(), before)
        assert engine.current_step == 1
