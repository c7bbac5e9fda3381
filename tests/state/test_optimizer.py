from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from gradient.errors import MisfitError
from gradient.state.capture import capture
from gradient.state.live_objects import LiveObjects
from gradient.state.optimizer import capture_optimizer, to_state_dict
from gradient.state.optimizer_plan import same_value
from gradient.state.parameter_names import ParameterNames, strip, stripped
from gradient.state.restore import prepare
from gradient.state.snapshot import snapshot
from tests.state.example_runs import assert_continues, make, network, restore, train
from tests.state.value_roundtrip import same, through

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "ASGD": [{}, {"foreach": True}],
    "Adadelta": [{}, {"capturable": False, "maximize": True}],
    "Adafactor": [{}],
    "Adagrad": [{}, {"initial_accumulator_value": 0.5}],
    "Adam": [{}, {"amsgrad": True}, {"fused": True}, {"lr": "tensor"}],
    "AdamW": [{}, {"amsgrad": True, "foreach": True}, {"fused": True}],
    "Adamax": [{}],
    "LBFGS": [{}, {"line_search_fn": "strong_wolfe"}],
    "Muon": [{}],
    "NAdam": [{}, {"decoupled_weight_decay": True}],
    "RAdam": [{}],
    "RMSprop": [{}, {"momentum": 0.9, "centered": True}],
    "Rprop": [{}],
    "SGD": [{}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "dampening": 0.1}],
    "SparseAdam": [{}],
}
CASES = [(name, options) for name, list_ in OPTIONS.items() for options in list_]


def test_every_optimizer_of_torch_is_here() -> None:
    classes = {n for n, c in vars(torch.optim).items() if isinstance(c, type)}
    assert classes - {"Optimizer"} == set(OPTIONS)


def model_for(name: str) -> torch.nn.Module:
    if name == "Muon":  # matrices only
        return torch.nn.Linear(4, 8, bias=False)
    if name == "SparseAdam":
        return torch.nn.EmbeddingBag(5, 3, sparse=True)
    return network()


def train_sparse(run: LiveObjects) -> None:
    optimizer: Any = run.optimizer
    optimizer.zero_grad()
    run.model(torch.randint(5, (4, 2))).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{list(o)}" for n, o in CASES])
def test_every_optimizer_goes_on_to_the_bit(name: str, options: dict[str, Any]) -> None:
    kind = getattr(torch.optim, name)
    step = train_sparse if name == "SparseAdam" else train

    def build() -> LiveObjects:
        rate = {"lr": torch.tensor(0.01)} if options.get("lr") == "tensor" else {}
        return make(kind, model=model_for(name), **(options | rate))

    assert_continues(build, step)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_every_parameter_dtype_goes_on(dtype: torch.dtype) -> None:
    assert_continues(lambda: make(model=network(dtype)))


