from __future__ import annotations

from typing import Any

import pytest
import torch

from gradient.errors import MisfitError, UnsupportedValueError
from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects
from gradient.state.model import ModelPlan, capture_model
from gradient.state.restore import prepare
from gradient.state.snapshot import snapshot
from gradient.state.tensors import describe
from tests.state.example_runs import make, network, restore, train
from tests.state.value_roundtrip import same, through


class Everything(torch.nn.Module):
    """Parameters, ties, buffers of both kinds, extra state, and memory in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.wte.weight
        self.conv = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
        self.short = torch.nn.Parameter(torch.randn(3).to(torch.bfloat16))
        self.frozen = torch.nn.Parameter(torch.randn(3), requires_grad=False)
        self.register_buffer("mask", torch.rand(3) > 0.5)
        self.register_buffer("cache", torch.rand(3), persistent=False)
        self.register_buffer("scale", torch.tensor([1.0, float("nan"), -0.0]).to(torch.float8_e5m2))
        self.counts: dict[str, Any] = {"seen": 0}

    def get_extra_state(self) -> Any:
        return self.counts

    def set_extra_state(self, state: Any) -> None:
        self.counts = state


def test_everything_comes_back_in_place() -> None:
    source = Everything()
    source.counts = {"seen": 3, "window": (1, 2)}
    state = through(capture_model(source))
    target = Everything()
    addresses = {name: p.data_ptr() for name, p in target.named_parameters()}
    cache = target.cache.clone()
    plan = ModelPlan(target, state)
    assert not plan.mismatch
    plan.apply()
    assert same(capture_model(target), capture_model(source))
    assert {name: p.data_ptr() for name, p in target.named_parameters()} == addresses
    assert target.head.weight is target.wte.weight
    assert target.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(target.cache, cache)
    assert target.counts == {"seen": 3, "window": (1, 2)}


def test_every_bit_of_a_copy_stays() -> None:
    bits = torch.randint(-(1 << 15), 1 << 15, (4096,), dtype=torch.int16)
    for dtype in (torch.bfloat16, torch.float16):
        model = torch.nn.Module()
        model.w = torch.nn.Parameter(torch.zeros(4096, dtype=dtype))
        ModelPlan(model, {"w": bits.view(dtype)}).apply()
        assert torch.equal(model.w.detach().view(torch.int16), bits)


def test_misfits_are_listed_and_nothing_changes() -> None:
    run = make()
    train(run)
    state = snapshot(capture(run))
    values = state["model"]
    values["0.weight"] = values["0.weight"].double()
    values["3.weight"] = torch.ones(4, 8)
    values["new"] = values.pop("0.bias")
    before = snapshot(capture(run))
    with pytest.raises(MisfitError) as caught:
        prepare(run, state)
    assert same(capture(run), before)
    assert caught.value.missing == ("0.bias",)
    assert caught.value.unexpected == ("new",)
    assert caught.value.mismatched == {
        "0.weight": "saved (8, 4) float64, here (8, 4) float32",
        "3.weight": "saved (4, 8) float32, here (2, 8) float32",
    }
    for text in ("0.bias", "new", "saved (4, 8) float32, here (2, 8) float32", "strict=False"):
        assert text in str(caught.value)


def test_without_strictness_what_matches_is_loaded_and_the_rest_reset() -> None:
    run = make()
    train(run, 2)
    state = snapshot(capture(run))
    state["model"]["3.weight"] = torch.ones(4, 8)
    other = make()
    train(other)
    kept = other.model.state_dict()["3.weight"].clone()
    report = restore(other, state, strict=False)
    assert report.reset == ("3.weight",)
    assert report.mismatched == {"3.weight": "saved (4, 8) float32, here (2, 8) float32"}
    assert same(other.model.state_dict()["3.weight"], kept)
    assert same(other.model.state_dict()["0.weight"], state["model"]["0.weight"])
    moments = capture(other)["optimizer"]["state"]
    assert "3.weight" not in moments
    assert same(moments["0.weight"], state["optimizer"]["state"]["0.weight"])
    train(other)


def test_extra_state_may_be_a_tensor_of_any_size() -> None:
    class Grows(torch.nn.Module):
        seen = torch.zeros(1)

        def get_extra_state(self) -> Any:
            return self.seen

        def set_extra_state(self, state: Any) -> None:
            self.seen = state

    source, target = Grows(), Grows()
    source.seen = torch.ones(5)
    plan = ModelPlan(target, through(capture_model(source)))
    assert not plan.mismatch
    plan.apply()
    assert same(target.seen, source.seen)


def test_one_live_tensor_takes_one_value() -> None:
    state = capture_model(Everything())
    state["head.weight"] = state["head.weight"] + 1
    plan = ModelPlan(Everything(), state)
    assert plan.mismatch.mismatched == {"head.weight": "here tied to wte.weight, saved apart"}


class Views(torch.nn.Module):
    """A weight, and what looks at its memory in ways of its own."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        weight = torch.arange(12.0).view(3, 4)
        first, rows, turned = weight[0], weight[1:], weight.t()
        self.weight = torch.nn.Parameter(weight if tied else weight.clone())
        self.register_buffer("first", first if tied else first.clone())
        self.register_buffer("rows", rows if tied else rows.clone())
        self.turned = torch.nn.Parameter(turned if tied else turned.clone())
        self.register_buffer("row", (rows[:1] if tied else rows[:1].clone()).expand(5, 4))
        self.register_buffer("integers", (weight if tied else weight.clone()).view(torch.int32))


