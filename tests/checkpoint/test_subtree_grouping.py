"""Which names share a subtree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gradient.checkpoint.subtree_grouping import group

NAMES = st.lists(st.text(alphabet="ab.", max_size=6), unique=True, max_size=8)


def test_a_module_is_one_group() -> None:
    assert group({"wte.weight": 1, "h.0.w": 2, "h.1.w": 3, "scale": 4}) == {
        "wte": {"weight": 1},
        "h": {"0.w": 2, "1.w": 3},
        "scale": 4,
    }


def test_without_modules_there_is_nothing_to_group() -> None:
    assert group({"weight": 1, "bias": 2}) is None


def test_a_name_beside_its_own_module_is_not_grouped() -> None:
    assert group({"a": 1, "a.b": 2}) is None
    assert group({"a.b": 2, "a": 1}) is None


def test_modules_that_interleave_are_not_grouped() -> None:
    assert group({"a.x": 1, "b.x": 2, "a.y": 3}) is None


@given(NAMES)
def test_what_is_grouped_joins_to_the_same_names_in_the_same_order(names: list[str]) -> None:
    grouped = group({name: number for number, name in enumerate(names)})
    if grouped is None:
        return
    joined = {}
    for head, item in grouped.items():
        if isinstance(item, dict):
            joined.update({f"{head}.{rest}": number for rest, number in item.items()})
        else:
            joined[head] = item
    assert list(joined.items()) == [(name, number) for number, name in enumerate(names)]
