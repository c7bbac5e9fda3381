"""The version is written once, and the changelog agrees."""

from __future__ import annotations

import pytest

from tools.check_version import problems

SOURCE = '"""Docstring."""\n\n__version__ = "1.2.0"\n'
FORMAT = "\nOn-disk format: v1 (readable from v1)\n"
AGREEING = f"# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-02-10\n{FORMAT}"

DISAGREEING = {
    "gradient/_version.py does not define": ("version = 3", AGREEING),
    "no release heading": (SOURCE, "# Changelog\n"),
    "says 1.2.0, CHANGELOG.md says 1.1.0": (SOURCE, AGREEING.replace("1.2.0", "1.1.0")),
    "1.2.0 lacks a line": (SOURCE, f"## [1.2.0]\n\n### Fixed\n\n## [1.1.0]\n{FORMAT}"),
}


def test_agreement_is_silent() -> None:
    assert problems(SOURCE, AGREEING) == []


@pytest.mark.parametrize("problem", list(DISAGREEING))
def test_disagreement_is_named(problem: str) -> None:
    (found,) = problems(*DISAGREEING[problem])
    assert problem in found
