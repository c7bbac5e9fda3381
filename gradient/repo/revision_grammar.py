"""The grammar of revisions, the names of commits for people.

    revision = base { "~" [ digits ] | "^" }
    base     = "latest" | "HEAD" | "@" | [ branch ] "@" at | branch | tag | id
    at       = digits | "{" digits "}" | word [ ":" more ]          (the words: WORDS)
    id       = 4 to 64 hex digits
    range    = [ revision ] ".." [ revision ]

A branch precedes a tag of the same name, and both precede an id. ``~`` and ``^`` step back along
first parents. ``@`` alone is ``HEAD``. An `at` without a branch means the active branch. ``B@N`` is
the newest commit of step N in the history of B, ``B@{N}`` the tip of B before its last N moves.
``A..B`` are the commits in the history of B that are not in that of A; an end that is left out is
``latest``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gradient.errors import MalformedRevisionError
from gradient.objects.commit import MAX_STEP
from gradient.repo import branch_names

ACTIVE: Final = ("latest", "HEAD")
"""The names of the active branch's tip."""
WORDS: Final = ("latest", "last-finite", "best")
"""The words after an ``@``; only ``best`` takes more."""
MOVES: Final = re.compile(r"\{([0-9]{1,9})\}")
"""The form ``{N}`` after an ``@``."""
ID: Final = re.compile(r"[0-9a-fA-F]{4,64}")
"""The form of an id or of its first digits."""

_SUFFIX = re.compile(r"~([0-9]{0,9})|\^")
_BASE = re.compile(r"(?P<base>[^~^]*)(?P<suffix>(?:~[0-9]{0,9}|\^)*)", re.DOTALL)
_DIGITS = re.compile(r"[0-9]{1,17}")


@dataclass(frozen=True, slots=True)
class ParsedRevision:
    """A revision that is parsed but not resolved."""

    text: str
    """The text as it was typed."""
    base: str
    """``latest``, ``HEAD``, a branch (empty: the active one), a tag, or an id."""
    at: int | str | None = None
    """The step or word after the ``@``."""
    back: int = 0
    """The number of first parents to go back."""
    more: str | None = None
    """The text after the word: the metric of ``best``."""


def parse(text: str) -> ParsedRevision:
    """Parse a revision; raises MalformedRevisionError, which lists the forms."""
    if not isinstance(text, str):
        raise _malformed(text, "it is not text, as in 'main@100'")
    match = _BASE.fullmatch(text)
    if match is None:
        raise _malformed(text, "after '~' come digits, after '^' nothing, or another '~' or '^'")
    back = sum(int(n) if n else 1 for n in _SUFFIX.findall(match["suffix"]))
    base, sign, at = match["base"].partition("@")
    if sign and not base and not at:
        return ParsedRevision(text, "HEAD", None, back)
    if not base and not sign:
        raise _malformed(text, "it names nothing")
    if (
        base
        and base not in ACTIVE
        and not branch_names.is_branch_name(base)
        and not ID.fullmatch(base)
    ):
        raise _malformed(text, f"{base!r} cannot be the name of a branch or tag")
    if not sign:
        return ParsedRevision(text, base, None, back)
    if base in ACTIVE:
        raise _malformed(text, f"{base!r} takes no '@'; of the active branch: @{at}")
    if _DIGITS.fullmatch(at):
        if int(at) > MAX_STEP:
            raise _malformed(text, f"steps end at {MAX_STEP}")
        return ParsedRevision(text, base, int(at), back)
    if MOVES.fullmatch(at):
        return ParsedRevision(text, base, at, back)
    word, colon, more = at.partition(":")
    if word not in WORDS:
        words = ", ".join(WORDS)
        raise _malformed(text, f"after '@' comes a step, {{N}}, or one of: {words}")
    if (word == "best") != bool(more) or (colon and not more):
        raise _malformed(text, "after 'best' comes a metric, as in main@best:val_loss")
    return ParsedRevision(text, base, word, back, more or None)


def is_range(text: str) -> bool:
    """Return whether the text is a range; no name may contain two dots."""
    return ".." in text


def range_ends(text: str) -> tuple[str, str]:
    """Return the two revisions of a range; an end that is left out is the latest commit."""
    first, _, last = text.partition("..")
    if last.startswith("."):
        raise _malformed(text, "a range has two dots, as in main@100..main@500")
    return first or "latest", last or "latest"


def split_metric(text: str) -> tuple[str, int]:
    """Split a metric with a direction into its name and sign.

    ``acc:max`` gives -1, ``loss`` and ``loss:min`` give 1: the lowest product is the best value.
    """
    name, _, direction = text.rpartition(":")
    if name and direction in ("min", "max"):
        return name, 1 if direction == "min" else -1
    return text, 1


def _malformed(text: object, reason: str) -> MalformedRevisionError:
    return MalformedRevisionError(
        f"malformed revision {text!r}: {reason}. Revisions read like main, main@100, main~2, "
        f"main@{{1}}, main@best:val_loss, latest, HEAD, a tag, or a commit id of 4 digits or more"
    )
