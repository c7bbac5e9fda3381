"""The choice between an anchor and a delta for each commit.

Deltas grow as the run moves away from its anchor, until a new anchor is cheaper. Let A be the cost
of an anchor (the stored size of the commit's chunks without bases) and d1 … dn the costs of the
deltas since. A cycle of one anchor and n deltas then costs (A + d1 + … + dn)/(n + 1) per commit.
This mean falls while the next delta is cheaper than the mean, so the cycle ends with the first
delta that costs more.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from gradient.checkpoint.delta_bases import DeltaBases
from gradient.codec.mode import Mode
from gradient.errors import IntegrityError
from gradient.objects.oid import Oid
from gradient.repo.repository import Repository

_LOG = logging.getLogger("gradient")


@dataclass(slots=True)
class DeltaPolicy:
    """Decides for one run, from the stored sizes of its commits."""

    repo: Repository
    """The repo of the anchors."""
    mode: Mode
    """With `Mode.OFF`, every commit is an anchor."""
    interval: int | None
    """The number of deltas after which an anchor is forced; None: only the rule above."""
    _anchor: Oid | None = None
    _bases: DeltaBases | None = None
    _tree: Oid | None = None
    """The tree of the bases; an anchor without changes has the same one."""
    _last: Oid | None = None
    """The newest commit of the cycle; a commit with another parent is not part of it."""
    _deltas: int = 0
    """The number of deltas in the cycle; without an interval, only those of this run."""
    _measured: int = 0
    """The number of deltas whose costs are known."""
    _spent: int = 0
    _due: bool = False

    def anchor_of(self, parent: Oid | None) -> Oid | None:
        """Return the anchor of a commit: its own, or the commit itself if it is an anchor."""
        return None if parent is None else self.repo.read_commit(parent).anchor or parent

    def bases(self, parent: Oid | None) -> DeltaBases | None:
        """Return the bases for a child of `parent`; None if the child is to be an anchor."""
        anchor = self.anchor_of(parent)
        if parent is None or anchor is None or self.mode is Mode.OFF:
            return None
        if anchor != self._anchor or parent != self._last:
            self._follow(anchor, parent)
        if self._due or (self.interval is not None and self._deltas >= self.interval):
            return None
        return self._bases_of(anchor)

    def _bases_of(self, anchor: Oid) -> DeltaBases | None:
        try:
            tree = self.repo.read_commit(anchor).tree
            if tree != self._tree or self._bases is None:
                self._tree, self._bases = tree, DeltaBases(self.repo.store, tree)
        except IntegrityError as error:
            # Usually it was forgotten; the next commit is an anchor then.
            _LOG.debug("the anchor %s cannot be used: %s", anchor.short, error)
            self._bases = None
        return self._bases

    def committed(self, oid: Oid, *, anchor: Oid | None, coded: int, plain: int) -> None:
        """Note an acknowledged commit: its stored bytes, and its bytes without bases."""
        if anchor is None:
            self._follow(oid, oid)
            return
        self._last = oid
        self._deltas += 1
        self._measured += 1
        self._spent += coded
        self._due = coded > (plain + self._spent) / (self._measured + 1)

    def _follow(self, anchor: Oid, at: Oid) -> None:
        """Start a cycle, or join one at any of its commits."""
        self._anchor, self._last, self._due = anchor, at, False
        self._deltas = self._measured = self._spent = 0
        if self.interval is None:
            return
        # A damaged commit does not count; it must not keep the run from committing.
        for oid, commit in self.repo.walk(at, on_damage="skip"):
            if oid == anchor or commit.anchor != anchor or self._deltas >= self.interval:
                break
            self._deltas += 1
