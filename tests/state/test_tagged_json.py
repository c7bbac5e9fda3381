from __future__ import annotations

import datetime
import enum
import json
import math
import pathlib
import random
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradient.errors import MalformedObjectError, UnsupportedValueError
from gradient.objects import canonical
from gradient.state.decoder import _DECODERS
from gradient.state.tagged_json import Pickled, decode, encode
from gradient.state.value_format import FACTORIES, VALUE_DTYPES
from tests import strategies
from tests.state.value_roundtrip import Shelf, same, through

NAN = struct.unpack(">d", bytes.fromhex("7ff8000000abcdef"))[0]

GOLDEN: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (7, "7"),
    (2**53, '{"int":"0x20000000000000"}'),
    (-(2**64), '{"int":"-0x10000000000000000"}'),
    (0.1, "0.1"),
    (-0.0, "-0.0"),
    (1e22, "1e+22"),
    (math.inf, '{"float":"7ff0000000000000"}'),
    (NAN, '{"float":"7ff8000000abcdef"}'),
    ("é", '"é"'),
    ("\udc80", '{"str":"edb280"}'),
    (1 + 2j, '{"complex":[1.0,2.0]}'),
    (b"\x00\xff", '{"bytes":"00ff"}'),
    (bytearray(b"a"), '{"bytearray":"61"}'),
    (Pickled(b"N."), '{"pickle":"4e2e"}'),
    ([1, [2]], "[1,[2]]"),
    ((0.9, 0.999), '{"tuple":[0.9,0.999]}'),
    ({"b": 1, 0: None}, '{"dict":[["b",1],[0,null]]}'),
    (OrderedDict(a=1), '{"OrderedDict":[["a",1]]}'),
    (Counter([30, 80, 80]), '{"Counter":[[30,1],[80,2]]}'),
    (defaultdict(int, a=1), '{"defaultdict":{"factory":"int","items":[["a",1]]}}'),
    (defaultdict(None), '{"defaultdict":{"factory":null,"items":[]}}'),
    (deque([1], 3), '{"deque":{"items":[1],"maxlen":3}}'),
    ({10, 9, "a"}, '{"set":["a",10,9]}'),
    (frozenset({(1, 2)}), '{"frozenset":[{"tuple":[1,2]}]}'),
    (torch.Size([2, 3]), '{"size":[2,3]}'),
    (torch.bfloat16, '{"dtype":"bfloat16"}'),
    (torch.device("cuda:0"), '{"device":"cuda:0"}'),
    (np.float32(1), '{"numpy":["<f4","0000803f"]}'),
    (
        np.array([[1, 2], [3, 4]], ">i2"),
        '{"ndarray":{"data":"0001000200030004","dtype":">i2","shape":[2,2]}}',
    ),
    (
        np.asfortranarray(np.array([[1, 2], [3, 4]], "u1")),
        '{"ndarray":{"data":"01030204","dtype":"|u1","order":"F","shape":[2,2]}}',
    ),
    (bytes(513), '{"bytes":0}'),
    (torch.zeros(2), '{"tensor":{"data":0,"spec":{"dtype":"float32","shape":[2]}}}'),
]


@pytest.mark.parametrize(("value", "text"), GOLDEN, ids=[text[:30] for _, text in GOLDEN])
def test_golden(value: Any, text: str) -> None:
    shelf = Shelf()
    assert canonical.dumps(encode(value, writer=shelf, path="x")).decode() == text
    assert same(decode(canonical.loads(text.encode()), reader=shelf), value)


def test_golden_covers_every_tag() -> None:
    nodes = [json.loads(text) for _, text in GOLDEN]
    assert {tag for node in nodes if isinstance(node, dict) for tag in node} == set(_DECODERS)


@given(strategies.values())
def test_round_trip(value: Any) -> None:
    assert same(through(value), value)


@given(strategies.values())
def test_encoding_is_canonical(value: Any) -> None:
    shelf = Shelf()
    node = encode(value, writer=shelf, path="x")
    again = Shelf()
    assert canonical.dumps(encode(decode(node, reader=shelf), writer=again, path="x")) == (
        canonical.dumps(node)
    )
    assert again.items == shelf.items


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_default_factories(name: str) -> None:
    back = through(defaultdict(FACTORIES[name]))
    assert back.default_factory is FACTORIES[name]


