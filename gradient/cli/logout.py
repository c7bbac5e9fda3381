"""`gradient logout`: delete the stored access token."""

from __future__ import annotations

import click

from gradient.cli import output
from gradient.cli.login import find_credentials


@click.command("logout")
def command() -> None:
    """Delete the stored access token.

    The server is not contacted. To invalidate the token, revoke it there.

    \b
    Example:
      gradient logout
    """
    known = find_credentials().forget()
    output.line("logged out" if known else "not logged in")
