"""`gradient whoami`: show the account of the stored access token."""

from __future__ import annotations

from dataclasses import asdict

import click

from gradient.cli import output
from gradient.cli.login import find_credentials
from gradient.cli.output import json_option
from gradient.errors import AuthError


@click.command("whoami")
@json_option(
    {
        "workspace": "the server's answer at login: `name`, `slug`, `id`, each text or null",
        "verify_url": "the URL that verified the token",
        "kept_in": "`keyring`, or the path of the file that holds the token",
        "time": "when it was verified, UTC",
    }
)
def command(as_json: bool) -> None:
    """Show the account of the stored token, as of the last login.

    No server is contacted, and the token is not shown.

    \b
    Example:
      gradient whoami
    """
    login = find_credentials().login()
    if login is None:
        raise AuthError("not logged in; log in: gradient login")
    facts = {
        "workspace": asdict(login.account),
        "verify_url": login.verify_url,
        "kept_in": login.kept_in,
        "time": login.time,
    }
    if as_json:
        output.document(facts)
        return
    shown = {f"workspace {name}": value for name, value in asdict(login.account).items()}
    shown |= {"verified by": login.verify_url, "token in": login.kept_in, "since": login.time}
    output.table([(name, value) for name, value in shown.items() if value], indent=0)
