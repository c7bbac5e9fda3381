"""Damaged chunks that the next commit would reuse: they are written again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from gradient.objects.oid import Kind, Oid
from gradient.repo.repository import Repository
from tests.storage.faults import counted
from tools.campaigns import synthetic_repo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUMBERS = [3, 11, 19, 27]


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


WHOLE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a byte less": lambda content: content[:-1],
    "a byte more": lambda content: content + b"x",
    "zeros": lambda content: bytes(len(content)),
    "no end": lambda content: content[:-8] + bytes(8),
}
"""Damage that header or trailer of a pack reveal: its objects are written again."""


def plant(folder: Path, change: Callable[[bytes], bytes]) -> Repository:
    """Damage the pack that has the chunks of the next commit, and make that commit."""
    repo = synthetic_repo.make(folder / "run")
    synthetic_repo.commit(synthetic_repo.go_on(repo, "main"), 1, *NUMBERS)
    (path,) = (folder / "run").glob(".gradient-repo/objects/pack/*.pack")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(change(content))
    synthetic_repo.commit(
        synthetic_repo.go_on(Repository.open(repo.path, workers=1), "side"), 1, *NUMBERS
    )
    synthetic_repo.delete(Repository.open(repo.path, workers=1), "main")
    return Repository.open(repo.path, workers=1)


@pytest.mark.parametrize("damage", WHOLE)
def test_a_damaged_pack_is_not_relied_on(damage: str, tmp_path: Path) -> None:
    repo = plant(tmp_path, WHOLE[damage])
    assert synthetic_repo.read_everything(repo.path) == {"side": [1]}


def test_a_flipped_bit_is_not_relied_on(tmp_path: Path) -> None:
    for at in range(0, 4 * synthetic_repo.BYTES + 900, 211):
        repo = plant(tmp_path, lambda content, at=at: flip(content, at))
        assert synthetic_repo.read_everything(repo.path) == {"side": [1]}, at
        shutil.rmtree(repo.path)


@pytest.mark.parametrize("number", range(len(NUMBERS)))
@pytest.mark.parametrize("content", [bytes(synthetic_repo.BYTES), synthetic_repo.content(4)])
def test_another_chunk_in_its_place_is_not_relied_on(
    content: bytes, number: int, tmp_path: Path
) -> None:
    chunk = synthetic_repo.content(NUMBERS[number])

    def change(pack: bytes) -> bytes:
        assert chunk in pack
        return pack.replace(chunk, content)

    repo = plant(tmp_path, change)
    assert synthetic_repo.read_everything(repo.path) == {"side": [1]}


def test_a_proved_object_is_not_read_again(tmp_path: Path) -> None:
    repo = synthetic_repo.make(tmp_path / "run")
    synthetic_repo.commit(synthetic_repo.go_on(repo, "main"), 1, *NUMBERS)
    other = Repository.open(repo.path, workers=1)
    with counted() as first:
        synthetic_repo.commit(synthetic_repo.go_on(other, "main"), 2, *NUMBERS)
    with counted() as second:
        synthetic_repo.commit(synthetic_repo.go_on(other, "main"), 3, *NUMBERS)
    assert first["read"] >= second["read"] + len(NUMBERS)
    restored = Repository.open(repo.path, workers=1)
    for number in NUMBERS:
        restored.store.read(Oid.of(Kind.BLOB, synthetic_repo.content(number)), Kind.BLOB)
    with counted() as third:
        synthetic_repo.commit(synthetic_repo.go_on(restored, "main"), 4, *NUMBERS)
    assert third["read"] < first["read"]


def test_own_objects_are_not_remembered_as_proved(tmp_path: Path) -> None:
    """Otherwise a long run would hold the id of every chunk that was ever a base."""
    repo = synthetic_repo.make(tmp_path / "run")
    line = synthetic_repo.go_on(repo, "main")
    for step in range(4):
        synthetic_repo.commit(line, step, *(number - number % 8 for number in NUMBERS))
        synthetic_repo.commit(line, step, *(number + step for number in NUMBERS), lean=True)
        repo.store.read(Oid.of(Kind.BLOB, synthetic_repo.content(NUMBERS[0] + step)), Kind.BLOB)
    assert repo.store.catalogue._proved == set()
    other = Repository.open(repo.path, workers=1)
    synthetic_repo.commit(synthetic_repo.go_on(other, "side"), 1, *NUMBERS)
    assert other.store.catalogue._proved