class Master(torch.optim.Optimizer):
    """SGD with fp32 momentum for any parameter, and odd state that torch would spoil."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "name": "all", "flags": (True, None)})

    @torch.no_grad()
    def step(self, closure: Any) -> None:
        with torch.enable_grad():
            closure()
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p, dtype=torch.float32)
                    state["quantised"] = torch.arange(p.numel()).to(torch.uint8)
                    state["nested"] = {"list": [torch.ones(2, dtype=torch.float64), "text"]}
                    state["word"] = "word"
                state["momentum"].mul_(0.9).add_(p.grad.float())
                state["quantised"] += 7
                p.sub_((group["lr"] * state["momentum"]).to(p.dtype))


def test_state_keeps_its_dtype_where_torch_casts_it() -> None:
    assert_continues(lambda: make(Master, model=network(torch.bfloat16)))


def test_state_comes_back_in_its_memory_format() -> None:
    def build() -> LiveObjects:
        conv: Any = torch.nn.Conv2d(3, 4, 3)
        return make(model=conv.to(memory_format=torch.channels_last))

    def step(run: LiveObjects) -> None:
        optimizer: Any = run.optimizer
        optimizer.zero_grad()
        run.model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()

    assert_continues(build, step)
    run = build()
    step(run)
    state = through(capture(run))
    other = build()
    restore(other, state)
    moment = other.optimizer.state[other.model.weight]["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    assert other.model.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_captured_form() -> None:
    run = make()
    train(run)
    captured = capture(run)["optimizer"]
    assert captured["class"] == "torch.optim.adamw.AdamW"
    assert captured["param_groups"][0]["params"] == [n for n, _ in run.model.named_parameters()]
    assert list(captured["state"]) == sorted(captured["state"])
    assert set(captured) == {"class", "param_groups", "state"}
    assert same(to_state_dict(captured), run.optimizer.state_dict())


class Twin(torch.nn.Module):
    def __init__(self, order: str = "ab") -> None:
        super().__init__()
        for name in order:
            setattr(self, name, torch.nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


def test_state_follows_its_parameter_to_another_place() -> None:
    run = make(model=Twin("ab"))
    train(run, 2)
    state = snapshot(capture(run))
    other = make(model=Twin("ba"))
    restore(other, state)
    for name, parameter in run.model.named_parameters():
        twin = dict(other.model.named_parameters())[name]
        assert same(
            dict(other.optimizer.state[twin]),
            dict(run.optimizer.state[parameter]),
        )
    torch.manual_seed(1)
    train(run)
    torch.manual_seed(1)
    train(other)
    assert same(dict(run.model.state_dict())["a.weight"], other.model.state_dict()["a.weight"])


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.Adafactor], ids=["LBFGS", "Ada"])
def test_state_of_another_shape_demands_the_same_order(kind: Any) -> None:
    run = make(kind, model=Twin("ab"))
    train(run, 2)
    state = snapshot(capture(run))
    other = make(kind, model=Twin("ba"))
    before = snapshot(capture(other))
    with pytest.raises(MisfitError, match="another order"):
        prepare(other, state)
    assert same(capture(other), before)
    report = restore(other, state, strict=False)
    assert report.reset
    assert same(dict(other.model.state_dict())["a.weight"], run.model.state_dict()["a.weight"])


class Wrapper(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module, name: str) -> None:
        super().__init__()
        self.add_module(name, inner)
        self.inner = [inner]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner[0](x)


@pytest.mark.parametrize("name", ["module", "_orig_mod"])
def test_wrappers_do_not_show(name: str) -> None:
    run = make()
    train(run, 2)
    state = snapshot(capture(run))
    wrapped = make(model=Wrapper(network(), name))
    restore(wrapped, state)
    assert same(capture(wrapped), state)
    bare = make()
    restore(bare, state | {"rng": capture(wrapped)["rng"]})
    assert same(capture(bare)["optimizer"], state["optimizer"])


def test_names() -> None:
    assert strip("module.a._orig_mod.b") == "a.b"
    assert strip("module") == "module"
    assert stripped(["module.a", "a"]) == {"module.a": "module.a", "a": "a"}


class Tied(torch.nn.Module):
    def __init__(self, first: str) -> None:
        super().__init__()
        weight = torch.nn.Parameter(torch.randn(4, 4))
        for name in (first, "head" if first == "wte" else "wte"):
            setattr(self, name, weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.wte @ self.head


def test_any_alias_of_a_tied_parameter_is_understood() -> None:
    run = make(model=Tied("wte"))
    train(run, 2)
    state = snapshot(capture(run))
    assert list(state["optimizer"]["state"]) == ["wte"]
    other = make(model=Tied("head"))
    restore(other, state)
    assert list(capture(other)["optimizer"]["state"]) == ["head"]
    assert same(capture(other)["optimizer"]["state"]["head"], state["optimizer"]["state"]["wte"])
    assert other.model.wte is other.model.head


def test_tied_parameters_take_one_state() -> None:
    """Two that are equal to the bit are still two for the optimizer."""
    model = torch.nn.Module()
    model.a, model.b = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    run = LiveObjects(model, torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9))
    model.a.grad, model.b.grad = torch.ones(3), torch.full((3,), 2.0)
    run.optimizer.step()
    state = snapshot(capture(run))
    tied = torch.nn.Module()
    tied.a = tied.b = torch.nn.Parameter(torch.zeros(3))
    other = LiveObjects(tied, torch.optim.SGD(tied.parameters(), lr=0.0, momentum=0.9))
    with pytest.raises(MisfitError, match="optimizer: b: here tied to a, saved apart"):
        prepare(other, state)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_may_be_twice_in_a_group() -> None:
    def twice() -> LiveObjects:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 3))
        first, *others = model.parameters()
        return LiveObjects(model, torch.optim.Adam([first, first, *others]))

    run = twice()
    for parameter in run.model.parameters():
        parameter.grad = torch.randn(parameter.shape)
    run.optimizer.step()
    state = snapshot(capture(run))
    assert same(to_state_dict(state["optimizer"]), run.optimizer.state_dict())
    other = twice()
    restore(other, state)
    assert same(capture(other)["optimizer"], state["optimizer"])


def outsiders(shape: tuple[int, ...] = (3,)) -> LiveObjects:
    model = Twin()
    outside = torch.nn.Parameter(torch.ones(shape))
    groups = [{"params": list(model.parameters())}, {"params": [outside], "lr": 0.5}]
    run = make(lambda _, **options: torch.optim.SGD(groups, momentum=0.9, **options), model=model)
    outside.grad = torch.ones(shape)
    train(run)
    outside.grad = torch.ones(shape)
    run.optimizer.step()
    return run


def test_parameters_of_no_model_are_named_by_their_place() -> None:
    run = outsiders()
    state = snapshot(capture(run))
    facts = {"group1.0": {"shape": torch.Size([3]), "dtype": torch.float32}}
    assert state["optimizer"]["outside"] == facts
    assert "group1.0" in state["optimizer"]["state"]
    other = outsiders()
    restore(other, state)
    assert same(capture(other)["optimizer"], state["optimizer"])
    with pytest.raises(MisfitError, match=r"group1.0: saved \(3,\) torch.float32, here \(4,\)"):
        prepare(outsiders((4,)), snapshot(state))


def test_a_model_may_call_its_parameters_like_that() -> None:
    model = torch.nn.Module()
    model.group0 = torch.nn.ParameterList([torch.ones(2)])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(3)), *model.parameters()])
    names = ParameterNames(model, optimizer)
    assert [names.of(p) for p in optimizer.param_groups[0]["params"]] == ["#group0.0", "group0.0"]


def test_groups_that_differ_are_a_misfit() -> None:
    def grouped(split: int) -> LiveObjects:
        model = Twin()
        everything = list(model.parameters())
        groups = [{"params": everything[:split]}, {"params": everything[split:], "lr": 0.5}]
        return make(lambda _, **options: torch.optim.SGD(groups, **options), model=model)

    state = snapshot(capture(grouped(2)))
    with pytest.raises(MisfitError) as caught:
        prepare(grouped(3), snapshot(state))
    assert caught.value.mismatched == {"optimizer: b.weight": "not in group 0 there"}
    with pytest.raises(MisfitError, match="saved 2 groups, here 1"):
        prepare(make(torch.optim.SGD, model=Twin()), snapshot(state))


def test_another_class_is_a_misfit_and_resets_when_told_so() -> None:
    run = make(torch.optim.SGD, momentum=0.9)
    train(run)
    state = snapshot(capture(run))
    other = make(torch.optim.Adam)
    train(other)
    with pytest.raises(MisfitError, match=r"saved torch.optim.sgd.SGD, here torch.optim.adam.Adam"):
        prepare(other, snapshot(state))
    report = restore(other, state, strict=False)
    assert set(report.reset) == {name for name, _ in other.model.named_parameters()}
    assert capture(other)["optimizer"]["state"] == {}
    assert same(capture(other)["model"], state["model"])
    train(other)


def test_the_checkpoints_options_win_and_are_told() -> None:
    run = make(weight_decay=0.1)
    train(run, 3)
    state = snapshot(capture(run))
    other = make(weight_decay=0.2, lr=0.02, betas=(0.8, 0.9))
    report = restore(other, state)
    found = {(d.where, d.option): (d.script, d.checkpoint) for d in report.differences}
    assert found == {
        ("optimizer.param_groups[0]", "weight_decay"): (0.2, 0.1),
        ("optimizer.param_groups[0]", "betas"): ((0.8, 0.9), (0.9, 0.999)),
        ("optimizer.param_groups[0]", "lr"): (0.02, 0.01),
    }
    assert "weight_decay: checkpoint 0.1, script 0.2" in str(report.differences[0]) + str(
        report.differences[1]
    )
    assert capture(other)["optimizer"]["param_groups"][0]["weight_decay"] == 0.1
    assert not restore(other, state).differences


def test_restored_state_is_nobody_elses() -> None:
    run = make()
    train(run)
    kept = snapshot(capture(run))
    other = make()
    prepare(other, through(capture(run))).apply()
    train(other, 2)
    assert same(capture(run)["model"], kept["model"])
    assert same(capture(run)["optimizer"], kept["optimizer"])


def test_options_may_be_tensors_and_arrays() -> None:
    assert same_value([torch.tensor(0.5)], [0.5])
    assert same_value(np.array([1, 2]), (1, 2))
    assert same_value(float("nan"), torch.tensor(float("nan")))
    assert not same_value(torch.tensor([1.0, 2.0]), [1.0, 3.0])
    assert not same_value([1.0, 2.0], [1.0])


def test_options_may_hold_tensors_and_arrays() -> None:
    def build(scale: float) -> LiveObjects:
        run = make(torch.optim.SGD)
        groups: Any = run.optimizer.param_groups
        groups[0]["plan"] = {"at": [torch.tensor([1.0, float("nan")])], "by": deque([np.ones(3)])}
        run.scheduler.plan = {"scale": torch.full((3,), scale)}
        return run

    state = through(capture(build(0.5)))
    assert restore(build(0.5), state).differences == ()
    (difference,) = restore(build(0.7), state).differences
    assert (difference.where, difference.option) == ("scheduler", "plan")


class Shampooish:
    """An optimizer whose state dict has a shape of its own."""

    def __init__(self) -> None:
        self.table = {"preconditioners": [torch.ones(2, 2)], "count": 3}

    def state_dict(self) -> dict[str, Any]:
        return self.table

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.table = state


def test_other_state_dicts_are_kept_as_they_are() -> None:
    optimizer = Shampooish()
    run = LiveObjects(network(), optimizer)
    state = snapshot(capture(run))
    assert set(state["optimizer"]) == {"class", "opaque"}
    optimizer.table = {}
    restore(run, state)
    assert same(optimizer.table, state["optimizer"]["opaque"])
    assert same(to_state_dict(state["optimizer"]), state["optimizer"]["opaque"])


class Several:
    """An optimizer of the script's around those of torch, one of which keeps wide state."""

    def __init__(self, parameters: Any, lr: float) -> None:
        first, *rest = parameters
        self.parts = [Master([first], lr), torch.optim.SGD(rest, lr, momentum=0.9)]
        self.steps = 0

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts], "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.steps = state["steps"]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self, closure: Any) -> None:
        self.parts[0].step(closure)
        self.parts[1].step()
        self.steps += 1


