"""The settings of a run, and the contents of the two config files on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, Literal, TypeAlias

from gradient.errors import ConfigError, InvalidNameError
from gradient.repo.branch_names import check_branch_name
from gradient.repo.retention.rules import Keep
from gradient.storage import fs

Compression: TypeAlias = Literal["off", "auto", "aggressive"]
ViewMode: TypeAlias = Literal["auto", "full", "thin", "off"]
OnNonfinite: TypeAlias = Literal["warn", "raise", "ignore"]
OnFull: TypeAlias = Literal["raise", "wait", "skip"]

COMPRESSIONS: Final[tuple[Compression, ...]] = ("off", "auto", "aggressive")
"""The effort of encoding chunks; every choice restores the same bits."""

VIEW_MODES: Final[tuple[ViewMode, ...]] = ("auto", "full", "thin", "off")
"""The kinds of ``ckpt_*.pt`` files in the visible folder."""

ON_NONFINITE: Final[tuple[OnNonfinite, ...]] = ("warn", "raise", "ignore")
"""The reactions to weights with NaN or infinite values."""

ON_FULL: Final[tuple[OnFull, ...]] = ("raise", "wait", "skip")
"""The reactions to a full disk."""

_MAX_NAME_BYTES = 200


class _Unset(str):
    """A default that equals its value and can be distinguished from an explicit choice."""

    __slots__ = ()


DEFAULT_BRANCH: Final[str] = _Unset("main")
"""The branch used if neither environment, config nor HEAD names one."""


@dataclass
class GradientConfig:
    """The settings of a run, for `GradientEngine.attach`."""

    workspace_path: str | os.PathLike[str] | None = None
    """The workspace folder; None: discovered from the current directory."""
    repo_name: str | None = None
    """The repo's folder name inside the workspace; None: discovered."""
    branch: str = DEFAULT_BRANCH
    """The branch to commit to. By default, HEAD decides, or ``main`` if HEAD is not set. An
    explicit value overrides HEAD, including ``"main"``."""
    reanchor_interval: int | None = None
    """The number of deltas after which an anchor is written; None: as soon as deltas do not pay."""
    compression: Compression = "auto"
    """``"off"``, ``"auto"`` or ``"aggressive"``."""
    view: ViewMode = "auto"
    """``"auto"``, ``"full"``, ``"thin"`` or ``"off"``."""
    background: bool = False
    """True to return from `commit` once the state is copied, and write it while training runs."""
    max_pending: int = 1
    """The most background commits that are pending; each holds a copy of the state."""
    workers: int | None = None
    """The number of threads that encode and decode; None: one per available core."""
    on_nonfinite: OnNonfinite = "warn"
    """The reaction to weights with NaN or infinite values: ``"warn"`` and mark the commit,
    ``"raise"`` instead of committing, or ``"ignore"``, which does not check."""
    on_full: OnFull = "raise"
    """The reaction to a full disk, after full view files were replaced by thin ones: ``"raise"``,
    ``"wait"`` for space, or ``"skip"`` the commit and continue training. A fork, a rollback and the
    last commit of a preempted run raise instead of being skipped."""
    keep: Keep | None = None
    """The rules for commits that stay whole while the run continues; None: all. See `Keep`."""
    maintenance: int | None = None
    """The number of commits between two runs of maintenance, in a process of its own: it merges
    packs, collects garbage and applies `keep`. 0: never; None: 16 with `keep`, else 256."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ConfigError for a value that is not allowed; the message lists those that are.

        Raises InvalidNameError for a name that a branch or repo cannot have.
        """
        _choice("compression", self.compression, COMPRESSIONS)
        _choice("view", self.view, VIEW_MODES)
        _choice("on_nonfinite", self.on_nonfinite, ON_NONFINITE)
        _choice("on_full", self.on_full, ON_FULL)
        every = self.reanchor_interval
        if every is not None and (type(every) is not int or every < 0):
            raise ConfigError(
                f"reanchor_interval is {every!r}; allowed are None and integers from 0 on"
            )
        if type(self.background) is not bool:
            raise ConfigError(f"background is {self.background!r}; allowed are True and False")
        _positive("max_pending", self.max_pending)
        if self.workers is not None:
            _positive("workers", self.workers)
        if self.keep is not None and type(self.keep) is not Keep:
            raise ConfigError(f"keep is {self.keep!r:.80}; allowed are None and a Keep(…)")
        every = self.maintenance
        if every is not None and (type(every) is not int or every < 0):
            raise ConfigError(f"maintenance is {every!r}; allowed are None and integers from 0 on")
        if self.keep is not None and every == 0:
            raise ConfigError("keep needs maintenance: leave that at None, or give it a number")
        _text("branch", self.branch)
        check_branch_name(self.branch)
        if self.repo_name is not None:
            check_folder_name(self.repo_name)
        if self.workspace_path is not None:
            _text("workspace_path", os.fspath(self.workspace_path))

    @property
    def explicit_branch(self) -> str | None:
        """The requested branch; None for the default."""
        return None if isinstance(self.branch, _Unset) else self.branch

    @property
    def repo_path(self) -> str:
        """The repo's folder; raises ConfigError if workspace or repo is None."""
        if self.workspace_path is None or self.repo_name is None:
            raise ConfigError("repo_path needs workspace_path and repo_name")
        return str(PurePath(fs.absolute(self.workspace_path), self.repo_name))


@dataclass
class WorkspaceConfig:
    """A workspace; only its name and date are stored."""

    name: str
    """Its name; by default the folder's name."""
    root_path: str
    """Its absolute path."""
    repos: list[str] = field(default_factory=list)
    """The folder names of its repos, sorted."""
    created_at: str | None = None
    """The time it was made, in UTC: ``YYYY-MM-DDTHH:MM:SS.ffffff``."""


@dataclass
class RepoConfig:
    """A repo; name, description and date are stored, the paths are those of its present place."""

    name: str
    """Its name; by default the folder's name."""
    repo_path: str
    """Its absolute path."""
    workspace_path: str | None = None
    """The workspace that contains it; None outside of a workspace."""
    description: str | None = None
    """Its description."""
    created_at: str | None = None
    """The time it was made, in UTC: ``YYYY-MM-DDTHH:MM:SS.ffffff``."""


def check_folder_name(name: str) -> None:
    """Raise InvalidNameError for a repo name that could leave its workspace."""
    if type(name) is not str or not name:
        raise InvalidNameError(repr(name), "a name is non-empty text")
    if any(ord(char) < 32 or ord(char) == 127 or char in '/\\:*?"<>|' for char in name):
        raise InvalidNameError(name, "it must not contain separators or control characters")
    if name.startswith((".", "-")) or name.endswith((".", " ")) or name != name.strip():
        raise InvalidNameError(name, "it must not start with a dot or dash, or end with a dot")
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidNameError(name, "it is not valid Unicode") from None
    if size > _MAX_NAME_BYTES:
        raise InvalidNameError(name, f"it is longer than {_MAX_NAME_BYTES} bytes")


def _text(setting: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{setting} is {value!r}; allowed is non-empty text")


def _positive(field_name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{field_name} is {value!r}; allowed are integers from 1 on")


def _choice(setting: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ConfigError(f"{setting} is {value!r}; allowed are {words}")
