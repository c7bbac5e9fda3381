"""Compare the version in gradient/_version.py with the newest release in CHANGELOG.md.

Fails with status 1 and both versions when they differ, and when the release lacks the line that
names its on-disk format.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
RELEASE = re.compile(r"^## \[(\d[^\]]*)\]", re.MULTILINE)
FORMAT = re.compile(r"^On-disk format: v\d+ \(readable from v\d+\)$", re.MULTILINE)


def problems(version_source: str, changelog: str) -> list[str]:
    """Return what disagrees, one sentence each."""
    version = VERSION.search(version_source)
    if version is None:
        return ["gradient/_version.py does not define __version__"]
    releases = list(RELEASE.finditer(changelog))
    if not releases:
        return ["CHANGELOG.md has no release heading such as ## [1.2.3]"]
    newest = releases[0]
    end = releases[1].start() if len(releases) > 1 else len(changelog)
    found = []
    if newest[1] != version[1]:
        found.append(f"gradient/_version.py says {version[1]}, CHANGELOG.md says {newest[1]}")
    if not FORMAT.search(changelog, newest.end(), end):
        found.append(f'release {newest[1]} lacks a line "On-disk format: vN (readable from vM)"')
    return found


def main() -> int:
    """Print the problems; return the exit status."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = problems(
        (ROOT / "gradient" / "_version.py").read_text(encoding="utf-8"),
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    )
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
