"""When is a commit an anchor, and when the difference from one?

A difference grows as the run moves away from its anchor, until a fresh one is the better deal. With
the cost A of an anchor (what the chunks of this commit would weigh on their own) and the costs d1 …
dn of the deltas since, a cycle of one anchor and n deltas costs (A + d1 + … + dn)/(n + 1) on
average. That mean falls while the next delta is cheaper than it, so the cycle ends with the first
delta that is dearer.
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
    """Decides for one run, from what its commits weighed."""

    repo: Repository
    """Where the anchors are."""
    mode: Mode
    """With `Mode.OFF`, every commit is an anchor."""
    interval: int | None
    """Deltas after which an anchor is forced; None: the rule above alone."""
    _anchor: Oid | None = None
    _bases: DeltaBases | None = None
    _tree: Oid | None = None
    """Whose chunks they are: an anchor in which nothing changed has the same."""
    _last: Oid | None = None
    """The end of the cycle so far: a commit on any other is no part of it."""
    _deltas: int = 0
    """How many deltas the cycle has; where there is no interval, of this run alone."""
    _weighed: int = 0
    """Of how many it is known what they cost."""
    _spent: int = 0
    _due: bool = False

    def anchor_of(self, parent: Oid | None) -> Oid | None:
        """Return the anchor of the line that ends with a commit."""
        return None if parent is None else self.repo.read_commit(parent).anchor or parent

    def bases(self, parent: Oid | None) -> DeltaBases | None:
        """Return what a child of `parent` may be the difference from; None: it is an anchor."""
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
            # Forgotten by now, as a rule: then it is time for another one.
            _LOG.debug("the anchor %s can not be used: %s", anchor.short, error)
            self._bases = None
        return self._bases

    def committed(self, oid: Oid, *, anchor: Oid | None, coded: int, plain: int) -> None:
        """Note an acknowledged commit: its payload bytes, and what they would be without bases."""
        if anchor is None:
            self._follow(oid, oid)
            return
        self._last = oid
        self._deltas += 1
        self._weighed += 1
        self._spent += coded
        self._due = coded > (plain + self._spent) / (self._weighed + 1)

    def _follow(self, anchor: Oid, at: Oid) -> None:
        """Begin a cycle, or join one at any of its commits."""
        self._anchor, self._last, self._due = anchor, at, False
        self._deltas = self._weighed = self._spent = 0
        if self.interval is None:
            return
        # A damaged commit does not count; it must not keep the run from committing.
        for oid, commit in self.repo.walk(at, on_damage="skip"):
            if oid == anchor or commit.anchor != anchor or self._deltas >= self.interval:
                break
            self._deltas += 1
