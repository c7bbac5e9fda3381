"""A commit: which tree, after which parents, at which step of which run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from gradient.errors import MalformedObjectError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Kind, Oid

MAX_STEP = (1 << 53) - 1
"""The largest step a commit can carry."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One recorded state of a run. Times are UTC, ``YYYY-MM-DDTHH:MM:SS.ffffff``."""

    tree: Oid
    """The root tree: component names to subtrees."""
    parents: tuple[Oid, ...]
    """None for a root, one as a rule, several for a merge; the first is the line."""
    anchor: Oid | None
    """The anchor commit of this one's line; None where the commit is an anchor itself."""
    step: int
    """The logical training step, 0 … `MAX_STEP`."""
    branch: str
    """The branch it was made on, for people; refs decide what is reachable."""
    time: str
    """When it was captured."""
    message: str = ""
    """What the user said about it."""
    metrics: Mapping[str, int | float] = field(default_factory=dict)
    """Numbers logged since the previous commit, and at this one."""
    environment: Oid | None = None
    """A value tree: versions, host, command line, code revision."""
    hparams: Oid | None = None
    """A value tree: the run's hyperparameters."""
    fork: Oid | None = None
    """A value tree: what a fork changed (source, resets, settings)."""

    @property
    def type(self) -> str:
        """``"anchor"`` or ``"delta"``, the manifest's words."""
        return "anchor" if self.anchor is None else "delta"

    @property
    def revision(self) -> str:
        """``branch@step``, as it read when the commit was made."""
        return f"{self.branch}@{self.step}"

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
        return canonical.dumps(body)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Parse and check a commit body; raises MalformedObjectError."""
        body = canonical.loads(raw)
        if type(body) is not dict or not _REQUIRED <= body.keys() <= _REQUIRED | _OPTIONAL_IDS:
            raise MalformedObjectError("a commit has other fields than these")
        metrics, parents, step = body["metrics"], body["parents"], body["step"]
        if type(metrics) is not dict or type(parents) is not list:
            raise MalformedObjectError("a commit's metrics or parents have the wrong type")
        if type(step) is not int or not 0 <= step <= MAX_STEP:
            raise MalformedObjectError(f"a commit's step is not a step: {step!r:.40}")
        return cls(
            tree=Oid.parse(body["tree"]),
            parents=tuple(Oid.parse(parent) for parent in parents),
            step=step,
            branch=_text(body, "branch"),
            time=_text(body, "time"),
            message=_text(body, "message"),
            metrics={name: canonical.unpack_number(v) for name, v in metrics.items()},
            **{
                name: Oid.parse(body[name]) if name in body else None
                for name in sorted(_OPTIONAL_IDS)
            },
        )

    @property
    def oid(self) -> Oid:
        """The commit's id."""
        return Oid.of(Kind.COMMIT, self.to_bytes())


_REQUIRED = {"branch", "message", "metrics", "parents", "step", "time", "tree"}
_OPTIONAL_IDS = {"anchor", "environment", "fork", "hparams"}


def _text(body: dict[str, Json], name: str) -> str:
    value = body[name]
    if type(value) is not str:
        raise MalformedObjectError(f"a commit's {name} is not text")
    return value
