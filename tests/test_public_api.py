"""The public names of `gradient`. A name that is added or removed must be changed here too."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import gradient
from gradient import errors

PUBLIC = [
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


def exception_names() -> list[str]:
    values = vars(errors).values()
    return [v.__name__ for v in values if isinstance(v, type) and issubclass(v, Exception)]


def test_public_names_are_exactly_these() -> None:
    assert gradient.__all__ == PUBLIC
    assert dir(gradient) == PUBLIC


def test_names_are_sorted() -> None:
    assert sorted(PUBLIC) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_exists(name: str) -> None:
    value = getattr(gradient, name)
    assert isinstance(value, str) or value.__doc__


@pytest.mark.parametrize("name", PUBLIC)
def test_type_checkers_see_each_name_in_its_module(name: str) -> None:
    tree = ast.parse(Path(gradient.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}
    assert getattr(importlib.import_module(homes[name]), name) is getattr(gradient, name)


def test_every_exception_is_public() -> None:
    assert set(exception_names()) <= set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Gradient'"):
        gradient.Gradient  # noqa: B018
