"""Against torch, by hand."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradient.checkpoint import merge
from gradient.checkpoint.merge import CommitModel
from gradient.checkpoint.reader import read_state
from gradient.checkpoint.writer import write_state
from gradient.codec.mode import Mode
from gradient.errors import MisfitError
from gradient.storage.memory import MemoryStorage
from gradient.store.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradient.checkpoint.merge import Rule


class Net(torch.nn.Module):
    """Tied weights, a buffer of whole numbers, extra state."""

    def __init__(self, dtype: torch.dtype, width: int = 8) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(40, width, dtype=dtype)
        self.norm = torch.nn.BatchNorm1d(width, dtype=dtype)
        self.head = torch.nn.Linear(width, 40, bias=False, dtype=dtype)
        self.head.weight = self.embed.weight

    def get_extra_state(self) -> Any:
        return {"scale": self.norm.weight.detach()[0].clone()}

    def set_extra_state(self, state: Any) -> None:
        pass


def state_of(seed: int, dtype: torch.dtype = torch.float32, width: int = 8) -> dict[str, Any]:
    torch.manual_seed(seed)
    net = Net(dtype, width)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    net.norm.num_batches_tracked.fill_(seed)
    return {
        "model": OrderedDict(net.state_dict()),
        "optimizer": {"state": seed},
        "scheduler": {"last_epoch": seed},
        "mine": {"held": torch.full((300,), float(seed))},
    }


def merged(states: Sequence[dict[str, Any]], rule: Rule) -> dict[str, Any]:
    store = ObjectStore(MemoryStorage(), workers=1)
    roots = []
    for state in states:
        with store.begin(mode=Mode.AUTO) as transaction:
            roots.append(write_state(transaction, state))
            transaction.seal()
    models = [CommitModel.of(store, root, f"r{i}") for i, root in enumerate(roots)]
    merge.check(models)
    with store.begin(mode=Mode.AUTO, whole=True) as transaction:
        root = merge.write_merged(transaction, models, rule)
        transaction.seal()
    return read_state(store, root)


def by_hand(states: Sequence[dict[str, Any]], name: str, weights: Sequence[float]) -> torch.Tensor:
    parts = [state["model"][name] for state in states]
    total = torch.zeros(parts[0].shape, dtype=torch.float64)
    for part, weight in zip(parts, weights, strict=True):
        total += part.double() * weight
    return total.to(parts[0].dtype)


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weighted_sum_is_torchs(dtype: torch.dtype) -> None:
    states = [state_of(seed, dtype) for seed in (1, 2, 3)]
    weights = [0.2, 0.3, 0.5]
    done = merged(states, merge.linear(weights))
    model = done["model"]
    assert type(model) is OrderedDict
    assert list(model) == list(states[0]["model"])
    for name in ("embed.weight", "head.weight", "norm.weight", "norm.running_var"):
        assert model[name].dtype is dtype
        torch.testing.assert_close(
            model[name],
            by_hand(states, name, weights),
            rtol=1e-14 if dtype == torch.float64 else 0,
            atol=0,
        )


def test_what_is_no_weight_comes_from_the_first() -> None:
    states = [state_of(1), state_of(2)]
    done = merged(states, merge.linear([0.5, 0.5]))
    assert done["model"]["norm.num_batches_tracked"].item() == 1
    assert torch.equal(
        done["model"]["_extra_state"]["scale"], states[0]["model"]["_extra_state"]["scale"]
    )
    assert done.keys() == {"model", "scheduler", "mine"}
    assert done["scheduler"] == {"last_epoch": 1}
    assert torch.equal(done["mine"]["held"], states[0]["mine"]["held"])


def test_tied_weights_stay_tied() -> None:
    model = merged([state_of(1), state_of(2)], merge.linear([0.5, 0.5]))["model"]
    assert model["embed.weight"].data_ptr() == model["head.weight"].data_ptr()


def test_equal_models_keep_every_bit() -> None:
    states = [state_of(1), state_of(1)]
    states[0]["model"]["norm.weight"][0] = float("nan")
    states[1]["model"]["norm.weight"][0] = float("nan")
    model = merged(states, merge.linear([0.1, 0.9]))["model"]
    assert torch.equal(
        model["norm.weight"].view(torch.int32), states[0]["model"]["norm.weight"].view(torch.int32)
    )


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_slerp_is_the_arc(share: float) -> None:
    states = [state_of(1), state_of(2)]
    done = merged(states, merge.slerp(share))["model"]["embed.weight"]
    a, b = (state["model"]["embed.weight"].double() for state in states)
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    arc = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
    torch.testing.assert_close(done, arc.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.0])
def test_slerp_goes_straight_where_there_is_no_arc(factor: float) -> None:
    one = {"model": {"w": torch.ones(100)}}
    other = {"model": {"w": torch.ones(100) * factor}}
    done = merged([one, other], merge.slerp(0.25))["model"]["w"]
    torch.testing.assert_close(done, torch.full((100,), 0.75 + 0.25 * factor))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_rarer_dtypes_are_averaged(dtype: torch.dtype) -> None:
    states = [{"model": {"w": torch.arange(n, n + 400).to(dtype)}} for n in (0, 100)]
    wide = torch.complex128 if dtype.is_complex else torch.float64
    done = merged(states, merge.linear([0.5, 0.5]))["model"]["w"]
    expected = sum(state["model"]["w"].to(wide) * 0.5 for state in states)
    assert torch.equal(done.to(wide), expected.to(dtype).to(wide))


def test_other_layouts_are_brought_together() -> None:
    one = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    other = torch.randn(2, 3, 4, 5)
    done = merged([{"model": {"w": one}}, {"model": {"w": other}}], merge.linear([0.5, 0.5]))
    assert done["model"]["w"].stride() == one.stride()
    assert torch.equal(done["model"]["w"], one / 2 + other / 2)


def test_large_tensors_go_by_stretches() -> None:
    size = (1 << 20) + 17
    states = [{"model": {"w": torch.randn(size)}, "rng": 1} for _ in range(2)]
    done = merged(states, merge.linear([0.5, 0.5]))["model"]["w"]
    assert torch.equal(done, by_hand(states, "w", [0.5, 0.5]))


def test_empty_and_scalar_tensors() -> None:
    states = [{"model": {"none": torch.empty(0, 3), "s": torch.tensor(float(n))}} for n in (1, 2)]
    done = merged(states, merge.linear([0.5, 0.5]))["model"]
    assert (done["none"].shape, done["s"].item()) == ((0, 3), 1.5)


def test_every_difference_is_listed() -> None:
    one = {"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(2), "d": torch.ones(2)}
    other = {"a": torch.ones(3), "b": torch.ones(2).half(), "c": torch.ones(2), "e": torch.ones(1)}
    with pytest.raises(MisfitError) as caught:
        merged([{"model": one}, {"model": other}], merge.linear([1, 1]))
    assert caught.value.missing == ("d",)
    assert caught.value.unexpected == ("e",)
    assert caught.value.mismatched == {
        "a": "float32 [2] in r0, float32 [3] in r1",
        "b": "float32 [2] in r0, float16 [2] in r1",
    }
    assert all(f"{name}" in str(caught.value) for name in "abde")


def test_models_tied_differently_do_not_fit() -> None:
    tied = torch.randn(100)
    one = {"a": tied, "b": tied}
    other = {"a": torch.randn(100), "b": torch.randn(100)}
    with pytest.raises(MisfitError, match="shares memory"):
        merged([{"model": one}, {"model": other}], merge.linear([1, 1]))


def test_memory_of_several_dtypes_is_refused_unless_equal() -> None:
    def state(value: float) -> dict[str, Any]:
        whole = torch.full((100,), value)
        return {"model": {"a": whole, "b": whole.view(torch.int32)}}

    with pytest.raises(MisfitError, match="cannot be averaged"):
        merged([state(1.0), state(2.0)], merge.linear([1, 1]))
    assert merged([state(1.0), state(1.0)], merge.linear([1, 1]))["model"]["a"][0] == 1


def test_a_state_without_a_model_is_refused() -> None:
    with pytest.raises(MisfitError, match="has no model"):
        merged([{"rng": 1}, {"rng": 2}], merge.linear([1, 1]))
