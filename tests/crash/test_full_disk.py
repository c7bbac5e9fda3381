"""Real disks that are really full: a sample of `python -m tools.campaigns.full_disk`."""

from __future__ import annotations

import pytest

from tools.campaigns import full_disk


@pytest.mark.parametrize(("kind", "count"), [("--tmpfs", "4"), ("--ext4", "1")])
def test_nothing_is_lost_and_room_is_made(
    kind: str, count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"--tmpfs": "--ext4", "--ext4": "--tmpfs"}[kind]
    try:
        full_disk.main([kind, count, other, "0"])
    except (full_disk.CanNotMountError, FileNotFoundError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    assert "nothing lost" in capsys.readouterr().out
