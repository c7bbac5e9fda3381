"""Trust in repos of other users, which writing requires.

Reading another user's repo is safe, even if that user changes it at the same time: none of its
content is executed, and every byte is checked. Writing leaves files in folders whose owner can
replace them, so it requires the user's consent, as git's `safe.directory` does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final, Self

from gradient.errors import OwnershipError
from gradient.repo import paths
from gradient.storage import fs

SAFE_DIRECTORY: Final = "GRADIENT_SAFE_DIRECTORY"
"""The variable with the repos to trust, separated by colons."""

_SUDO_USER: Final = "SUDO_UID"
_ALL: Final = "*"


@dataclass(frozen=True, slots=True)
class Trust:
    """The user's consent to write to repos of other users."""

    folders: tuple[str, ...] = ()
    """The paths of trusted repos; ``PATH/*`` covers all repos below a folder, ``*`` all."""
    sudo_user: int | None = None
    """The user who became root by sudo, whose repos count as root's."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read the consent from environment variables."""
        folders = environ.get(SAFE_DIRECTORY, "").split(os.pathsep)
        caller = environ.get(_SUDO_USER, "")
        return cls(
            folders=tuple(folder for folder in folders if folder),
            sudo_user=int(caller) if caller.isascii() and caller.isdigit() else None,
        )

    def check(self, repo: str) -> None:
        """Raise OwnershipError for a repo of another user that is not trusted."""
        facts = fs.status(paths.inside(repo))
        if facts is None or self._is_ours(facts.st_uid) or self._names(repo):
            return
        raise OwnershipError(repo, fs.user(facts.st_uid), fs.user(os.geteuid()))

    def _is_ours(self, user: int) -> bool:
        me = os.geteuid()
        return user == me or (me == 0 and user == self.sudo_user)

    def _names(self, repo: str) -> bool:
        place = PurePath(fs.real(repo))
        return any(_covers(folder, place) for folder in self.folders)


def _covers(folder: str, place: PurePath) -> bool:
    if folder == _ALL:
        return True
    above = folder.removesuffix(f"/{_ALL}")
    real = PurePath(fs.real(above or "/"))
    return real == place if above == folder else real in place.parents
