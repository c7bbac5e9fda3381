"""`gradient tag`: list, create, move and delete tags."""

from __future__ import annotations

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision, complete_tag
from gradient.cli.output import json_option
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.repo import ref_edits
from gradient.repo.repository import Repository


@click.command("tag")
@location_options
@click.argument("name", required=False, shell_complete=complete_tag)
@click.argument("rev", required=False, shell_complete=complete_revision)
@click.option("-d", "--delete", is_flag=True, help="Delete the tag NAME; the commit stays.")
@click.option("-f", "--force", is_flag=True, help="Move an existing tag.")
@click.option("-a", "--annotate", is_flag=True, hidden=True, expose_value=False)
@click.option("-l", "--list", "listing", is_flag=True, help="List the tags, as without a NAME.")
@click.option("-m", "--message", default="", metavar="TEXT", help="A message, shown in the list.")
@json_option(
    {
        "tags": "one object per tag: `name`, `id`, `revision` (branch and step as the commit was "
        "made), `time` (when the tag was made, UTC), `message`"
    }
)
@click.pass_context
def command(
    ctx: click.Context,
    name: str | None,
    rev: str | None,
    delete: bool,
    force: bool,
    listing: bool,
    message: str,
    as_json: bool,
) -> None:
    """List the tags, or give REV (the latest commit) the tag NAME.

    \b
    Examples:
      gradient tag
      gradient tag v1 main@best:val_loss -m "what we shipped"
      gradient tag -d v1
    """
    repo = find_repository(ctx)
    if listing and name is not None:
        raise click.UsageError("-l takes no NAME", ctx)
    if name is None and (delete or message):
        raise click.UsageError("give NAME", ctx)
    if name is None:
        _list(repo, as_json=as_json)
        return
    repo.check_writable()
    if delete:
        if rev is not None:
            raise click.UsageError("-d takes one NAME", ctx)
        oid = ref_edits.delete_tag(repo, name)
        output.line(f"deleted tag {name} (was {oid.short})")
        return
    resolved = repo.resolve(rev or "latest", branch=active_branch(repo))
    ref_edits.create_tag(repo, name, resolved.oid, reason=message or "tag", force=force)
    repo.store.compact_indexes()
    output.line(f"{output.bold(name)} is {resolved.revision} ({resolved.oid.short})")
    if name in repo.branches():
        output.note(
            f"{name} is also a branch, which takes precedence: name the tag's commit by its id"
        )


def _list(repo: Repository, *, as_json: bool) -> None:
    rows = []
    for name, record in repo.refs.tips("tags").items():
        assert record.commit is not None
        link = repo.link(record.commit) if record.commit in repo.store else None
        rows.append(
            {
                "name": name,
                "id": str(record.commit),
                "revision": None if link is None else f"{link.branch}@{link.step}",
                "time": record.time,
                "message": "" if record.reason == "tag" else record.reason,
            }
        )
    if as_json:
        output.document({"tags": rows})
    elif rows:
        output.pages(
            output.aligned(
                (
                    row["name"] or "",
                    row["revision"] or "lost",
                    (row["id"] or "")[:10],
                    row["message"] or "",
                )
                for row in rows
            )
        )
