"""Arrays of every element type, large enough to be cut into chunks, come back from the store."""

from __future__ import annotations

import numpy as np
import pytest

from gradient.checkpoint import reader, writer
from gradient.codec.elements import WIDTHS
from gradient.codec.mode import Mode
from gradient.state import numpy_arrays
from gradient.storage.memory import MemoryStorage
from gradient.store.object_store import ObjectStore
from tests.strategies import NUMPY_DTYPES


@pytest.mark.parametrize("name", [*NUMPY_DTYPES.split(), "<U1", "|S3", "<m8"])
def test_a_large_array_comes_back_bit_for_bit(name: str) -> None:
    dtype = np.dtype(name)
    content = bytes(range(2)) * (300 * dtype.itemsize)
    if dtype.kind == "U":
        content = "ab".encode("utf-32-le") * (75 * dtype.itemsize)
    array = np.frombuffer(content, dtype)
    assert numpy_arrays.width(dtype) in WIDTHS
    store = ObjectStore(MemoryStorage(), workers=1)
    with store.begin(mode=Mode.AUTO) as transaction:
        root = writer.write_state(transaction, {"env": [array]})
        transaction.seal()
    (back,) = reader.read_state(store, root)["env"]
    assert back.dtype == array.dtype
    assert back.tobytes() == content
