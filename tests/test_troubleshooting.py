"""Tests that docs/troubleshooting.md quotes every message that a user can see."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradient import errors

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.replace("`\n", " ").replace("`", " ").split())

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.GradientError)
}
SPEAKERS = {
    *CLASSES.keys() - {"MalformedObjectError"},
    *("UsageError", "BadParameter", "fail", "warn", "warning", "_warn", "_refuse"),
}
"""The calls whose text a user sees. MalformedObjectError is for programs that write objects."""

SHORTEST = 15
"""The length of the shortest clause that the page must quote."""


def fixed_parts(node: ast.AST) -> Iterator[str]:
    """Yield the constant clauses of the texts in a call."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            for piece in re.split(r"%[rsd]|\n|[.;:] ", part.value):
                yield " ".join(piece.replace("`", " ").split()).strip('.;:,()" ')


def messages() -> Iterator[tuple[str, list[str]]]:
    """Yield the place of each message in the source, and its constant clauses."""
    for path in sorted((ROOT / "gradient").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", None))
            if name in SPEAKERS:
                parts = [part for each in node.args for part in fixed_parts(each)]
                clauses = [part for part in parts if len(part) >= SHORTEST]
                if clauses:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", clauses


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_section_with_its_kind_and_exit_code(name: str) -> None:
    found = CLASSES[name]
    assert f"\n### `{name}` ({found.kind}, exit {found.exit_code})\n" in PAGE


def test_every_message_is_found_by_its_text() -> None:
    found = ((where, texts) for where, texts in messages() if not any(t in TEXT for t in texts))
    absent = [f"{where}: {' … '.join(texts)}" for where, texts in found]
    assert not absent, "not in docs/troubleshooting.md:\n" + "\n".join(absent)


def test_the_page_has_no_section_for_what_is_gone() -> None:
    assert set(re.findall(r"^### `(\w+)`", PAGE, re.MULTILINE)) == CLASSES.keys()
