"""The URLs that a token may be sent to: https anywhere, plain http only to this machine."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from gradient.errors import ConfigError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A checked URL, without user, password and fragment."""

    scheme: str
    """``https``, or ``http``."""
    host: str
    """The host: a name or an IP address, in lower case."""
    port: int
    """The port."""
    path: str
    """The path and the query."""

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> Self:
        """Check a URL; raise ConfigError if a token must not be sent to it.

        `insecure` allows plain http to other machines as well.
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ConfigError(
                "the verify URL is malformed: it reads like https://HOST/PATH"
            ) from None
        host = (parts.hostname or "").lower()
        wrong = any(letter.isspace() or not letter.isprintable() for letter in text)
        if parts.scheme not in _PORTS or not host or wrong or not text.isascii():
            raise ConfigError("the verify URL is malformed: it reads like https://HOST/PATH")
        if parts.username is not None or parts.password is not None:
            raise ConfigError("the verify URL names a user or a password; leave them out")
        if parts.scheme == "http" and not insecure and not is_loopback(host):
            raise ConfigError(
                f"plain http would show the token to everybody on the way to {host}; use https, "
                f"or, where that network is yours, --insecure"
            )
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], path)

    @property
    def origin(self) -> str:
        """The scheme, host and port, which a redirect must not change."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def place(self) -> str:
        """The URL without its query, for messages."""
        return self.origin + self.path.partition("?")[0]

    def __str__(self) -> str:
        return self.origin + self.path


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name alone, without a DNS look-up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
