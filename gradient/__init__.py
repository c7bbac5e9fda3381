"""Git for training runs. This file lists the public names.

A name is imported when it is first used, so that `import gradient` costs no import of torch. The
one thing that importing does is to make thin view files known to `torch.load`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradient._version import __version__
from gradient.view import thin
from gradient.view.thin import thin_file_needs_gradient_export

if TYPE_CHECKING:
    from gradient.engine.commit.commit_handle import Revision
    from gradient.engine.engine import GradientEngine
    from gradient.engine.load import load
    from gradient.errors import (
        AmbiguousRevisionError,
        AuthError,
        BranchExistsError,
        ConfigError,
        ConflictError,
        ContextError,
        CorruptObjectError,
        CorruptPackError,
        EngineClosedError,
        ForeignRepoError,
        ForgottenError,
        FormatVersionError,
        GradientError,
        GradientIOError,
        IntegrityError,
        InvalidNameError,
        MalformedObjectError,
        MalformedRevisionError,
        MisfitError,
        MissingObjectError,
        NonfiniteError,
        NotFoundError,
        OwnershipError,
        PendingError,
        RefConflictError,
        StepError,
        StoreChangedError,
        UnknownRevisionError,
        UnsupportedValueError,
    )
    from gradient.repo.config import GradientConfig, RepoConfig, WorkspaceConfig
    from gradient.repo.discovery import Context, find_repo, find_workspace, resolve_context
    from gradient.repo.retention.rules import Keep
    from gradient.repo.workspace import init_workspace
    from gradient.view.api.commit import Commit
    from gradient.view.api.repo import Repo, open_repo
    from gradient.view.init_repo import init_repo

__all__ = [
    "AmbiguousRevisionError",
    "AuthError",
    "BranchExistsError",
    "Commit",
    "ConfigError",
    "ConflictError",
    "Context",
    "ContextError",
    "CorruptObjectError",
    "CorruptPackError",
    "EngineClosedError",
    "ForeignRepoError",
    "ForgottenError",
    "FormatVersionError",
    "GradientConfig",
    "GradientEngine",
    "GradientError",
    "GradientIOError",
    "IntegrityError",
    "InvalidNameError",
    "Keep",
    "MalformedObjectError",
    "MalformedRevisionError",
    "MisfitError",
    "MissingObjectError",
    "NonfiniteError",
    "NotFoundError",
    "OwnershipError",
    "PendingError",
    "RefConflictError",
    "Repo",
    "RepoConfig",
    "Revision",
    "StepError",
    "StoreChangedError",
    "UnknownRevisionError",
    "UnsupportedValueError",
    "WorkspaceConfig",
    "__version__",
    "find_repo",
    "find_workspace",
    "init_repo",
    "init_workspace",
    "load",
    "open_repo",
    "resolve_context",
    "thin_file_needs_gradient_export",
]

HOMES: dict[str, str] = {
    "Commit": "gradient.view.api.commit",
    "Context": "gradient.repo.discovery",
    "GradientConfig": "gradient.repo.config",
    "GradientEngine": "gradient.engine.engine",
    "Keep": "gradient.repo.retention.rules",
    "Repo": "gradient.view.api.repo",
    "RepoConfig": "gradient.repo.config",
    "Revision": "gradient.engine.commit.commit_handle",
    "WorkspaceConfig": "gradient.repo.config",
    "find_repo": "gradient.repo.discovery",
    "find_workspace": "gradient.repo.discovery",
    "init_repo": "gradient.view.init_repo",
    "init_workspace": "gradient.repo.workspace",
    "load": "gradient.engine.load",
    "open_repo": "gradient.view.api.repo",
    "resolve_context": "gradient.repo.discovery",
}
"""The module that each public name lives in; the exceptions, all of one module, are not listed."""


def __getattr__(name: str) -> Any:
    home = HOMES.get(name, "gradient.errors")
    if name not in __all__:
        raise AttributeError(f"module 'gradient' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


thin.register()
