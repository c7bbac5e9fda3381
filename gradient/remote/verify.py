"""Asking a server whether a token is valid.

Rules: the token goes to one origin and to no other, whatever the server answers. Time and length of
an answer are limited as defined here. Text from the server is shown as plain text.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin

from gradient._version import __version__
from gradient.errors import AuthError
from gradient.remote.address import Address
from gradient.remote.token import Token

SECONDS: Final = 20.0
"""The time limit in seconds, including redirects."""

MAX_BYTES: Final = 1 << 16
"""The maximum length of an answer."""

_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 307, 308)
_SHOWN = 200
_ABOUT = ("name", "slug", "id")


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of a token, as the server reports it."""

    name: str | None = None
    """The workspace's name."""
    slug: str | None = None
    """The workspace's name in URLs."""
    id: str | None = None
    """The workspace's id."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    location: str | None
    body: bytes


def verify(token: Token, address: Address, *, seconds: float = SECONDS) -> Account:
    """Check a token: a POST of ``{}`` with the token as bearer.

    Raises AuthError if the token is invalid, or if the answer does not say.
    """
    deadline = time.monotonic() + seconds
    at = address
    for _ in range(_MOST_REDIRECTS + 1):
        answer = _post(token, at, deadline)
        if answer.status not in _REDIRECTS:
            return _account(token, at, answer)
        at = _follow(address, at, answer)
    raise AuthError(f"{address.place} redirects without end; the token was not verified")


def _follow(address: Address, at: Address, answer: _Answer) -> Address:
    try:
        target = Address.parse(urljoin(str(at), answer.location or ""), insecure=True)
    except ValueError:  # ConfigError among them
        target = None
    if target is None or target.origin != address.origin:
        raise AuthError(
            f"{at.place} redirects to another server; the token was not sent there. If that is "
            f"where it belongs, name it: --verify-url",
            status=answer.status,
        )
    return target


def _post(token: Token, address: Address, deadline: float) -> _Answer:
    connection = _connect(address, _left(address, deadline))
    try:
        connection.request(
            "POST",
            address.path,
            body=b"{}",
            headers={
                "Authorization": f"Bearer {token.reveal()}",
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": f"gradient/{__version__}",
            },
        )
        response = connection.getresponse()
        body = _read(response, connection, address, deadline)
        return _Answer(response.status, response.getheader("Location"), body)
    except TimeoutError:
        failure = _late(address)
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        failure = AuthError(f"cannot reach {address.place} ({said}); the token was not verified")
    finally:
        connection.close()
    # Out here, where it has no context: the frames of that hold the header with the token.
    raise failure


def _connect(address: Address, seconds: float) -> http.client.HTTPConnection:
    if address.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            address.host, address.port, timeout=seconds, context=context
        )
    return http.client.HTTPConnection(address.host, address.port, timeout=seconds)


def _read(
    response: http.client.HTTPResponse,
    connection: http.client.HTTPConnection,
    address: Address,
    deadline: float,
) -> bytes:
    """Read the body in pieces, so that a server that sends slowly hits the time limit."""
    body = b""
    while len(body) <= MAX_BYTES:
        if connection.sock is not None:
            connection.sock.settimeout(_left(address, deadline))
        _left(address, deadline)
        piece = response.read1(MAX_BYTES + 1 - len(body))
        if not piece:
            return body
        body += piece
    raise AuthError(
        f"{address.place} answers with more than {MAX_BYTES} bytes; the token was not verified"
    )


def _left(address: Address, deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise _late(address)
    return left


def _late(address: Address) -> AuthError:
    return AuthError(f"{address.place} did not answer in time; the token was not verified")


def _account(token: Token, address: Address, answer: _Answer) -> Account:
    if answer.status in (401, 403):
        raise AuthError(
            f"{address.place} refuses the access token (status {answer.status}); make a new one "
            f"there, and log in again",
            status=answer.status,
        )
    told = _document(answer.body)
    if answer.status != 200 or told is None:
        body = answer.body.decode("utf-8", "replace")
        said = plain(token.hide_in(body)) or "nothing"
        raise AuthError(
            f"{address.place} says neither yes nor no: status {answer.status}, {said}; the token "
            f"was not stored",
            status=answer.status,
        )
    return _workspace(token, told)


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _workspace(token: Token, told: Mapping[str, Any]) -> Account:
    """Read name, slug and id from ``workspace``, or from the top level of the answer."""
    inner = told.get("workspace")
    found: dict[str, str | None] = {}
    for field in _ABOUT:
        places = (
            inner.get(field) if isinstance(inner, dict) else None,
            told.get(f"workspace_{field}"),
            inner if field == "name" else None,
            told.get(field) if inner is None else None,
        )
        known = [each for each in places if type(each) in (str, int) and each != ""]
        found[field] = plain(token.hide_in(str(known[0]))) if known else None
    return Account(**found)


def plain(text: str) -> str:
    """Return a short text on one line, without terminal control characters."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
