"""The storage of a token: the system's keyring, or else a file that only its owner can read.

A second file holds facts that are not secret: the server that verified the token, and its owner.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, Final, Protocol

from gradient.errors import AuthError, MalformedObjectError
from gradient.objects import timestamp
from gradient.remote.token import MAX_LETTERS, Token
from gradient.remote.verify import Account
from gradient.repo import json_files
from gradient.storage import fs

FOLDER: Final = ".gradient"
CREDENTIALS: Final = "credentials"
FACTS: Final = "auth.json"

SERVICE: Final = "gradient"
"""The service name in the keyring; the user name is the server's origin."""


class Keyring(Protocol):
    """The interface of a keyring's backend."""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret; None if there is none."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store a secret."""

    def delete_password(self, service: str, username: str) -> None:
        """Delete a secret."""


@dataclass(frozen=True, slots=True)
class Login:
    """The facts about the last login, without the token."""

    verify_url: str
    """The server that verified the token."""
    account: Account
    """The owner of the token."""
    kept_in: str
    """``keyring``, or the file's path."""
    time: str
    """The time of the verification; UTC."""


def system_keyring() -> Keyring | None:
    """Return the system's keyring; None if the extra, or a backend that keeps secrets, is missing.

    A backend is never asked for a secret here, because that could open a window.
    """
    try:
        module = importlib.import_module("keyring")
        backend = module.get_keyring()
        usable = float(backend.priority) > 0
    except Exception:  # noqa: BLE001 - backends fail in their own ways; the file serves
        return None
    return backend if usable else None


class Credentials:
    """One user's token. Nothing is read or written before a method needs it."""

    def __init__(self, home: str, *, keyring: Keyring | None = None) -> None:
        """Store it under the folder `home`, or in a keyring."""
        self._folder = str(PurePath(home, FOLDER))
        self._keyring = keyring

    def __repr__(self) -> str:
        return f"Credentials({self._folder!r})"

    @property
    def path(self) -> str:
        """The file for the token."""
        return str(PurePath(self._folder, CREDENTIALS))

    def login(self) -> Login | None:
        """Return the facts about the last login; None if there was none."""
        told = json_files.read(self._facts)
        if told is None:
            return None
        url, kept_in, time = (
            json_files.text(told, name) for name in ("verify_url", "kept_in", "time")
        )
        about = told.get("workspace")
        if not url or not kept_in or not time or not isinstance(about, dict):
            raise MalformedObjectError(f"{self._facts} is damaged; log in again: gradient login")
        return Login(
            url,
            Account(*(json_files.text(about, n) for n in ("name", "slug", "id"))),
            kept_in,
            time,
        )

    def store(self, token: Token, url: str, account: Account) -> Login:
        """Store a verified token and its facts, replacing an earlier one."""
        self.forget()
        fs.make_folders(self._folder, mode=0o700)
        kept_in = self._keep(token, url)
        login = Login(url, account, kept_in, timestamp.now())
        facts: dict[str, Any] = {
            "verify_url": url,
            "workspace": asdict(account),
            "kept_in": kept_in,
            "time": login.time,
        }
        json_files.write_durable(self._facts, facts, mode=0o600)
        return login

    def token(self) -> Token:
        """Return the token; raise AuthError if there is none."""
        login = self.login()
        if login is None:
            raise AuthError("not logged in; log in: gradient login")
        if login.kept_in == "keyring":
            secret = self._ask(login.verify_url)
        else:
            raw = json_files.read_bytes(self.path, limit=MAX_LETTERS + 1)
            secret = None if raw is None else raw.decode("ascii", "replace")
        if secret is None:
            raise AuthError(f"the token is gone from {login.kept_in}; log in again: gradient login")
        return Token(secret)

    def forget(self) -> bool:
        """Delete the token and its facts; return whether there was anything to delete."""
        try:
            login = self.login()
        except MalformedObjectError:
            login = None
        known = fs.remove(self.path)
        if login is not None and login.kept_in == "keyring" and self._keyring is not None:
            try:
                self._keyring.delete_password(SERVICE, login.verify_url)
            except Exception:  # noqa: BLE001 - as in `system_keyring`; without its text
                known = True
        return fs.remove(self._facts) or known

    @property
    def _facts(self) -> str:
        return str(PurePath(self._folder, FACTS))

    def _keep(self, token: Token, url: str) -> str:
        if self._keyring is not None:
            try:
                self._keyring.set_password(SERVICE, url, token.reveal())
            except Exception:  # noqa: BLE001 - locked, or declined by its owner: the file serves
                pass
            else:
                return "keyring"
        raw = token.reveal().encode("ascii") + b"\n"
        fs.replace_file(self.path, raw, durable=True, mode=0o600)
        return self.path

    def _ask(self, url: str) -> str | None:
        if self._keyring is None:
            return None
        try:
            return self._keyring.get_password(SERVICE, url)
        except Exception:  # noqa: BLE001 - as in `system_keyring`
            return None
