"""One commit as a file that needs neither the store nor Gradient."""

from __future__ import annotations

from typing import IO

from gradient.objects.oid import Oid
from gradient.repo.foreign import Mark
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.view import marking, payload


def export_pt(repo: Repository, oid: Oid, path: str) -> None:
    """Write a commit as a ``.pt`` file that a plain `torch.load` reads, atomically and durably.

    The shape is that of full view files. A registered state that such a file cannot hold is left
    out, with a log line; for model, optimizer, scheduler or generators UnsupportedValueError is
    raised. Everything is verified before the file appears.
    """
    content = payload.portable(payload.read(repo, oid))
    content["anchor_path"] = fs.absolute(path)

    def write(out: IO[bytes]) -> None:
        # Marked as ours, so that a copy that ends up in a repo's folder is nobody else's data.
        marking.save(content, out, Mark("full", oid))

    fs.replace_file(path, write, durable=True)
