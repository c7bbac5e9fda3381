from __future__ import annotations

import pickle
import random
import zipfile
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradient.errors import IntegrityError, MalformedObjectError, UnsupportedValueError
from gradient.integrations import untrusted_pickle


def saved(value: Any, path: Path) -> str:
    torch.save(value, path)
    return str(path)


def test_what_states_consist_of(tmp_path: Path) -> None:
    value = {
        "tensor": torch.arange(6).reshape(2, 3),
        "array": np.arange(4, dtype=np.float16),
        "scalar": np.float64(0.1),
        "counter": Counter({3: 1}),
        "ordered": OrderedDict(a=1),
        "python": random.getstate(),
        "big": 1 << 127,
        "bytes": b"abc",
        "complex": 1j,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "dtype": torch.bfloat16,
    }
    found = untrusted_pickle.load(saved(value, tmp_path / "a.pt"))
    assert found.keys() == value.keys()
    assert torch.equal(found["tensor"], value["tensor"])
    assert np.array_equal(found["array"], value["array"])
    assert found["python"] == value["python"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1",)


def test_code_is_named_and_not_run(tmp_path: Path) -> None:
    path = saved({"state": Evil(), "path": tmp_path}, tmp_path / "a.pt")
    with pytest.raises(UnsupportedValueError, match=r"__builtin__\.eval|builtins\.eval"):
        untrusted_pickle.load(path)


def test_what_torch_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedValueError, match=r"collections\.deque"):
        untrusted_pickle.load(saved(deque([1, 2]), tmp_path / "a.pt"))


def test_torch_s_own_functions_are_torch_s_to_judge(tmp_path: Path) -> None:
    class Sneaky:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch.hub.load, ("x", "y")

    with pytest.raises(IntegrityError, match="cannot be read"):
        untrusted_pickle.load(saved(Sneaky(), tmp_path / "a.pt"))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04 cut", pickle.dumps({"a": 1})], ids=repr
)
def test_what_torch_did_not_write(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="not a file that"):
        untrusted_pickle.load(str(path))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="missing"):
        untrusted_pickle.load(str(tmp_path / "a.pt"))


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    saved({"w": torch.zeros(1000)}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(bytes(400)) + 100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(IntegrityError, match="checksum"):
        untrusted_pickle.load(str(path))


def test_compressed_and_doubled_entries(tmp_path: Path) -> None:
    whole = tmp_path / "a.pt"
    saved({"w": torch.zeros(1000)}, whole)
    with zipfile.ZipFile(whole) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    squeezed = tmp_path / "b.pt"
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    with pytest.raises(IntegrityError, match="compressed"):
        untrusted_pickle.load(str(squeezed))
    doubled = tmp_path / "c.pt"
    with zipfile.ZipFile(doubled, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(*entries[0])
    with pytest.raises(IntegrityError, match="two entries"):
        untrusted_pickle.load(str(doubled))


def test_bytes_that_no_entry_has(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    saved({"w": torch.zeros(10)}, path)
    path.write_bytes(bytes(1 << 20) + path.read_bytes())
    with pytest.raises(IntegrityError, match="begin with its first entry"):
        untrusted_pickle.load(str(path))
    saved({"w": torch.zeros(10)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = bytes(60000)
    with pytest.raises(IntegrityError, match="longer or shorter"):
        untrusted_pickle.load(str(path))


def test_a_small_file_that_claims_much_memory(tmp_path: Path) -> None:
    path = saved({"w": torch.zeros(1).expand(1 << 30)}, tmp_path / "a.pt")
    with pytest.raises(IntegrityError, match="claims more memory"):
        untrusted_pickle.load(path)


def test_deep_nesting(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(200):
        value = [value]
    with pytest.raises(MalformedObjectError, match="nested deeper"):
        untrusted_pickle.load(saved(value, tmp_path / "a.pt"))


def test_arrays_of_objects(tmp_path: Path) -> None:
    path = saved({"a": np.array([1, "x"], dtype=object)}, tmp_path / "a.pt")
    with pytest.raises((MalformedObjectError, IntegrityError)):
        untrusted_pickle.load(path)
