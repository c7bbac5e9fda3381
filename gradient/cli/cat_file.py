"""`gradient cat-file`: print one stored object, verified by its hash."""

from __future__ import annotations

import json
from typing import Any

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.errors import AmbiguousRevisionError, UnknownRevisionError
from gradient.objects.oid import Kind, Oid
from gradient.repo.repository import Repository

_ID_DIGITS = 4


@click.command("cat-file")
@location_options
@click.argument("id_", metavar="ID|REV", shell_complete=complete_revision)
@click.option("-t", "--type", "only_type", is_flag=True, help="Print only the type.")
@click.option("-s", "--size", "only_size", is_flag=True, help="Print only the size in bytes.")
@click.option(
    "-p", is_flag=True, expose_value=False, help="Print it in readable form: the default."
)
@click.option("--raw", is_flag=True, help="Print the bytes unchanged.")
@json_option(
    {
        "id": "the object's id",
        "type": "commit, tree, list or blob",
        "size": "its size in bytes",
        "content": "the JSON of a commit or tree, the chunk ids of a list; null for a blob",
    }
)
@click.pass_context
def command(
    ctx: click.Context, id_: str, only_type: bool, only_size: bool, raw: bool, as_json: bool
) -> None:
    """Print an object: a commit by revision, any object by id.

    Commits and trees are printed as JSON. Only --raw prints the bytes of a chunk (blob).

    \b
    Examples:
      gradient cat-file main@100
      gradient cat-file 3f29b1c4
      gradient cat-file --raw 9e107d9d37 > chunk.bin
    """
    repo = find_repository(ctx)
    kind, oid = _find(repo, id_, active_branch(repo))
    body = repo.store.read(oid, kind)
    if as_json:
        output.document(
            {
                "id": str(oid),
                "type": kind.value,
                "size": len(body),
                "content": _content(kind, body),
            }
        )
    elif only_type or only_size:
        output.line(kind.value if only_type else str(len(body)))
    elif raw:
        output.write_bytes(body)
    elif kind is Kind.BLOB:
        output.line(f"blob of {output.size(len(body))}; to print its bytes: --raw")
    elif kind is Kind.LIST:
        output.pages(_content(kind, body))
    else:
        pretty = json.dumps(_content(kind, body), indent=2, ensure_ascii=False)
        output.pages(pretty.splitlines())


def _find(repo: Repository, text: str, active: str) -> tuple[Kind, Oid]:
    digits = text.lower()
    if len(digits) < _ID_DIGITS or not set(digits) <= set("0123456789abcdef"):
        return Kind.COMMIT, repo.resolve(text, branch=active).oid
    found = [(kind, oid) for kind in Kind for oid in repo.store.find_prefix(kind, digits)]
    if len(found) == 1:
        return found[0]
    if not found:
        try:
            return Kind.COMMIT, repo.resolve(text, branch=active).oid
        except UnknownRevisionError:
            raise UnknownRevisionError(text, "no object has this id") from None
    spelt = [f"{oid.hex()[:16]} ({kind.value})" for kind, oid in found[:5]]
    raise AmbiguousRevisionError(text, f"{len(found)} objects have this id", spelt)


def _content(kind: Kind, body: bytes) -> Any:
    if kind is Kind.BLOB:
        return None
    if kind is Kind.LIST:
        return [body[at : at + 32].hex() for at in range(0, len(body), 32)]
    return json.loads(body)
