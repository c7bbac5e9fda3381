from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from gradient.errors import ConfigError, InvalidNameError
from gradient.repo.config import GradientConfig, check_folder_name

REFUSED = [
    ("compression", "max", "'off', 'auto', 'aggressive'"),
    ("view", True, "'auto', 'full', 'thin', 'off'"),
    ("reanchor_interval", -1, "None and integers from 0 on"),
    ("reanchor_interval", True, "None and integers from 0 on"),
    ("branch", "", "non-empty text"),
    ("branch", None, "non-empty text"),
    ("workspace_path", "", "non-empty text"),
]


@pytest.mark.parametrize(("setting", "value", "allowed"), REFUSED)
def test_bad_values_are_refused_and_the_allowed_ones_named(
    setting: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ConfigError, match=allowed) as caught:
        GradientConfig(**{setting: value})
    assert setting in str(caught.value)


@pytest.mark.parametrize("branch", ["../x", "a b", "latest", "x@1"])
def test_a_name_that_no_branch_may_have_is_refused(branch: str) -> None:
    with pytest.raises(InvalidNameError, match=branch):
        GradientConfig(branch=branch)


def test_values_set_later_are_checked_too() -> None:
    config = GradientConfig()
    config.compression = "zip"  # type: ignore[assignment]

    with pytest.raises(ConfigError):
        config.check()


def test_an_unset_branch_reads_as_main_and_is_told_apart() -> None:
    config = GradientConfig()

    assert config.branch == "main"
    assert config.explicit_branch is None
    assert copy.deepcopy(config).explicit_branch is None
    assert dataclasses.replace(config, view="off").explicit_branch is None
    assert GradientConfig(branch="main").explicit_branch == "main"
    config.branch = "other"
    assert config.explicit_branch == "other"


def test_repo_path() -> None:
    assert GradientConfig("/ws", "gpt").repo_path == "/ws/gpt"
    with pytest.raises(ConfigError, match="repo_path needs"):
        _ = GradientConfig("/ws").repo_path


@pytest.mark.parametrize(
    "name", ["", "..", ".x", "a/b", "a\\b", "a\n", "-r", "x.", "a:b", "x" * 201]
)
def test_names_that_no_repo_can_have(name: str) -> None:
    with pytest.raises(InvalidNameError):
        check_folder_name(name)
    with pytest.raises((InvalidNameError, ConfigError)):
        GradientConfig(repo_name=name)
