"""What people who know git type, where it is called something else here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

COMMANDS: Final[dict[str, str]] = {
    "add": "nothing is staged: a commit holds the whole training state (engine.commit(step))",
    "archive": "to write a commit to a file: gradient export REV PATH",
    "blame": "to find the commit where it went wrong: gradient bisect start BAD GOOD",
    "checkout": "to train on from a commit: gradient resume REV -- CMD; to change the active "
    "branch: gradient switch BRANCH; to write a commit to a file: gradient export REV PATH",
    "cherry-pick": "to go on from a commit on a branch of its own: gradient fork REV BRANCH -- CMD",
    "commit": "the training script commits: engine.commit(step)",
    "config": "settings are those of the script: GradientConfig(…)",
    "count-objects": "what takes the space: gradient du",
    "init": "gradient workspace init PATH, then gradient repo init NAME; a script's "
    "attach(…, workspace=…, repo=…) makes what is missing",
    "load": "in Python: gradient.load(REV); as a file: gradient export REV PATH",
    "prune": "to remove what no branch or tag leads to: gradient gc",
    "rebase": "a commit stays where it was trained; to go on from another one: gradient fork REV "
    "BRANCH -- CMD",
    "repack": "to merge small packs: gradient gc",
    "restore": "to train on from a commit: gradient resume REV -- CMD; to write it to a file: "
    "gradient export REV PATH",
    "rev-list": "gradient log --json, with the same revisions and ranges",
    "revert": "to let the branch stand on an earlier commit: gradient reset REV; the old tip is "
    "set aside",
    "rm": "to let go of old states: gradient forget --keep-last N; of a branch: gradient branch -d "
    "NAME",
    "save": "the training script commits: engine.commit(step); to write a commit to a file: "
    "gradient export REV PATH",
    "stash": "nothing is lost by going elsewhere: what a run leaves is set aside under a name of "
    "its own (gradient branch)",
    "symbolic-ref": "the active branch: gradient status --json, under active_branch",
    "train": "gradient run -- CMD",
    "version": "gradient --version",
    "worktree": "several runs may train in one repo at once, each on its branch: gradient fork REV "
    "BRANCH -- CMD",
    **dict.fromkeys(
        ("clone", "fetch", "pull", "push", "remote"),
        "there are no remote repos: a repo is a folder, copy it as one",
    ),
    **dict.fromkeys(
        ("for-each-ref", "show-ref"),
        "the branches and the tags: gradient branch --json, gradient tag --json",
    ),
}
"""By git's word, or the first one that comes to mind: what to type instead."""

OPTIONS: Final[dict[str, dict[str, str]]] = {
    "branch": {
        **dict.fromkeys(("-f", "--force"), "to move a branch: gradient reset -b NAME REV"),
        "-M": "a branch is never renamed over another; delete that one first: gradient branch -d",
        "--show-current": "gradient status --json, under active_branch",
    },
    "gc": {
        "--aggressive": "to encode again what is stored: gradient gc --recompress",
        "--prune": "how long the trash is kept: --grace 7d; 0 frees the space at once",
    },
    "log": {
        **dict.fromkeys(("-p", "--patch"), "what changed from A to B: gradient diff A B"),
        "--stat": "what changed from A to B: gradient diff A B --stat",
        "--format": "for programs: --json; for metrics: --metric NAME",
        "--pretty": "--oneline; for programs: --json; for metrics: --metric NAME",
        "--reverse": "the oldest first, as a table: gradient metrics",
    },
    "reset": dict.fromkeys(
        ("--hard", "--soft", "--mixed"),
        "there is no working tree: gradient reset REV moves the branch, and sets the old tip aside",
    ),
    "rev-parse": {
        "--abbrev-ref": "the active branch: gradient status --json, under active_branch",
        "--show-toplevel": "the repo's folder: gradient status --json, under path",
        "--git-dir": "the repo's folder: gradient status --json, under path",
    },
    "switch": {
        "--detach": "nothing is detached: to train on from a commit: gradient resume REV -- CMD",
    },
}
"""By command and git's option: what to type instead."""


def unknown_command(name: str, known: Iterable[str]) -> str:
    """Say that there is no such command, and which one is meant."""
    told = COMMANDS.get(name)
    near = difflib.get_close_matches(name, known, n=3)
    if told is None and near:
        told = f"the nearest: {', '.join(near)}"
    return f"no such command {name!r}" + (f"; {told}" if told else "; all of them: gradient --help")


def unknown_option(command: str | None, option: str) -> str | None:
    """Say what git's option is here, if it is one."""
    return OPTIONS.get(command or "", {}).get(option)
