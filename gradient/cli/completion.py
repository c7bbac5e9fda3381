"""`gradient completion`: print the script that completes commands and revisions in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from gradient.cli import output

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Example: gradient completion bash
    bash:  eval "$(gradient completion bash)"                 in ~/.bashrc
    zsh:   eval "$(gradient completion zsh)"                  in ~/.zshrc
    fish:  gradient completion fish > ~/.config/fish/completions/gradient.fish
    """
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    root = ctx.find_root().command
    output.line(completion_class(root, {}, "gradient", "_GRADIENT_COMPLETE").source().rstrip())
    if shell == "bash":
        # Otherwise bash splits main@100 into three words.
        output.line("COMP_WORDBREAKS=${COMP_WORDBREAKS//@}")
