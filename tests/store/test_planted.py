"""Damage that lies where the next commit finds its chunks: no later commit reads differently."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from gradient.errors import IntegrityError
from gradient.repo.repository import Repository
from tools.campaigns import repos

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
"""Damage that a pack's ends show: it is not relied on, and what it had is written again."""


def plant(folder: Path, change: Callable[[bytes], bytes]) -> Repository:
    """Damage the pack that has the chunks of the next commit, and make that commit."""
    repo = repos.make(folder / "run")
    repos.commit(repos.go_on(repo, "main"), 1, *NUMBERS)
    (path,) = (folder / "run").glob(".gradient-repo/objects/pack/*.pack")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(change(content))
    repos.commit(repos.go_on(Repository.open(repo.path, workers=1), "side"), 1, *NUMBERS)
    repos.delete(Repository.open(repo.path, workers=1), "main")
    return Repository.open(repo.path, workers=1)


@pytest.mark.parametrize("damage", WHOLE)
def test_a_damaged_pack_is_not_relied_on(damage: str, tmp_path: Path) -> None:
    repo = plant(tmp_path, WHOLE[damage])
    assert repos.read_everything(repo.path) == {"side": [1]}


def test_a_flipped_bit_is_never_another_tensor(tmp_path: Path) -> None:
    whole = noticed = 0
    for at in range(16, 4 * repos.BYTES, 211):
        repo = plant(tmp_path, lambda content, at=at: flip(content, at))
        try:
            assert repos.read_everything(repo.path) == {"side": [1]}
            whole += 1
        except IntegrityError:
            noticed += 1
        shutil.rmtree(repo.path)
    assert noticed > 50
    assert whole + noticed > 70
