"""`gradient merge`: merge several models into a commit with several parents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from gradient.cli import output
from gradient.cli.completion_words import complete_revision
from gradient.cli.repo_options import active_branch, find_repository, location_options
from gradient.errors import ConfigError
from gradient.objects.canonical import Json
from gradient.repo.merge_commit import line_for, merge_commit
from gradient.view.updates import add_commit

if TYPE_CHECKING:
    from gradient.checkpoint.merge import Rule

DECAY = 0.9


@click.command("merge")
@location_options
@click.argument(
    "revs", nargs=-1, required=True, metavar="A B [C...]", shell_complete=complete_revision
)
@click.option("--average", "how", flag_value="average", help="Use the weighted mean of all models.")
@click.option(
    "--slerp",
    "how",
    flag_value="slerp",
    help="Use a point on the arc from A to B; the midpoint by default.",
)
@click.option(
    "--ema", "how", flag_value="ema", help="Use a moving average that starts at A, in this order."
)
@click.option(
    "--weights",
    metavar="X,Y,...",
    help="The weights of the revisions, for --average or --slerp; equal by default.",
)
@click.option(
    "--decay",
    type=float,
    metavar="D",
    help=f"The share of the average that --ema keeps at each revision; {DECAY} by default.",
)
@click.option("-b", "--branch", metavar="BRANCH", help="The branch to commit on; by default A's.")
@click.option("-m", "--message", default="", metavar="TEXT", help="The commit's message.")
@click.pass_context
def command(
    ctx: click.Context,
    revs: tuple[str, ...],
    how: str | None,
    weights: str | None,
    decay: float | None,
    branch: str | None,
    message: str,
) -> None:
    """Merge the weights of several commits into a new commit.

    The merged commits become its parents. It takes step, scheduler, random generators, integer
    tensors and registered states from A. It has no optimizer state, because no model's moments fit
    the merged weights. BRANCH is a new branch, or one whose newest commit is A. Models that differ
    in names, shapes or dtypes are refused.

    \b
    Example:
      gradient merge main@1000 high_lr@1000 --average --weights 0.3,0.7 -b soup
    """
    if how is None:
        raise click.UsageError("name the rule: --average, --slerp or --ema", ctx)
    if len(revs) < 2:
        raise click.UsageError("a merge needs two or more revisions", ctx)
    factors, record = _factors(how, len(revs), weights, decay)
    repo = find_repository(ctx)
    sources = [repo.resolve(rev, branch=active_branch(repo)) for rev in revs]
    if len({source.oid for source in sources}) < len(sources):
        raise ConfigError(
            "a merge takes each commit once; to count one more, raise its weight: --weights"
        )
    for source in sources:
        repo.check_kept(source.oid, components=("model",))
    repo.check_writable()
    writer = line_for(repo, sources[0], branch)
    # Imported here because it needs torch, and the checks above do not.
    from gradient.checkpoint import merge

    models = [
        merge.CommitModel.of(repo.store, each.commit.tree, rev)
        for rev, each in zip(revs, sources, strict=True)
    ]
    merge.check(models)
    rule: Rule = merge.slerp(factors[1]) if how == "slerp" else merge.linear(factors)
    with output.progress("tensors", len(models[0].tensors)) as advance:
        published = merge_commit(
            repo,
            writer,
            sources,
            lambda transaction: merge.write_merged(transaction, models, rule, progress=advance),
            how=record,
            message=message or f"merge of {', '.join(revs)} by {how}",
        )
    for text in published.warnings:
        output.note(text)
    add_commit(repo, published.commit)
    revision = f"{published.branch}@{sources[0].commit.step}"
    output.line(
        f"{output.bold(revision)} ({published.commit.short}) from {', '.join(revs)} by {how}"
    )
    output.note(
        f"it has no optimizer state; to train from it: engine.resume({revision!r}, "
        f'components=("model",)), or strict=False'
    )


def _factors(
    how: str, count: int, weights: str | None, decay: float | None
) -> tuple[list[float], dict[str, Json]]:
    """Return the factor of each revision, and the record of the rule for the commit."""
    if decay is not None and how != "ema":
        raise ConfigError("--decay needs --ema")
    if how == "ema":
        if weights is not None:
            raise ConfigError("--ema takes --decay, not --weights")
        keep = DECAY if decay is None else decay
        if not 0 <= keep <= 1:
            raise ConfigError(f"--decay {keep}: write a number from 0 to 1")
        newer = [(1 - keep) * keep ** (count - 1 - i) for i in range(1, count)]
        return [keep ** (count - 1), *newer], {"merge": how, "decay": keep}
    if how == "slerp" and count != 2:
        raise ConfigError("--slerp merges exactly two revisions; merge more with --average")
    given = [1.0] * count if weights is None else _numbers(weights)
    total = math.fsum(given)
    if len(given) != count or min(given) < 0 or not 0 < total < math.inf:
        raise ConfigError(
            f"--weights {weights}: write {count} comma-separated numbers, none negative and not "
            f"all 0"
        )
    factors = [each / total for each in given]
    return factors, {"merge": how, "weights": [*factors]}


def _numbers(text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise ConfigError(f"--weights {text}: write numbers with commas between them") from None
