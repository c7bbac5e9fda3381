"""Whose repos are written to: our own, and those that we were told to trust.

Reading a repo of somebody else is safe, whatever they do to it meanwhile: nothing of it is run, and
every byte is proved. A writer leaves files in folders whose owner can put anything in their place.
So that takes a word of the user, as git's `safe.directory` is one.
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
"""The variable that names repos to trust, with colons between."""

_SUDO_USER: Final = "SUDO_UID"
_ALL: Final = "*"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the user said."""

    folders: tuple[str, ...] = ()
    """Repos to trust by their paths; ``PATH/*`` is all below a folder, ``*`` is all."""
    sudo_user: int | None = None
    """Who became root by sudo: what is theirs counts as root's."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read it from environment variables."""
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
