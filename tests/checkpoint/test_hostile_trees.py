"""Trees that no writer makes: refused, before anything large is allocated."""

from __future__ import annotations

from typing import Any

import pytest

from gradient.checkpoint.component_tensors import tensors_in
from gradient.checkpoint.reader import read_state
from gradient.errors import IntegrityError, MalformedObjectError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid

NONE = str(Oid(bytes(32)))
HUGE = 1 << 50


class Objects:
    """An object reader over a dict."""

    def __init__(self) -> None:
        self.bodies: dict[Oid, bytes] = {}

    def put(self, body: Json) -> Oid:
        return self.put_raw(Kind.TREE, canonical.dumps(body))

    def put_raw(self, kind: Kind, raw: bytes) -> Oid:
        oid = Oid.of(kind, raw)
        self.bodies[oid] = raw
        return oid

    def read(self, oid: Oid, kind: Kind) -> bytes:
        return self.bodies[oid]

    def read_blobs(self, jobs: list[tuple[Oid, memoryview]]) -> None:
        assert not jobs


def entry(oid: Oid) -> Json:
    return {"tree": str(oid)}


def read(objects: Objects, component: Oid) -> object:
    root = objects.put({"entries": {"model": entry(component)}})
    return read_state(objects, root)["model"]


def tensor(**fields: Any) -> Any:
    return {"entries": {"w": {"tensor": {"dtype": "float32", "shape": [2], **fields}}}}


WINDOW: dict[str, Any] = {"storage": 0, "offset": 0, "stride": [1]}


@pytest.mark.parametrize(
    "body",
    [
        tensor(),
        tensor(data="00"),
        tensor(data="zz" * 8),
        tensor(data="FF" * 8),
        tensor(data="00 00 00 00 00 00 00 00"),
        tensor(data="0000000000000000", nbytes=8),
        tensor(shape=[HUGE], nbytes=4 * HUGE, chunks=[NONE]),
        tensor(shape=[HUGE, HUGE, HUGE], nbytes=1, chunks=[NONE]),
        tensor(shape=[1000], nbytes=4000, chunks=[]),
        tensor(shape=[1000], nbytes=4000, chunks=[NONE, NONE]),
        tensor(shape=[1000], nbytes=4000, chunks="x"),
        tensor(shape=[1000], nbytes=4001, chunks=[NONE]),
        tensor(shape=[1000], nbytes=4000, chunks=[NONE], data=""),
        tensor(shape=[-1], data=""),
        tensor(dtype="float31", data="0000000000000000"),
        tensor(data="0000000000000000", stride=[0]),
        tensor(data="0000000000000000", colour="red"),
        tensor(data="0000000000000000", offset=0),
        tensor(**WINDOW),
        tensor(**WINDOW, data="0000000000000000"),
        {**tensor(**WINDOW), "storages": [{"dtype": "uint8", "shape": [4], "data": "00000000"}]},
        {
            **tensor(**{**WINDOW, "offset": -4}),
            "storages": [{"dtype": "uint8", "shape": [8], "data": "00" * 8}],
        },
        {
            **tensor(**{**WINDOW, "offset": 2}),
            "storages": [{"dtype": "uint8", "shape": [16], "data": "00" * 16}],
        },
        {
            **tensor(**{**WINDOW, "stride": [HUGE]}),
            "storages": [{"dtype": "uint8", "shape": [8], "data": "00" * 8}],
        },
        {
            **tensor(**{**WINDOW, "stride": [1, 1]}),
            "storages": [{"dtype": "uint8", "shape": [16], "data": "00" * 16}],
        },
        {
            **tensor(**{**WINDOW, "stride": []}),
            "storages": [{"dtype": "uint8", "shape": [16], "data": "00" * 16}],
        },
        {
            **tensor(**WINDOW, shape=[0]),
            "storages": [{"dtype": "uint8", "shape": [16], "data": "00" * 16}],
        },
        {**tensor(**WINDOW), "storages": [{"dtype": "uint8", "shape": [8], **WINDOW}]},
        {**tensor(**WINDOW), "storages": ["x"]},
        {"entries": {"w": {"ndarray": {"dtype": "<f4", "shape": [HUGE], "data": "00"}}}},
        {"entries": {"w": {"bytes": {"nbytes": HUGE, "chunks": [NONE]}}}},
        {"entries": {"w": {"bytes": {"nbytes": 3, "chunks": [NONE]}}}},
        {"entries": {"w": {"bytes": {"nbytes": -3, "data": "000000"}}}},
        {"entries": {"w": {"bytes": {"nbytes": 3, "data": "000000"}}}},
        {"entries": {"w": {"unknown": 1}}},
        {"entries": {"w": {"pickle": 1}}},
    ],
)
def test_a_malformed_component_is_refused(body: Any) -> None:
    objects = Objects()
    with pytest.raises(IntegrityError):
        read(objects, objects.put(body))


def test_two_spellings_of_one_name_are_refused() -> None:
    objects = Objects()
    below = objects.put({"entries": {"b": 1}})
    component = objects.put({"entries": {"a": entry(below), "a.b": 2}, "flat": True})
    with pytest.raises(MalformedObjectError, match=r"a\.b"):
        read(objects, component)


def test_a_module_without_names_is_refused() -> None:
    objects = Objects()
    below = objects.put({"value": 1})
    with pytest.raises(MalformedObjectError, match="no names"):
        read(objects, objects.put({"entries": {"a": entry(below)}, "flat": True}))


def test_storages_below_a_component_are_refused() -> None:
    objects = Objects()
    below = objects.put(
        {"entries": {}, "storages": [{"dtype": "uint8", "shape": [1], "data": "00"}]}
    )
    with pytest.raises(MalformedObjectError, match="storages"):
        read(objects, objects.put({"entries": {"a": entry(below)}}))


def test_trees_that_never_end_are_refused() -> None:
    objects = Objects()
    tree = objects.put({"entries": {}})
    for _ in range(2000):
        tree = objects.put({"entries": {"a": entry(tree)}})
    with pytest.raises(MalformedObjectError, match="deeper"):
        read(objects, tree)
    with pytest.raises(MalformedObjectError, match="deeper"):
        list(tensors_in(objects, entry(tree)))


def test_a_list_of_another_length_is_refused() -> None:
    objects = Objects()
    short = objects.put_raw(Kind.LIST, bytes(32 * 3))
    body = tensor(shape=[100 << 20], nbytes=400 << 20, list=str(short))
    with pytest.raises(MalformedObjectError, match="400 chunks"):
        read(objects, objects.put(body))
