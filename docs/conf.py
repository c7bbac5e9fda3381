"""Settings of the site that `bash tools/docs` builds from these pages.

The pages are plain Markdown. Pages that list others (CONTENTS) give the site its navigation: each
heading with a list of links becomes a section of the sidebar.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from gradient._version import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Gradient"
author = "Gradient contributors"
release = version = __version__

extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"Gradient {release}"
html_copy_source = False
myst_heading_anchors = 4
suppress_warnings = ["misc.highlighting_failure"]

CONTENTS = {"index", "decisions/README", "benchmarks/README"}
"""The pages whose links, to pages in or below their folder, are the navigation."""

SECTION = re.compile(r"^##+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:\s]+)\.md\)")


def navigation(text: str) -> str:
    """Return the text of a page with a hidden table of contents for each of its sections."""
    parts = SECTION.split(text)
    sections = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    tables = []
    for title, body in sections:
        pages = dict.fromkeys(
            page for page in LINK.findall(body) if ".." not in PurePosixPath(page).parts
        )
        if pages:
            caption = [f":caption: {title}"] if title else []
            tables.append("\n".join(["```{toctree}", ":hidden:", *caption, *pages, "```"]))
    return "\n\n".join([text, *tables])


def add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    """Append the navigation to a page that lists others."""
    if page in CONTENTS:
        source[0] = navigation(source[0])


def setup(app: Sphinx) -> None:
    """Register the function above; Sphinx calls this."""
    app.connect("source-read", add_navigation)
