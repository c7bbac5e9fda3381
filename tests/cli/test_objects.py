"""`ls-tree`, `cat-file` and `rev-parse`: the objects of a commit and their ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gradient.cli import cat_file, ls_tree, rev_parse
from gradient.objects.oid import Kind
from tests.cli.command import call
from tests.cli.plain_repo import STATE_BYTES
from tests.cli.stable_output import fields, printed

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo

TREE = """\
tree    2.9 KiB  <id>   model
tensor  2.9 KiB  uint8[3000]  model/w
"""


def test_ls_tree(history: PlainRepo) -> None:
    text = printed(history, "ls-tree", "main@50", "-R")
    assert [line.split() for line in text.splitlines()] == [
        line.split() for line in TREE.splitlines()
    ]
    assert printed(history, "ls-tree", "main@50", "model").split() == TREE.splitlines()[1].split()
    assert printed(history, "ls-tree", "main@50", "model/w").endswith("model/w\n")


def test_ls_tree_json(history: PlainRepo) -> None:
    found = json.loads(call("ls-tree", "main@50", "model", "--json").stdout)
    assert found == {
        "id": str(history.repo.resolve("main@50").oid),
        "entries": [
            {
                "path": "model/w",
                "kind": "tensor",
                "id": None,
                "dtype": "uint8",
                "shape": [STATE_BYTES],
                "bytes": STATE_BYTES,
            }
        ],
    }
    documented = fields(ls_tree.command.callback, "entries")
    assert all(f"`{name}`" in documented for name in found["entries"][0])


def test_ls_tree_of_a_missing_name(history: PlainRepo) -> None:
    assert "it has model" in call("ls-tree", "main@50", "modle", code=4).stderr
    assert "model has no 'x'; it has w" in call("ls-tree", "main@50", "model/x", code=4).stderr


def test_cat_file_of_a_commit_and_its_tree(history: PlainRepo) -> None:
    commit = json.loads(call("cat-file", "main@50").stdout)
    assert commit["step"] == 50
    tree = json.loads(call("cat-file", commit["tree"][:12]).stdout)
    model = json.loads(call("cat-file", tree["entries"]["model"]["tree"]).stdout)
    (chunk,) = model["entries"]["w"]["tensor"]["chunks"]
    assert call("cat-file", "-t", chunk).stdout == "blob\n"
    assert call("cat-file", "-p", "main@50").stdout == call("cat-file", "main@50").stdout
    assert call("cat-file", "-s", chunk).stdout == f"{STATE_BYTES}\n"
    assert call("cat-file", "--raw", chunk).stdout_bytes == bytes([50]) * STATE_BYTES
    assert "--raw" in call("cat-file", chunk).stdout
    found = json.loads(call("cat-file", chunk, "--json").stdout)
    assert found == {"id": chunk, "type": "blob", "size": STATE_BYTES, "content": None}
    assert fields(cat_file.command.callback, "type") == "commit, tree, list or blob"


def test_cat_file_of_raw_bytes(history: PlainRepo) -> None:
    oid = history.repo.resolve("main@50").oid
    assert call("cat-file", "--raw", str(oid)).stdout_bytes == history.repo.store.read(
        oid, Kind.COMMIT
    )


def test_cat_file_of_nothing(history: PlainRepo) -> None:
    assert "no object has this id" in call("cat-file", "0" * 20, code=4).stderr
    call("cat-file", "gone", code=4)


def test_rev_parse(history: PlainRepo) -> None:
    assert printed(history, "rev-parse", "main~", "latest", "main@best:loss") == (
        "<main@50>\n<main@100>\n<main@0>\n"
    )
    assert printed(history, "rev-parse", "--short", "main@0..main@100") == "<main@100>\n^<main@0>\n"
    call("rev-parse", "main", "gone", code=4)
    call("rev-parse", "main@x", code=2)


def test_rev_parse_json(history: PlainRepo) -> None:
    found = json.loads(call("rev-parse", "main@0..main", "high_lr@50", "--json").stdout)
    middle, start, stop = (
        str(history.repo.resolve(text).oid) for text in ("high_lr@50", "main@0", "main")
    )
    assert found["revisions"] == [
        {
            "text": "main@0..main",
            "id": stop,
            "revision": "main@100",
            "branch": "main",
            "start": start,
            "commits": 2,
        },
        {"text": "high_lr@50", "id": middle, "revision": "high_lr@50", "branch": "high_lr"},
    ]
    documented = fields(rev_parse.command.callback, "revisions")
    assert all(f"`{name}`" in documented for name in found["revisions"][0])


@pytest.mark.parametrize("digits", [4, 12, 64])
def test_short_ids(history: PlainRepo, digits: int) -> None:
    oid = str(history.repo.resolve("main@0").oid)
    assert call("rev-parse", oid[:digits]).stdout == f"{oid}\n"
