"""Advice for commands and options of git that Gradient does not have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

COMMANDS: Final[dict[str, str]] = {
    "add": "nothing is staged: a commit holds the whole training state (engine.commit(step))",
    "archive": "to write a commit to a file: gradient export REV PATH",
    "blame": "to find the commit where it went wrong: gradient bisect start BAD GOOD",
    "checkout": "to train from a commit: gradient resume REV -- CMD; to change the active "
    "branch: gradient switch BRANCH; to write a commit to a file: gradient export REV PATH",
    "cherry-pick": "to train from a commit on a new branch: gradient fork REV BRANCH -- CMD",
    "commit": "the training script commits: engine.commit(step)",
    "config": "the script has the settings: GradientConfig(…)",
    "count-objects": "to see what takes the space: gradient du",
    "init": "gradient workspace init PATH, then gradient repo init NAME; in a script, "
    "attach(…, workspace=…, repo=…) creates both",
    "load": "in Python: gradient.load(REV); as a file: gradient export REV PATH",
    "prune": "to remove unreachable data: gradient gc",
    "rebase": "a commit cannot move to another parent; to train from another commit: gradient fork "
    "REV BRANCH -- CMD",
    "repack": "to merge small packs: gradient gc",
    "restore": "to train from a commit: gradient resume REV -- CMD; to write it to a file: "
    "gradient export REV PATH",
    "rev-list": "gradient log --json, with the same revisions and ranges",
    "revert": "to move the branch to an earlier commit: gradient reset REV; the old tip is set "
    "aside",
    "rm": "to drop old states: gradient forget --keep-last N; to delete a branch: gradient branch "
    "-d NAME",
    "save": "the training script commits: engine.commit(step); to write a commit to a file: "
    "gradient export REV PATH",
    "stash": "nothing is lost when a run resumes elsewhere: the old tip is set aside as a branch "
    "(gradient branch)",
    "symbolic-ref": "for the active branch: gradient status --json, field active_branch",
    "train": "gradient run -- CMD",
    "version": "gradient --version",
    "worktree": "several runs can train in one repo, each on its own branch: gradient fork REV "
    "BRANCH -- CMD",
    **dict.fromkeys(
        ("clone", "fetch", "pull", "push", "remote"),
        "there are no remote repos: a repo is a folder that can be copied",
    ),
    **dict.fromkeys(
        ("for-each-ref", "show-ref"),
        "to list branches and tags: gradient branch --json, gradient tag --json",
    ),
}
"""The advice for each unknown command: git's name, or another likely guess."""

OPTIONS: Final[dict[str, dict[str, str]]] = {
    "branch": {
        **dict.fromkeys(("-f", "--force"), "to move a branch: gradient reset -b NAME REV"),
        "-M": "a rename never replaces a branch; delete it first: gradient branch -d",
        "--show-current": "gradient status --json, field active_branch",
    },
    "gc": {
        "--aggressive": "to encode the stored data again: gradient gc --recompress",
        "--prune": "to set how long the trash is kept: --grace 7d; 0 frees the space at once",
    },
    "log": {
        **dict.fromkeys(("-p", "--patch"), "to see the changes from A to B: gradient diff A B"),
        "--stat": "to see the changes from A to B: gradient diff A B --stat",
        "--format": "for programs: --json; for metrics: --metric NAME",
        "--pretty": "--oneline; for programs: --json; for metrics: --metric NAME",
        "--reverse": "for a table, the oldest first: gradient metrics",
    },
    "reset": dict.fromkeys(
        ("--hard", "--soft", "--mixed"),
        "there is no working tree: gradient reset REV moves the branch, and sets the old tip aside",
    ),
    "rev-parse": {
        "--abbrev-ref": "for the active branch: gradient status --json, field active_branch",
        "--show-toplevel": "for the repo's folder: gradient status --json, field path",
        "--git-dir": "for the repo's folder: gradient status --json, field path",
    },
    "switch": {
        "--detach": "no state is detached; to train from a commit: gradient resume REV -- CMD",
    },
}
"""The advice for each unknown option, by command and by git's option."""


def unknown_command(name: str, known: Iterable[str]) -> str:
    """Return the error for an unknown command, with advice or the nearest names."""
    advice = COMMANDS.get(name)
    near = difflib.get_close_matches(name, known, n=3)
    if advice is None and near:
        advice = f"the nearest: {', '.join(near)}"
    return f"no such command {name!r}" + (
        f"; {advice}" if advice else "; all of them: gradient --help"
    )


def unknown_option(command: str | None, option: str) -> str | None:
    """Return the advice for an unknown option; None if there is none."""
    return OPTIONS.get(command or "", {}).get(option)