@pytest.mark.parametrize("dtype", VALUE_DTYPES.values(), ids=str)
def test_dtypes(dtype: torch.dtype) -> None:
    assert through(dtype) is dtype


def test_every_dtype_of_torch_has_a_name() -> None:
    known = {thing for thing in vars(torch).values() if isinstance(thing, torch.dtype)}
    assert known == set(VALUE_DTYPES.values())


@pytest.mark.parametrize(
    "state",
    [
        np.random.Generator(np.random.PCG64(3)).bit_generator.state,
        np.random.Generator(np.random.SFC64(3)).bit_generator.state,
        np.random.Generator(np.random.Philox(3)).bit_generator.state,
        np.random.RandomState(3).get_state(legacy=False),
        np.random.RandomState(3).get_state(),
        random.Random(3).getstate(),
        torch.Generator().manual_seed(3).get_state(),
    ],
    ids=["PCG64", "SFC64", "Philox", "MT19937", "legacy", "python", "torch"],
)
def test_generator_states(state: Any) -> None:
    assert same(through(state), state)


def test_bulk_goes_to_put_with_its_width() -> None:
    shelf = Shelf()
    encode([b"x" * 513, np.zeros(100, "f8"), b"y" * 512], writer=shelf, path="x")
    assert shelf.widths == [1, 8]


def test_an_array_is_writable_and_alone() -> None:
    array = np.arange(3)
    back = through(array)
    back[0] = 9
    assert array[0] == 0


class Colour(enum.IntEnum):
    RED = 1


class Words(dict):
    pass


Point = namedtuple("Point", "x")

REFUSED: list[tuple[Any, str]] = [
    (object(), "object"),
    (Colour.RED, "its value"),
    (Words(), "Words"),
    (Point(1), "Point"),
    (datetime.datetime(2026, 1, 1), "isoformat"),
    (pathlib.Path("a"), r"str\(\)"),
    (lambda: 1, "function"),
    (torch.Generator(), "get_state"),
    (random.Random(1), "getstate"),
    (np.random.default_rng(1), "bit_generator.state"),
    (torch.nn.Linear(1, 1), "state_dict"),
    (np.array([object()]), "object"),
    (np.zeros(1, [("a", "f4")]), "dtype"),
    (np.float64(1).astype(np.longdouble), "dtype"),
    (np.ma.masked_array([1]), "MaskedArray"),
    (defaultdict(lambda: 1), "factory"),
    ({torch.zeros(1): 1}, "key of type torch.Tensor"),
    ({(1, (datetime.date(2026, 1, 1),)): 1}, "isoformat"),
    (1 << 5000, "integer of 5001 bits"),
    (range(3), "range"),
]


@pytest.mark.parametrize(
    ("value", "hint"), REFUSED, ids=[f"{n}-{hint}" for n, (_, hint) in enumerate(REFUSED)]
)
def test_refused_values_are_named_with_both_remedies(value: Any, hint: str) -> None:
    with pytest.raises(UnsupportedValueError, match=hint) as caught:
        encode({"a": [0, value]}, writer=Shelf(), path="env")
    assert caught.value.path.startswith("env.a[1]")
    assert "plain data from the getter" in str(caught.value)
    assert "pickle=True" in str(caught.value)


def test_cycles_and_depth_are_refused() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    with pytest.raises(UnsupportedValueError, match=r"env\[1\].again: a container that contains"):
        encode(cycle, writer=Shelf(), path="env")
    deep: Any = 0
    for _ in range(200):
        deep = [deep]
    with pytest.raises(UnsupportedValueError, match="nested deeper"):
        encode(deep, writer=Shelf(), path="env")


def test_the_deepest_value_still_fits_into_an_object() -> None:
    deep: Any = np.float32(1)
    for _ in range(90):
        deep = [deep]
    canonical.dumps({"entries": {"name": encode(deep, writer=Shelf(), path="env")}})


