"""What `gradient --help` says of each command, so that it need not import them all.

Made by tools/build_cli_docs.py from the commands themselves: change those, then run it.
"""

from __future__ import annotations

from typing import Final

SUMMARIES: Final[dict[str, str]] = {
    "workspace": "Make and inspect workspaces: folders that hold repos.",
    "repo": "Make and list repos: one model's history each.",
    "status": "Show where the repo stands, and the command that goes on.",
    "branch": "List the branches, or make, rename, delete one.",
    "switch": "Make BRANCH the active one.",
    "run": "Run CMD from the latest commit on, or afresh.",
    "resume": "Run CMD so that its training goes on from REF.",
    "fork": "Begin BRANCH at REF, and run CMD on it.",
    "log": "Show commits, the newest first.",
    "show": "Show a commit: its state, its metrics, and how it was made.",
    "diff": "Show what changed from A to B (the latest commit).",
    "metrics": "Show the metrics of each commit, the oldest first.",
    "tag": "List the tags, or name REV (the latest commit) NAME.",
    "reset": "Move the active branch to REV.",
    "reflog": "Show the moves of BRANCH (the active one), the newest first.",
    "rev-parse": "Print the commit id of each REV.",
    "ls-tree": "List what the state of REV consists of, with sizes.",
    "cat-file": "Print an object: a commit by its revision, anything by its id.",
    "du": "Show what the commits take, by branch and by component.",
    "view": "Manage the files that other tools open.",
    "export": "Write a commit to a file or folder of its own.",
    "gc": "Remove what no branch or tag leads to, and merge small packs.",
    "forget": "Let go of the state of old commits: all but what a rule keeps.",
    "import": "Copy other programs' checkpoints into a repo.",
    "merge": "Merge the weights of several commits into a new one.",
    "bisect": "Find the first bad commit of a line in log2 steps.",
    "verify": "Prove that training from A leads to B again, bit by bit.",
    "fsck": "Check that every stored byte is what it should be.",
    "doctor": "Try whether a folder keeps the promises that commits rely on.",
    "login": "Verify an access token and keep it for remote calls.",
    "logout": "Forget the access token.",
    "whoami": "Show whose access token is kept, as of the last login.",
    "completion": "Print the completion script for SHELL.",
    "help": "Show the help of COMMAND, or of all.",
}
"""The first sentence of each command's help; a command that is not here is imported for it."""
