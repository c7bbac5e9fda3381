"""Tensors that claim what is not there."""

from __future__ import annotations

import collections
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.integrations.hostile.making import Run, archive, saved, with_pickle


def stride_bomb(path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, path)


def storage_bomb(path: Path) -> None:
    """A tensor larger than its storage, which torch would make room for."""
    (name, raw), *rest = saved({"w": torch.zeros(7)})
    assert name.endswith("data.pkl")
    grown = raw.replace(b"K\x07\x85", b"J\x00\x00\x00\x7f\x85")
    assert grown != raw
    archive(path, [(name, grown), *rest])


def storage_lie(path: Path) -> None:
    """A storage that says it is longer than its entry."""
    entries = saved({"w": torch.zeros(7)})
    archive(path, [(n, c[:8] if "/data/" in n else c) for n, c in entries])


def laughs(path: Path) -> None:
    value: Any = [torch.zeros(1000)] * 10
    for _ in range(8):
        value = [value] * 10
    torch.save({"model": {"w": torch.zeros(2)}, "x": value, "y": [[torch.zeros(1000)] * 500]}, path)


def alias_bomb(path: Path) -> None:
    """One storage under so many names that they come to many times the file."""
    whole = torch.zeros(10_000)
    torch.save({f"w{number}": whole[number:] for number in range(200)}, path)


class _Saver(pickle.Pickler):
    """Writes a reference to a storage for `STORAGE`."""

    reference: tuple[Any, ...] = ()

    def persistent_id(self, value: Any) -> Any:
        return self.reference if value is STORAGE else None


STORAGE = object()


def rebuilt(
    offset: Any,
    shape: Any,
    stride: Any,
    *,
    kind: Any = torch.FloatStorage,
    key: Any = "0",
    count: Any = 4,
    function: Any = torch._utils._rebuild_tensor_v2,
) -> bytes:
    """Pickle a state of one tensor that says this of itself."""
    out = io.BytesIO()
    saver = _Saver(out, protocol=2)
    saver.reference = ("storage", kind, key, "cpu", count)
    tensor = Run(function, STORAGE, offset, shape, stride, False, collections.OrderedDict())
    saver.dump({"w": tensor})
    return out.getvalue()


def claims(*what: Any, **more: Any) -> Callable[[Path], None]:
    return lambda path: with_pickle(path, rebuilt(*what, **more))


CLAIMS: dict[str, Callable[[Path], None]] = {
    "a negative stride": claims(3, (4,), (-1,)),
    "a negative offset": claims(-1, (4,), (1,)),
    "an offset beyond": claims(1, (4,), (1,)),
    "a size that overflows": claims(0, (1 << 62, 4), (0, 1)),
    "a negative size": claims(0, (-4,), (1,)),
    "a truth for a size": claims(0, (True,), (1,)),
    "65 dimensions": claims(0, (1,) * 65, (1,) * 65),
    "fewer strides than sizes": claims(0, (2, 2), (1,)),
    "a storage outside": claims(0, (4,), (1,), key="../../../../etc/passwd"),
    "a storage that is not there": claims(0, (4,), (1,), key="7"),
    "a storage by a number": claims(0, (4,), (1,), key=0),
    "a negative storage": claims(0, (4,), (1,), count=-4),
    "a storage of another kind": claims(0, (4,), (1,), kind=torch.DoubleStorage),
    "a storage of no kind": claims(0, (4,), (1,), kind=print),
    "quantised": claims(0, (4,), (1,), function=torch._utils._rebuild_qtensor),
    "nested": claims(0, (4,), (1,), function=torch._utils._rebuild_nested_tensor),
}


MAKERS = (stride_bomb, storage_bomb, storage_lie, laughs, alias_bomb)
