"""Files that somebody made to do harm, or that a disk damaged: refused, with nothing run."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradient.errors import GradientError
from gradient.integrations.formats import find
from gradient.integrations.live import open_side

RAN: list[str] = []
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN or (event == "open" and "pwned" in str(arguments[0])):
        RAN.append(event)


sys.addaudithook(watch)


class Run:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def saved(value: Any) -> list[tuple[str, bytes]]:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return [(entry.filename, archive.read(entry)) for entry in archive.infolist()]


def archive(
    path: Path, entries: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in entries:
            out.writestr(name, content)


def with_pickle(path: Path, raw: bytes, value: Any = None) -> None:
    entries = saved({"w": torch.zeros(4)} if value is None else value)
    archive(path, [(n, raw if n.endswith("data.pkl") else c) for n, c in entries])


def run_code(path: Path) -> None:
    import os

    torch.save({"w": Run(os.system, "touch pwned")}, path)


def run_open(path: Path) -> None:
    torch.save({"w": Run(open, "pwned", "w")}, path)


def plain_pickle(path: Path) -> None:
    import os

    path.write_bytes(pickle.dumps({"w": Run(os.system, "touch pwned")}))


def legacy(path: Path) -> None:
    torch.save({"w": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)


def legacy_tar(path: Path) -> None:
    with tarfile.open(path, "w") as out:
        for name in ("storages", "tensors", "pickle"):
            raw = pickle.dumps(1)
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            out.addfile(info, io.BytesIO(raw))


def zip_bomb(path: Path) -> None:
    entries = saved({"w": torch.zeros(4)})
    archive(path, [*entries, ("archive/data/9", bytes(64 << 20))], zipfile.ZIP_DEFLATED)


def deflated(path: Path) -> None:
    archive(path, saved({"w": torch.zeros(400)}), zipfile.ZIP_DEFLATED)


def two_names(path: Path) -> None:
    entries = saved({"w": torch.zeros(4)})
    with pytest.warns(UserWarning, match="Duplicate"):
        archive(path, [*entries, entries[0]])


def wrong_sum(path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(bytes(400)) + 100] ^= 1
    path.write_bytes(raw)


def cut(path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])


def appended(path: Path) -> None:
    torch.save({"w": torch.zeros(10)}, path)
    path.write_bytes(path.read_bytes() + bytes(100_000))


def prefixed(path: Path) -> None:
    torch.save({"w": torch.zeros(10)}, path)
    path.write_bytes(bytes(100_000) + path.read_bytes())


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


def byte_bomb(path: Path) -> None:
    with_pickle(path, b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x7f\x85R.")


def byte_bomb_by_memo(path: Path) -> None:
    with_pickle(path, b"\x80\x02J\x00\x00\x00\x7fq\x000c__builtin__\nbytearray\nh\x00\x85R.")


def memo_bomb(path: Path) -> None:
    with_pickle(path, b"\x80\x02}r\xff\xff\xff\x7f.")


def array_bomb(path: Path) -> None:
    with_pickle(
        path,
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"J\x00\x00\x00\x7f\x85U\x01b\x87R.",
    )


def slow_codec(path: Path) -> None:
    with_pickle(
        path, pickle.dumps(Run(__import__("_codecs").encode, "a" * 100_000, "idna"), protocol=2)
    )


def extension(path: Path) -> None:
    with_pickle(path, b"\x80\x02\x82\x01.")


def deep(path: Path) -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    torch.save({"w": value}, path)


def laughs(path: Path) -> None:
    value: Any = [torch.zeros(1000)] * 10
    for _ in range(8):
        value = [value] * 10
    torch.save({"model": {"w": torch.zeros(2)}, "x": value, "y": [[torch.zeros(1000)] * 500]}, path)


def module(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), path)


def script(path: Path) -> None:
    archive(path, [("a/constants.pkl", b"\x80\x02)."), ("a/code/x.py", b"import os")])


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def no_state_dict(path: Path) -> None:
    torch.save([1, 2, 3], path)


TORCH: list[Callable[[Path], None]] = [
    run_code, run_open, plain_pickle, legacy, legacy_tar, zip_bomb, deflated, two_names, wrong_sum,
    cut, appended, prefixed, stride_bomb, storage_bomb, storage_lie, byte_bomb, byte_bomb_by_memo,
    memo_bomb, array_bomb, slow_codec, extension, deep, laughs, module, script, nothing,
    no_state_dict,
]  # fmt: skip


@pytest.mark.parametrize("make", TORCH, ids=lambda make: make.__name__)
def test_torch_files(make: Callable[[Path], None]) -> None:
    path = Path("hostile.pt")
    make(path)
    RAN.clear()
    with pytest.raises(GradientError):
        open_side(str(path))
    (found,) = find(str(path))
    with pytest.raises(GradientError):
        found.read().state["x"]
    assert not RAN
    assert not Path("pwned").exists()


def tensor_file(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: Any, shape: Any, *offsets: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [*offsets]}


SAFETENSORS: dict[str, bytes] = {
    "empty": b"",
    "length beyond the file": tensor_file({}, length=1 << 40),
    "no object": tensor_file([]),
    "no JSON": tensor_file(b"{oops"),
    "deep JSON": tensor_file(b'{"a":' + b"[" * 100_000),
    "huge number": tensor_file(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b"]}}"),
    "twice": tensor_file(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"x",
    ),
    "a gap": tensor_file({"a": entry("U8", [1], 1, 2)}, b"xx"),
    "an overlap": tensor_file({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"xxx"),
    "too short": tensor_file({"a": entry("F32", [4], 0, 16)}, b"xx"),
    "trailing": tensor_file({"a": entry("U8", [1], 0, 1)}, b"xyz"),
    "shape and offsets differ": tensor_file({"a": entry("F32", [4], 0, 4)}, b"xxxx"),
    "a negative size": tensor_file({"a": entry("U8", [-1], 0, 1)}, b"x"),
    "a bool for a size": tensor_file({"a": entry("U8", [True], 0, 1)}, b"x"),
    "an unknown dtype": tensor_file({"a": entry("X9", [1], 0, 1)}, b"x"),
    "a list for a dtype": tensor_file({"a": entry([], [1], 0, 1)}, b"x"),
    "metadata that is no text": tensor_file({"__metadata__": {"a": 1}}),
    "overflowing sizes": tensor_file({"a": entry("U8", [1 << 59] * 4, 0, 0)}),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_files(name: str) -> None:
    Path("hostile.safetensors").write_bytes(SAFETENSORS[name])
    with pytest.raises(GradientError):
        open_side("hostile.safetensors")


def test_a_name_is_never_a_path() -> None:
    raw = tensor_file({"../../etc/x": entry("U8", [1], 0, 1)}, b"x")
    Path("odd.safetensors").write_bytes(raw)
    assert list(find("odd.safetensors")[0].read().state["model"]) == ["../../etc/x"]


def index(path: Path, raw: bytes) -> None:
    path.mkdir()
    (path / ".metadata").write_bytes(raw)


def distributed_code() -> bytes:
    import os

    return pickle.dumps(Run(os.system, "touch pwned"))


INDEXES: dict[str, Callable[[], bytes]] = {
    "code": distributed_code,
    "torch code": lambda: pickle.dumps(Run(torch.hub.load, "a", "b")),
    "no index": lambda: pickle.dumps({"a": 1}),
    "no pickle": lambda: b"\x80\x04oops",
    "memo bomb": lambda: b"\x80\x02}r\xff\xff\xff\x7f.",
    "persistent": lambda: b"\x80\x02U\x01aQ.",
}


@pytest.mark.parametrize("name", INDEXES)
def test_indexes_of_distributed_checkpoints(name: str) -> None:
    index(Path("hostile"), INDEXES[name]())
    RAN.clear()
    with pytest.raises(GradientError):
        find("hostile")[0].read()
    assert not RAN
    assert not Path("pwned").exists()
