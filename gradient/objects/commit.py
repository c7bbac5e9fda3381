"""A commit: its tree, its parents, and the step and branch of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from gradient.errors import MalformedObjectError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid

MAX_STEP = (1 << 53) - 1
"""The largest step a commit can carry."""


@dataclass(frozen=True, slots=True)
class Link:
    """A commit's place in history: all that is needed to walk 10,000 commits quickly."""

    parent: Oid | None
    """The first parent; None for a root."""
    step: int
    """The training step."""
    anchored: bool
    """True if the commit is an anchor."""
    branch: str
    """The branch it was made on."""
    merges: bool = False
    """True if it has more than one parent."""


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """One recorded state of a run. Times are UTC, ``YYYY-MM-DDTHH:MM:SS.ffffff``."""

    tree: Oid
    """The root tree: component names to subtrees."""
    parents: tuple[Oid, ...]
    """No parent for a root, usually one, several for a merge; history follows the first."""
    anchor: Oid | None
    """The anchor of this commit; None if it is an anchor itself."""
    step: int
    """The logical training step, 0 … `MAX_STEP`."""
    branch: str
    """The branch it was made on, for people; only refs make a commit reachable."""
    time: str
    """The time of the capture."""
    message: str = ""
    """The user's message."""
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    """The metrics logged since the previous commit, and with this one."""
    environment: Oid | None = None
    """A value tree: versions, host, command line, code revision."""
    hparams: Oid | None = None
    """A value tree: the run's hyperparameters."""
    fork: Oid | None = None
    """A value tree: the changes of a fork (source, resets, settings)."""
    finite: bool | None = None
    """True if every weight is finite; None if the weights were not checked."""

    @property
    def type(self) -> str:
        """``"anchor"`` or ``"delta"``, the manifest's words."""
        return "anchor" if self.anchor is None else "delta"

    @property
    def revision(self) -> str:
        """``branch@step``, with the branch that the commit was made on."""
        return f"{self.branch}@{self.step}"

    @property
    def link(self) -> Link:
        """Its place in history."""
        parent = self.parents[0] if self.parents else None
        return Link(parent, self.step, self.anchor is None, self.branch, len(self.parents) > 1)

    def to_bytes(self) -> bytes:
        """Encode to the canonical body of a commit object."""
        body: dict[str, Json] = {
            "branch": self.branch,
            "message": self.message,
            "metrics": {name: canonical.pack_number(v) for name, v in self.metrics.items()},
            "parents": [str(parent) for parent in self.parents],
            "step": self.step,
            "time": self.time,
            "tree": str(self.tree),
        }
        for name in _OPTIONAL_IDS:
            oid = getattr(self, name)
            if oid is not None:
                body[name] = str(oid)
        if self.finite is not None:
            body["finite"] = self.finite
        return canonical.dumps(body)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Parse and check a commit body; raises MalformedObjectError."""
        return cls._of(canonical.loads(raw))

    @classmethod
    def from_known(cls, raw: bytes) -> Self:
        """Parse a body that `from_bytes` has accepted before, without checking its form again.

        Twice as fast. Raises MalformedObjectError.
        """
        try:
            return cls._of(_decode(str(raw, "utf-8"))[0])
        except (ValueError, RecursionError) as error:
            raise MalformedObjectError(f"not JSON: {error}") from None

    @classmethod
    def _of(cls, body: Json) -> Self:
        if type(body) is not dict or not _REQUIRED <= body.keys() <= _ALLOWED:
            raise MalformedObjectError("a commit has other fields than these")
        metrics, parents, step = body["metrics"], body["parents"], body["step"]
        finite = body.get("finite")
        if "finite" in body and type(finite) is not bool:
            raise MalformedObjectError(f"a commit's finite is not a boolean: {finite!r:.40}")
        if type(metrics) is not dict or type(parents) is not list:
            raise MalformedObjectError("a commit's metrics or parents have the wrong type")
        if type(step) is not int or not 0 <= step <= MAX_STEP:
            raise MalformedObjectError(f"a commit's step is not a step: {step!r:.40}")
        return cls(
            Oid.parse(body["tree"]),
            tuple([Oid.parse(parent) for parent in parents]),
            _optional_id(body, "anchor"),
            step,
            _text(body, "branch"),
            _text(body, "time"),
            _text(body, "message"),
            {name: canonical.unpack_number(v) for name, v in metrics.items()},
            _optional_id(body, "environment"),
            _optional_id(body, "hparams"),
            _optional_id(body, "fork"),
            finite if type(finite) is bool else None,
        )

    @property
    def oid(self) -> Oid:
        """The commit's id."""
        return Oid.of(Kind.COMMIT, self.to_bytes())


_REQUIRED = {"branch", "message", "metrics", "parents", "step", "time", "tree"}
_OPTIONAL_IDS = {"anchor", "environment", "fork", "hparams"}
_ALLOWED = _REQUIRED | _OPTIONAL_IDS | {"finite"}


_decode = json.JSONDecoder().raw_decode

_parse_again = lru_cache(256)(Oid.parse)
"""For ids that many commits share: their anchor, their environment."""


def _optional_id(body: dict[str, Json], name: str) -> Oid | None:
    if name not in body:
        return None
    text = body[name]
    return _parse_again(text) if type(text) is str else Oid.parse(text)


def _text(body: dict[str, Json], name: str) -> str:
    value = body[name]
    if type(value) is not str:
        raise MalformedObjectError(f"a commit's {name} is not text")
    return value
