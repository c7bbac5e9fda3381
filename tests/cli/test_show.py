from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from gradient.cli.show import command
from tests.cli.command import call
from tests.cli.stable_output import fields, printed

if TYPE_CHECKING:
    from tests.cli.plain_repo import PlainRepo

TEXT = """\
commit <high_lr@60>  (high_lr)
at       high_lr@60, anchor
date     2026-02-10 12:04:56 UTC
metrics  loss=7.5

state    2.9 KiB
  model  2.9 KiB  uint8 2.9 KiB  <id>

environment
  command  python train.py --lr 1e-2
  cwd      HERE
"""


def test_text(history: PlainRepo) -> None:
    text = printed(history, "show", "high_lr")
    assert re.sub(r"cwd      .*", "cwd      HERE", text) == TEXT


def test_json(history: PlainRepo) -> None:
    found = json.loads(call("show", "high_lr", "--json").stdout)
    assert found["commit"]["revision"] == "high_lr@60"
    (component,) = found["components"].values()
    assert component.pop("id") is not None
    assert component == {"bytes": 3000, "contents": 1, "dtypes": {"uint8": 3000}}
    documented = fields(command.callback, "components")
    assert all(f"`{name}`" in documented for name in ("id", *component))
    assert found["environment"]["command"] == "python train.py --lr 1e-2"
    assert found["hparams"] is found["fork"] is None


def test_the_default_is_the_latest_commit(history: PlainRepo) -> None:
    assert json.loads(call("show", "--json").stdout)["commit"]["revision"] == "main@100"
    assert "has no commits" in call("show", "-r", "gpt", "gone@latest", code=4).stderr
