"""`gradient export`: write a commit to a separate file or folder."""

from __future__ import annotations

import logging
from pathlib import PurePath

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.errors import ConfigError

SUFFIXES = (".pt", ".pth", ".safetensors")
DTYPES = ("float64", "float32", "float16", "bfloat16")


@click.command("export")
@location_options
@click.argument("rev", shell_complete=complete_revision)
@click.argument("path", type=click.Path())
@click.option("--weights-only", is_flag=True, help="Export only the model's state dict.")
@click.option(
    "--match",
    multiple=True,
    metavar="GLOB",
    help="Export only weights whose name matches, in full or after one of its dots; implies "
    "--weights-only. May be repeated.",
)
@click.option(
    "--component",
    "components",
    multiple=True,
    metavar="NAME",
    help="Export only this component: model, optimizer, scheduler, … May be repeated.",
)
@click.option("--dtype", type=click.Choice(DTYPES), help="Convert floating-point weights.")
@click.option("-f", "--force", is_flag=True, help="Replace an existing file or folder.")
@click.pass_context
def command(
    ctx: click.Context,
    rev: str,
    path: str,
    weights_only: bool,
    match: tuple[str, ...],
    components: tuple[str, ...],
    dtype: str | None,
    force: bool,
) -> None:
    """Write a commit to a separate file or folder.

    The suffix of PATH selects the format. .pt: {'model': …, 'optimizer': …, …}, which plain
    torch.load reads anywhere. .safetensors: the weights under their own names; tied weights are
    written under the first name, and the metadata lists the others. No suffix: a folder with both.

    \b
    Examples:
      gradient export main@100 model.pt
      gradient export latest model.safetensors --dtype bfloat16
      gradient export latest adapter.safetensors --match 'lora_*'
    """
    if _suffix(path) not in (*SUFFIXES, ""):
        raise click.BadParameter(
            f"{path!r} does not end in .pt, .pth or .safetensors; a folder has no suffix, or ends "
            f"in /",
            param_hint="PATH",
        )
    repo = find_repository(ctx)
    resolved = repo.resolve(rev, branch=active_branch(repo))
    # Imported here because it needs torch, and the checks above do not.
    from gradient.view.export import Selection, export

    selection = Selection(components, weights_only, match, dtype)
    try:
        with output.log_lines(logging.INFO):
            exported = export(repo, resolved.oid, path, selection, force=force)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    output.line(f"{resolved.revision} ({resolved.oid.short}) exported to {path}")
    for name, kept in exported.dropped.items():
        output.note(f"{name} is tied to {kept} and written under that name")
    output.line(f"to load it: {exported.load.replace(exported.path, path)}")


def _suffix(path: str) -> str:
    return "" if path.endswith("/") else PurePath(path).suffix
