"""Files that somebody made to do harm, or that a disk damaged: refused, with nothing run."""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gradient.errors import GradientError
from gradient.integrations.file_tensors import open_side
from gradient.integrations.formats import find
from tests.fork_server import ForkServer
from tests.integrations.hostile import files as hostile
from tests.integrations.hostile.making import Run

RAN: list[str] = []
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in FORBIDDEN or (event == "open" and "pwned" in str(arguments[0])):
        RAN.append(event)


sys.addaudithook(watch)


def refused(path: Path) -> None:
    """Read a file in each way that there is: all refuse it, and nothing of it runs."""
    RAN.clear()
    with pytest.raises(GradientError):
        open_side(str(path))
    (found,) = find(str(path))
    with pytest.raises(GradientError):
        found.read().state["x"]
    assert not RAN
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", hostile.FILES)
def test_torch_files(name: str) -> None:
    path = Path("hostile.pt")
    hostile.FILES[name](path)
    refused(path)


def test_there_are_enough_and_each_is_another(tmp_path: Path) -> None:
    found = set()
    for number, make in enumerate(hostile.FILES.values()):
        path = tmp_path / f"{number}.pt"
        make(path)
        found.add(path.read_bytes())
    assert len(found) == len(hostile.FILES) >= 40


def test_no_fallback_to_running_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    load = torch.load

    def watched(*arguments: Any, **options: Any) -> Any:
        asked.append(options.get("weights_only"))
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", watched)
    for make in hostile.FILES.values():
        make(Path("hostile.pt"))
        refused(Path("hostile.pt"))
    assert asked
    assert set(asked) == {True}


def _peaks(folder: Path) -> None:
    """Write how much memory it takes to refuse each file, each in a process of its own."""
    torch.save({"w": torch.zeros(4)}, "good.pt")
    open_side("good.pt")
    for path in sorted(folder.glob("*.pt")):
        pid = os.fork()
        if not pid:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            refused(path)
            taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            path.with_suffix(".peak").write_text(str(taken << 10))
            os._exit(0)
        os.waitpid(pid, 0)


def test_memory_is_bounded_by_the_file(fork_server: ForkServer, tmp_path: Path) -> None:
    for number, make in enumerate(hostile.FILES.values()):
        make(tmp_path / f"{number}.pt")
    fork_server.run(_peaks, tmp_path)
    for number, name in enumerate(hostile.FILES):
        path = tmp_path / f"{number}.pt"
        taken = int(path.with_suffix(".peak").read_text())
        assert taken <= 2 * path.stat().st_size + (64 << 20), name


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
