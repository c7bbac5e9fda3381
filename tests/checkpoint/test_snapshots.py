"""Memory of a draft's own: reused, bounded, and none for what did not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradient.checkpoint import snapshots, writer
from gradient.checkpoint.draft import draft
from gradient.checkpoint.reader import read_state
from gradient.checkpoint.snapshots import PAUSE, Snapshot, Snapshots
from gradient.codec.mode import Mode
from gradient.objects.oid import Oid
from gradient.storage.memory import MemoryStorage
from gradient.store.object_store import ObjectStore
from tests.state.value_roundtrip import same

STORE = pytest.fixture(lambda: ObjectStore(MemoryStorage(), workers=2), name="store")


def write(store: ObjectStore, taken: Snapshot) -> Oid:
    with store.begin(mode=Mode.AUTO) as transaction:
        root = writer.write_draft(transaction, taken.draft)
        transaction.seal()
    return root


def commit(store: ObjectStore, source: Snapshots, state: dict[str, Any]) -> tuple[Oid, int]:
    """Take, write and give back a snapshot; return its tree and the bytes it had."""
    taken = source.take(draft(state))
    root = write(store, taken)
    source.remember_stored(taken)
    held = 0 if taken.buffer is None else taken.buffer.nbytes
    source.release(taken)
    return root, held


def every_kind() -> dict[str, Any]:
    base = torch.randn(3 << 18)
    return {
        "model": {
            "large": base,
            "window": base[5:1000],
            "strided": torch.randn(50, 60)[:, ::3],
            "turned": torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),
            "expanded": torch.randn(200, 1).expand(200, 4),
            "conjugate": torch.randn(100, dtype=torch.complex64).conj(),
            "low": torch.randn(333).bfloat16(),
            "shared": torch.randn(100).share_memory_(),
            "empty": torch.empty(0, 3),
            "small": torch.tensor(1.0),
        },
        "extra": {
            "array": np.arange(500.0).reshape(20, 25),
            "turned": np.asfortranarray(np.arange(500.0).reshape(20, 25)),
            "text": b"x" * 1000,
            "bytes": bytearray(b"y" * 1000),
        },
    }


def test_a_snapshot_is_written_as_the_live_state_is(store: ObjectStore) -> None:
    state = every_kind()
    with store.begin(mode=Mode.AUTO) as transaction:
        expected = writer.write_state(transaction, state)
    assert commit(store, Snapshots(store), state)[0] == expected


def test_what_changes_later_does_not_reach_it(store: ObjectStore) -> None:
    torch.manual_seed(1)
    state = every_kind()
    taken = Snapshots(store).take(draft(state))
    for tensor in state["model"].values():
        if tensor.numel() and tensor is not state["model"]["expanded"]:
            tensor.add_(1)
    state["extra"]["array"] += 1
    state["extra"]["turned"] += 1
    state["extra"]["bytes"][:] = b"z" * 1000
    torch.manual_seed(1)
    before = every_kind()
    found = read_state(store, write(store, taken))
    before["model"]["conjugate"] = before["model"]["conjugate"].resolve_conj()
    assert all(same(found["extra"][k], v) for k, v in before["extra"].items())
    for name, tensor in before["model"].items():
        assert torch.equal(found["model"][name], tensor), name


def test_what_did_not_change_is_not_copied(store: ObjectStore) -> None:
    base, head = torch.randn(5 << 18), torch.randn(1000)
    state = {"model": {"base": base, "head": head}}
    source = Snapshots(store)
    first, whole = commit(store, source, state)
    assert whole >= base.nbytes + head.nbytes
    assert commit(store, source, state) == (first, 0)
    head.add_(1)
    source._free.clear()
    second, held = commit(store, source, state)
    assert head.nbytes <= held < 2 * head.nbytes
    assert torch.equal(read_state(store, second)["model"]["base"], base)


def test_one_changed_bit_anywhere_is_found(store: ObjectStore) -> None:
    base = torch.randn(5 << 18)
    source = Snapshots(store)
    roots = {commit(store, source, {"model": {"base": base}})[0]}
    for number, place in enumerate((777, 600_000, base.numel() - 500)):
        base.view(torch.int32)[place] ^= 1
        roots.add(commit(store, source, {"model": {"base": base}})[0])
        assert len(roots) == number + 2


@pytest.mark.parametrize("restored", [False, True])
def test_what_became_shorter_is_not_taken_for_what_it_was(
    store: ObjectStore, restored: bool
) -> None:
    long = {
        "zeros": torch.zeros(3 << 18),
        "array": np.zeros(3 << 20, np.uint8),
        "text": bytes(3 << 20),
    }
    source = Snapshots(store)
    root, _ = commit(store, source, {"extra": long})
    if restored:  # nothing is known of the content but its hashes
        source = Snapshots(store)
        source.restored_to(root)
    for share in (2, 3, 1, 0, 3):
        state: dict[str, Any] = {n: value[: len(value) * share // 3] for n, value in long.items()}
        root, _ = commit(store, source, {"extra": state})
        assert same(read_state(store, root), {"extra": state})


def test_hashing_in_vain_is_not_repeated_for_a_while(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    name_blobs = ObjectStore.name_blobs

    def counted(self: ObjectStore, chunks: Any) -> Any:
        hashed.append(1)
        return name_blobs(self, chunks)

    monkeypatch.setattr(ObjectStore, "name_blobs", counted)
    base = torch.randn(5 << 18)
    source = Snapshots(store)
    for number in range(PAUSE + 3):
        base[777] += number
        commit(store, source, {"model": {"base": base}})
    assert len(hashed) == 2
    base[0] += 1  # one of the sampled bytes: nothing is hashed to see that it changed
    source._pauses.clear()
    commit(store, source, {"model": {"base": base}})
    assert len(hashed) == 2


def test_buffers_are_reused_unless_far_too_large(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "_MAX_EXCESS", 0)
    source = Snapshots(store)
    places = set()
    for size in (10_000, 9_000, 10_000, 5_500):
        commit(store, source, {"model": {"w": torch.randn(size)}})
        (free,) = source._free
        places.add(free.data_ptr())
    assert len(places) == 1
    for size in (1_000, 20_000):
        commit(store, source, {"model": {"w": torch.randn(size)}})
        (free,) = source._free
        assert size * 4 <= free.nbytes < size * 4 + 64


def test_after_a_failure_everything_is_copied(store: ObjectStore) -> None:
    state = {"model": {"w": torch.randn(1000)}}
    source = Snapshots(store)
    commit(store, source, state)
    source.forget_stored()
    assert commit(store, source, state)[1] >= 4000


def test_a_restored_tree_counts_as_the_last_commit(store: ObjectStore) -> None:
    state = {"model": {"w": torch.randn(1000)}}
    root, _ = commit(store, Snapshots(store), state)
    source = Snapshots(store)
    source.restored_to(root)
    assert commit(store, source, state) == (root, 0)
    source.restored_to(Oid(bytes(32)))
    assert commit(store, source, state)[1] >= 4000


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_device_memory_is_copied_into_pinned_memory(store: ObjectStore) -> None:
    state = {"model": {"w": torch.randn(5 << 18).cuda(), "v": torch.randn(400).cuda()[::2]}}
    expected = {name: tensor.cpu() for name, tensor in state["model"].items()}
    source = Snapshots(store)
    taken = source.take(draft(state))
    assert taken.buffer is not None
    assert taken.buffer.is_pinned()
    state["model"]["w"].add_(1)
    found = read_state(store, write(store, taken))["model"]
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
