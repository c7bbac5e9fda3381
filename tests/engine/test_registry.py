"""One engine per model and process; neither keeps the other alive."""

from __future__ import annotations

import gc
import weakref

import pytest

from gradient.engine import registry
from tests.engine.training_rig import trained


def test_an_engine_is_closed_and_its_place_handed_on_once() -> None:
    rig, engine = trained(1)
    standing = registry.detach(rig.model)
    assert standing is not None
    assert standing.step == 1
    assert "closed" in repr(engine)
    assert registry.detach(rig.model) is None


def test_the_place_outlives_a_dropped_engine_but_not_a_closed_one() -> None:
    rig, engine = trained(1)
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    standing = registry.detach(rig.model)
    assert standing is not None
    assert standing.step == 1
    rig, engine = trained(2, branch="other")
    engine.close()
    assert registry.detach(rig.model) is None


def test_another_processs_place_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, engine = trained(1)
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert registry.detach(rig.model) is None
    monkeypatch.undo()
    assert "closed" not in repr(engine)