@pytest.mark.parametrize("name", ["first", "rows", "turned", "row", "integers"])
def test_views_of_one_memory_take_only_what_fits_together(name: str) -> None:
    state = snapshot(capture_model(Views(tied=False)))
    target = Views(tied=True)
    plan = ModelPlan(target, state)
    assert not plan.mismatch
    plan.apply()
    assert same(capture_model(target), state)
    state[name] = state[name] + 1
    before = snapshot(capture_model(target))
    plan = ModelPlan(target, state)
    assert plan.mismatch.mismatched == {name: "here tied to weight, saved apart"}
    assert same(capture_model(target), before)
    plan.apply()
    assert torch.equal(target.weight, state["weight"])
    whole = Views(tied=False)
    ModelPlan(whole, state).apply()
    assert same(capture_model(whole), state)


def test_columns_of_one_matrix_are_not_tied() -> None:
    model = torch.nn.Module()
    matrix = torch.zeros(3, 4)
    for name, columns in (("left", matrix[:, :2]), ("right", matrix[:, 2:])):
        model.register_parameter(name, torch.nn.Parameter(columns))
    state = {"left": torch.randn(3, 2), "right": torch.randn(3, 2)}
    plan = ModelPlan(model, state)
    assert not plan.mismatch
    plan.apply()
    assert torch.equal(model.left, state["left"])
    assert torch.equal(model.right, state["right"])


class Expanded(torch.nn.Module):
    """A mask of one number and positions of one row, repeated without memory of their own."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.line = torch.nn.Linear(2, 2)
        self.mask = torch.nn.Parameter(torch.full((1, 1), value).expand(3, 4))
        self.register_buffer("rows", torch.full((5,), value).expand(2, 1, 5))


def test_expanded_tensors_come_back() -> None:
    source, target = Expanded(2.0), Expanded(1.0)
    plan = ModelPlan(target, through(capture_model(source)))
    assert not plan.mismatch
    plan.apply()
    assert same(capture_model(target), capture_model(source))
    assert (target.mask.stride(), target.rows.stride()) == ((0, 0), (0, 5, 1))


def test_what_torch_could_not_copy_to_is_a_misfit_before_anything_changed() -> None:
    source, target = Expanded(2.0), Expanded(1.0)
    source.mask = torch.nn.Parameter(torch.rand(3, 4))
    with torch.inference_mode():
        target.register_buffer("late", torch.ones(3))
    source.register_buffer("late", torch.zeros(3))
    before = snapshot(capture_model(target))
    with pytest.raises(MisfitError) as caught:
        prepare(LiveObjects(target), snapshot(capture(LiveObjects(source))))
    assert caught.value.mismatched == {
        "mask": "here expanded from fewer values than were saved",
        "late": "here made in torch.inference_mode(), so that nothing can change it any more",
    }
    assert same(capture_model(target), before)


def test_a_warm_start_takes_the_model_alone() -> None:
    run = make(torch.optim.SGD, momentum=0.9)
    train(run, 2)
    state = snapshot(capture(run))
    other = make()
    plan = prepare(other, state, components=("model",))
    assert plan.components == ("model",)
    plan.apply()
    assert same(capture(other)["model"], state["model"])
    assert not same(capture(other)["rng"], state["rng"])


def test_lazy_modules() -> None:
    lazy = torch.nn.LazyLinear(2)
    with pytest.raises(UnsupportedValueError, match=r"weight: a lazy parameter.*Run one batch"):
        describe(capture_model(lazy)["weight"], "model.weight")
    full = torch.nn.Linear(3, 2)
    run = LiveObjects(lazy)
    restore(run, capture(LiveObjects(full)))
    assert same(capture_model(lazy), capture_model(full))


def test_the_meta_device_is_a_misfit() -> None:
    state = capture_model(torch.nn.Linear(3, 2))
    with torch.device("meta"):
        empty = torch.nn.Linear(3, 2)
    plan = ModelPlan(empty, state)
    assert "meta device" in plan.mismatch.mismatched["weight"]


def test_a_model_that_loads_itself() -> None:
    class Picky(torch.nn.Linear):
        def load_state_dict(self, state_dict: Any) -> Any:  # no strict, no assign
            return super().load_state_dict(state_dict)

    source, target = Picky(2, 2), Picky(2, 2)
    ModelPlan(target, capture_model(source)).apply()
    assert same(capture_model(target), capture_model(source))


def test_parametrised_models() -> None:
    source = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    target = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    ModelPlan(target, through(capture_model(source))).apply()
    assert same(capture_model(target), capture_model(source))


def test_names_that_would_collide_stay() -> None:
    model = torch.nn.Module()
    model.a = torch.nn.Parameter(torch.ones(1))
    model.module = torch.nn.Module()
    model.module.a = torch.nn.Parameter(torch.zeros(1))
    assert list(capture_model(model)) == ["a", "module.a"]


def test_averaged_models_are_models() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(network())
    state = through(capture_model(averaged))
    assert "n_averaged" in state
    other = torch.optim.swa_utils.AveragedModel(network())
    ModelPlan(other, state).apply()
    assert same(capture_model(other), capture_model(averaged))
