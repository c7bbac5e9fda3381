"""An access token as a value that hides itself."""

from __future__ import annotations

from typing import Final

from gradient.errors import AuthError

MAX_LETTERS: Final = 8192


class Token:
    """A secret. `str`, `repr` and formatting show that there is a token, but not its text."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        """Parse a token as typed; raise AuthError if it cannot be one."""
        secret = secret.strip()
        if not secret:
            raise AuthError("the access token is empty; nothing was stored")
        # Printable ASCII without blanks: anything else could end the header it is sent in.
        if len(secret) > MAX_LETTERS or not all("!" <= letter <= "~" for letter in secret):
            raise AuthError(
                "the access token has letters that no token has, or too many; copy it anew"
            )
        self._secret = secret

    def reveal(self) -> str:
        """Return the secret, to send or store it."""
        return self._secret

    def hide_in(self, text: str) -> str:
        """Return a text with the secret removed, if it is in there."""
        return text.replace(self._secret, "…")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and other._secret == self._secret

    def __hash__(self) -> int:
        return hash(self._secret)

    def __repr__(self) -> str:
        return "Token(…)"

    def __reduce__(self) -> str:
        raise TypeError("a token is not pickled")
