"""A run that is resumed from any of its commits ends the same: a sample of
`python -m tools.campaigns.resume`, which resumes from every one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.campaigns import resume

if TYPE_CHECKING:
    from tests.fork_server import ForkServer


def test_resumed_from_commits_all_along(fork_server: ForkServer) -> None:
    said = fork_server.run(resume.main, ["--steps", "40", "--stride", "13"])
    assert "resumed from 3 commits" in said
    assert "bit-identical" in said
