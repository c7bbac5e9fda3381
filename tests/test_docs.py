"""Tests of the documentation: links have targets, examples run, references are complete."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import gradient
from gradient import errors
from gradient.cli.main import EXIT_CODES
from tests.fork_server import ForkServer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))

LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

PREAMBLE = """
import torch

model = torch.nn.Linear(4, 2)
optimizer = torch.optim.AdamW(model.parameters())
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)


def train_step(model, optimizer, scheduler):
    loss = model(torch.randn(8, 4)).square().mean()
    loss.backward()
    optimizer.step()
    scheduler.step()
    return loss.detach()


def evaluate(model):
    return 0.5
"""
"""The names that the examples of every page use."""


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [block[2] for block in found if block[1] == language]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings."""
    titles = HEADING.findall(page.read_text(encoding="utf-8"))
    words = (re.sub(r"[^\w\s-]", "", title.lower()) for title in titles)
    return {re.sub(r"\s", "-", title.strip()) for title in words}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_have_targets(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} does not exist"
        assert linked.is_relative_to(ROOT)
        if fragment and linked.suffix == ".md":
            assert fragment in anchors(linked), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_examples_are_python_and_import_public_names(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "gradient":
                assert {alias.name for alias in node.names} <= set(gradient.__all__)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=named)
def test_examples_run(page: Path, fork_server: ForkServer) -> None:
    """The blocks of a page form one script, in their order on the page."""
    script = Path("page.py")
    text = "\n".join([PREAMBLE, *blocks(page, "python")])
    # The steps of a long run are alike: two intervals of its automatic commits are enough.
    script.write_text(text.replace("steps(100_000)", "steps(2_000)"), encoding="utf-8")
    fork_server.run(run_script, str(script))


def run_script(path: str) -> None:
    """Run a script as Python does, with user warnings as errors."""
    sys.argv = [path]
    sys.path.insert(0, str(Path(path).resolve().parent))
    warnings.simplefilter("error", UserWarning)
    runpy.run_path(path, run_name="__main__")


@pytest.mark.parametrize("example", EXAMPLES, ids=named)
def test_example_scripts_have_a_docstring(example: Path) -> None:
    assert ast.get_docstring(ast.parse(example.read_text(encoding="utf-8")))


def test_readme_opens_with_the_two_commands() -> None:
    first = blocks(ROOT / "README.md", "console")[0]
    assert re.findall(r"^\$ (bash tools/\w+)", first, re.MULTILINE) == [
        "bash tools/demo",
        "bash tools/test",
    ]


def test_the_index_links_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, f"{page.name} is not linked"


def test_the_picture_is_the_one_that_its_tool_draws() -> None:
    drawn = subprocess.run(
        [sys.executable, ROOT / "tools" / "draw_history.py", "--check"], check=False
    )
    assert drawn.returncode == 0


def test_every_public_name_is_in_the_reference() -> None:
    headings = anchors(ROOT / "docs" / "api.md")
    assert {name.lower() for name in gradient.__all__ if name[0] != "_"} <= headings


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs" / "decisions").glob("0*.md"):
        assert f"({page.name})" in listed


def test_every_exit_code_lists_its_errors() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.*)$", page, re.MULTILINE))
    assert EXIT_CODES.keys() <= {int(code) for code in rows}
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.GradientError):
            assert f"`{name}`" in rows[str(error.exit_code)]