def test_the_same_list_twice_is_no_cycle() -> None:
    item = [1]
    assert through([item, item]) == [[1], [1]]


MALFORMED = """
{} {"a":1,"b":2} {"nothing":1} {"tree":"00"} {"int":"0x1"} {"float":"3ff0000000000000"} {"str":"61"}
{"str":1} {"str":"ff"} {"complex":[1,2]} {"complex":[1.0]} {"bytes":"0"} {"bytes":"AB"} {"bytes":0}
{"tuple":{}} {"tuple":1} {"dict":[[1]]} {"dict":[1]} {"dict":{}} {"dict":[[1,1],[1,2]]}
{"dict":[[1,1],[true,2]]} {"dict":[[[1],1]]} {"dict":[[{"dict":[]},1]]} {"Counter":1}
{"defaultdict":{"factory":"eval","items":[]}} {"defaultdict":{"factory":["int"],"items":[]}}
{"defaultdict":{"items":[]}} {"defaultdict":[]} {"deque":{"items":[1,2],"maxlen":1}}
{"deque":{"items":[],"maxlen":true}} {"set":[2,1]} {"set":[1,1]} {"set":[[1]]} {"set":1}
{"frozenset":[1,true]} {"size":[1.5]} {"size":3} {"dtype":"dtype"} {"dtype":1} {"device":"os"}
{"device":["cpu"]} {"device":null} {"numpy":["O","00"]} {"numpy":["<f4","00"]} {"numpy":["<f4"]}
{"numpy":["f4","00000000"]} {"ndarray":{}} {"ndarray":{"dtype":"<f4","shape":[1],"data":"00"}}
{"ndarray":{"dtype":"<f4","shape":[-1],"data":"00000000"}}
{"ndarray":{"dtype":"<f4","shape":[1],"data":"00000000","order":"F"}}
{"ndarray":{"dtype":"<f4","shape":[1],"data":"00000000","x":1}}
{"ndarray":{"dtype":"<f4","shape":[4611686018427387904,4611686018427387904],"data":""}}
{"ndarray":{"dtype":"<f4,<f4","shape":[0],"data":""}}
"""


@pytest.mark.parametrize("text", MALFORMED.split())
def test_malformed(text: str) -> None:
    shelf = Shelf()
    shelf.items.append(b"short")
    with pytest.raises(MalformedObjectError):
        decode(json.loads(text), reader=shelf)


TAGS = st.sampled_from([*_DECODERS, "x"]).filter(lambda tag: tag != "tensor")

NODES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text("0af<", max_size=4)
    ),
    lambda nodes: st.one_of(
        st.lists(nodes, max_size=3),
        st.dictionaries(TAGS, nodes, min_size=1, max_size=1),
        st.fixed_dictionaries({"factory": nodes, "items": nodes}),
        st.fixed_dictionaries(
            {"dtype": st.sampled_from(["<f4", "|b1"]), "shape": nodes, "data": nodes}
        ),
    ),
    max_leaves=8,
)


class Empty:
    """A `ContentReader` that has nothing."""

    def tensor(self, node: Any) -> torch.Tensor:
        raise MalformedObjectError("no tensor")

    def data(self, node: Any) -> bytes:
        raise MalformedObjectError("no data")


@given(NODES)
def test_whatever_is_read_decodes_or_is_malformed(node: Any) -> None:
    try:
        value = decode(node, reader=Empty())
    except MalformedObjectError:
        return
    if not any(isinstance(x, float) and not math.isfinite(x) for x in _leaves(node)):
        assert canonical.dumps(encode(value, writer=Shelf(), path="x")) == canonical.dumps(node)


def _leaves(node: Any) -> list[Any]:
    if isinstance(node, (list, dict)):
        items = node if isinstance(node, list) else list(node.values())
        return [leaf for item in items for leaf in _leaves(item)]
    return [node]


def test_a_pickle_stays_bytes_until_asked() -> None:
    back = through(Pickled.of(datetime.date(2026, 2, 10)))
    assert type(back) is Pickled
    assert back.load() == datetime.date(2026, 2, 10)
