"""Shell completion of branches, tags and steps. It raises no errors and does not import torch."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from gradient.cli.repo_options import active_branch, find_repository
from gradient.errors import GradientError
from gradient.repo.repository import Repository

if TYPE_CHECKING:
    import click

_MOST_STEPS = 200


def complete_branch(
    ctx: click.Context,
    param: click.Parameter,
    incomplete: str,
) -> list[CompletionItem]:
    """Offer the branches."""
    try:
        branches = find_repository(ctx).branches()
    except GradientError:
        return []
    return [CompletionItem(name) for name in branches if name.startswith(incomplete)]


def complete_revision(
    ctx: click.Context,
    param: click.Parameter,
    incomplete: str,
) -> list[CompletionItem]:
    """Offer ``latest``, branches and tags, and the same for the end of a range.

    After an ``@``, offer the branch's steps, the newest first, and its metrics.
    """
    before, dots, last = incomplete.rpartition("..")
    try:
        repo = find_repository(ctx)
        words = _steps(repo, last) if "@" in last else _names(repo)
    except GradientError:
        return []
    return [CompletionItem(f"{before}{dots}{word}") for word in words if word.startswith(last)]


def complete_tag(
    ctx: click.Context,
    param: click.Parameter,
    incomplete: str,
) -> list[CompletionItem]:
    """Offer the existing tags, to move or delete one."""
    try:
        tags = find_repository(ctx).refs.names(space="tags")
    except GradientError:
        return []
    return [CompletionItem(name) for name in tags if name.startswith(incomplete)]


def _names(repo: Repository) -> list[str]:
    return ["latest", *repo.branches(), *repo.refs.names(space="tags")]


def _steps(repo: Repository, incomplete: str) -> list[str]:
    named = incomplete.partition("@")[0]
    branch = named or active_branch(repo)
    if branch not in repo.branches():
        return []
    tip = repo.tip(branch)
    metrics = sorted(repo.read_commit(tip).metrics) if tip is not None else []
    words = [f"{named}@last-finite", *(f"{named}@best:{name}" for name in metrics)]
    steps = dict.fromkeys(link.step for _, link in repo.walk_links(tip, on_damage="skip"))
    matching = (f"{named}@{step}" for step in steps if f"{named}@{step}".startswith(incomplete))
    return [*islice(matching, _MOST_STEPS), *words]