def test_state_inside_a_wrapper_keeps_its_dtype_too() -> None:
    def step(run: LiveObjects) -> None:
        optimizer: Any = run.optimizer

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss: torch.Tensor = run.model(torch.randn(5, 4).bfloat16()).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    def build() -> LiveObjects:
        model = network(torch.bfloat16)
        return LiveObjects(model, Several(model.parameters(), 0.01))

    assert_continues(build, step)


class Extended(torch.optim.SGD):
    """SGD with another key in its state dict, and state that belongs to no parameter."""

    extra = 0

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"extra": self.extra}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.extra = state_dict["extra"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "extra"})


def test_further_keys_and_other_state_come_back() -> None:
    run = make(Extended, momentum=0.9)
    train(run)
    run.optimizer.extra = 5
    run.optimizer.state["total"] = torch.tensor(9)
    state = snapshot(capture(run))
    assert state["optimizer"]["extra"] == {"extra": 5}
    other = make(Extended, momentum=0.9)
    restore(other, state)
    assert other.optimizer.extra == 5
    assert same(capture(other)["optimizer"], state["optimizer"])
    assert same(to_state_dict(state["optimizer"]), other.optimizer.state_dict())


def test_named_parameters_keep_their_names() -> None:
    def build(order: str) -> LiveObjects:
        model = Twin(order)
        named = list(model.named_parameters())
        return make(lambda _, **options: torch.optim.Adam(named, **options), model=model)

    run = build("ab")
    train(run)
    state = snapshot(capture(run))
    other = build("ba")
    restore(other, state)
    group = other.optimizer.param_groups[0]
    assert group["param_names"] == [name for name, _ in other.model.named_parameters()]


def test_capture_needs_no_model_of_its_own() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter])
    captured = capture_optimizer(optimizer, ParameterNames(torch.nn.Module(), optimizer))
    assert captured["param_groups"][0]["params"] == ["group0.0"]
