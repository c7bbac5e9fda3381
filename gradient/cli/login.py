"""`gradient login`: verify an access token, and store it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gradient.cli import output
from gradient.errors import ConfigError, MalformedObjectError
from gradient.remote.address import Address
from gradient.remote.credentials import Credentials, Login, system_keyring
from gradient.remote.token import MAX_LETTERS, Token
from gradient.remote.verify import verify

VERIFY_URL = "GRADIENT_AUTH_VERIFY_URL"


@click.command("login")
@click.option(
    "--token",
    metavar="TOKEN",
    help="The token; it is safer to type it at the prompt, or to pipe it.",
)
@click.option(
    "--verify-url", metavar="URL", help=f"The URL that verifies it; by default {VERIFY_URL}."
)
@click.option("--insecure", is_flag=True, help="Allow plain http to another machine.")
def command(token: str | None, verify_url: str | None, insecure: bool) -> None:
    """Verify an access token and store it for remote calls.

    Without --token, the command asks for the token and does not show it; from a pipe, it reads the
    first line. The token is sent in a POST to the verify URL, and to no other server. The verify
    URL is the option, else the variable GRADIENT_AUTH_VERIFY_URL, else the URL of the last login.
    The token is stored in the system's keyring if the extra gradient-desc[keyring] is installed,
    else in ~/.gradient/credentials, which only you can read.

    \b
    Example:
      gradient login --verify-url https://example.org/api/verify < token.txt
    """
    credentials = find_credentials()
    address = Address.parse(_url(credentials, verify_url), insecure=insecure)
    secret = Token(token if token is not None else _ask())
    if secret.hide_in(str(address)) != str(address):
        raise ConfigError("the verify URL contains the token; it would be shown and stored")
    account = verify(secret, address)
    done = credentials.store(secret, str(address), account)
    output.line(f"logged in{_about(done)}")
    where = "the system's keyring" if done.kept_in == "keyring" else f"{done.kept_in} (mode 0600)"
    output.note(f"the token is stored in {where}")


def find_credentials() -> Credentials:
    """Return the store of the current user's token."""
    return Credentials(str(Path.home()), keyring=system_keyring())


def _url(credentials: Credentials, named: str | None) -> str:
    url = named or os.environ.get(VERIFY_URL)
    if url:
        return url
    try:
        last = credentials.login()
    except MalformedObjectError:
        last = None  # the new login replaces it
    if last is None:
        raise ConfigError(
            f"no verify URL: name the server that issued the token, with --verify-url URL or "
            f"{VERIFY_URL}"
        )
    return last.verify_url


def _ask() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Access token", hide_input=True, err=True))
    return sys.stdin.readline(MAX_LETTERS + 2)


def _about(login: Login) -> str:
    account = login.account
    label = account.name or account.slug or account.id
    if label is None:
        return ""
    more = [each for each in (account.slug, account.id) if each and each != label]
    return f" to {output.bold(label)}" + (f" ({', '.join(more)})" if more else "")
