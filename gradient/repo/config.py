"""The settings of a run, and what the two config files on disk say."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final, Literal, TypeAlias

from gradient.errors import ConfigError, InvalidNameError
from gradient.repo.branch_names import check_branch_name
from gradient.repo.retention_rules import Keep
from gradient.storage import fs

Compression: TypeAlias = Literal["off", "auto", "aggressive"]
ViewMode: TypeAlias = Literal["auto", "full", "thin", "off"]
OnNonfinite: TypeAlias = Literal["warn", "raise", "ignore"]
OnFull: TypeAlias = Literal["raise", "wait", "skip"]

COMPRESSIONS: Final[tuple[Compression, ...]] = ("off", "auto", "aggressive")
"""How hard chunks are encoded; every choice restores the same bits."""

VIEW_MODES: Final[tuple[ViewMode, ...]] = ("auto", "full", "thin", "off")
"""Which ``ckpt_*.pt`` files are written beside the store."""

ON_NONFINITE: Final[tuple[OnNonfinite, ...]] = ("warn", "raise", "ignore")
"""What to do about weights that are NaN or infinite."""

ON_FULL: Final[tuple[OnFull, ...]] = ("raise", "wait", "skip")
"""What to do where a commit has no room."""

_MAX_NAME_BYTES = 200


class _Unset(str):
    """A default that reads like its value and can still be told from a choice."""

    __slots__ = ()


DEFAULT_BRANCH: Final[str] = _Unset("main")
"""The branch where neither environment, config nor HEAD names one."""


@dataclass
class GradientConfig:
    """What `GradientEngine.attach` may be told about a run."""

    workspace_path: str | os.PathLike[str] | None = None
    """The workspace folder; None: discovered from the current directory."""
    repo_name: str | None = None
    """The repo's folder name inside the workspace; None: discovered."""
    branch: str = DEFAULT_BRANCH
    """The branch to commit to. Left at its default, HEAD decides, and ``main`` without one; an
    explicit value, ``"main"`` included, overrides HEAD."""
    reanchor_interval: int | None = None
    """Write a self-contained anchor after this many deltas; None: when deltas stop paying."""
    compression: Compression = "auto"
    """``"off"``, ``"auto"`` or ``"aggressive"``."""
    view: ViewMode = "auto"
    """``"auto"``, ``"full"``, ``"thin"`` or ``"off"``."""
    background: bool = False
    """Whether `commit` returns after a copy of the state, which is written behind the loop."""
    max_pending: int = 1
    """In the background, how many commits may be unfinished: each holds a copy of the state."""
    workers: int | None = None
    """Threads that encode and decode; None: one for each core that this process may use."""
    on_nonfinite: OnNonfinite = "warn"
    """What to do where a weight is NaN or infinite: ``"warn"`` and mark the commit, ``"raise"``
    instead of making it, or ``"ignore"``: not look."""
    on_full: OnFull = "raise"
    """What to do where the disk has no room for a commit, after full view files were made thin:
    ``"raise"``, ``"wait"`` until there is, or ``"skip"`` the commit and go on training. A fork,
    a rollback and the last commit of a preempted run are not skipped, but raised."""
    keep: Keep | None = None
    """Which commits stay whole as the run goes on; None: all. See `Keep`."""
    maintenance: int | None = None
    """Look after the repo after so many commits (merge packs, collect, keep to the rules of
    `keep`), in a process of its own; 0: never. None: 16 where there are rules, else 256."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Refuse values that are not allowed; raises ConfigError naming those that are.

        A name that no branch or repo may have raises InvalidNameError.
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
        """The branch that was asked for; None where the default was left."""
        return None if isinstance(self.branch, _Unset) else self.branch

    @property
    def repo_path(self) -> str:
        """The repo's folder; raises ConfigError until workspace and repo are both known."""
        if self.workspace_path is None or self.repo_name is None:
            raise ConfigError("repo_path needs workspace_path and repo_name")
        return str(PurePath(fs.absolute(self.workspace_path), self.repo_name))


@dataclass
class WorkspaceConfig:
    """A workspace as it is found: only its name and date are stored."""

    name: str
    """What people call it; the folder's name unless another was given."""
    root_path: str
    """Where it lies now, absolute."""
    repos: list[str] = field(default_factory=list)
    """The folder names of its repos, sorted, found by looking."""
    created_at: str | None = None
    """When it was made, ``YYYY-MM-DDTHH:MM:SS.ffffff``, UTC."""


@dataclass
class RepoConfig:
    """A repo as it is found: name, description and date are stored, the paths are where it lies."""

    name: str
    """What people call it; the folder's name unless another was given."""
    repo_path: str
    """Where it lies now, absolute."""
    workspace_path: str | None = None
    """The workspace around it; None outside of one."""
    description: str | None = None
    """What its maker said about it."""
    created_at: str | None = None
    """When it was made, ``YYYY-MM-DDTHH:MM:SS.ffffff``, UTC."""


def check_folder_name(name: str) -> None:
    """Refuse a repo name that could leave its workspace; raises InvalidNameError."""
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
