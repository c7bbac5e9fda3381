"""Gradient in its modes, and the published package of the same name."""

# ruff: noqa: D102 - what a method does stands in the base class

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
from typing import Any, Final

from tools.bench.systems import Saved, System
from tools.bench.workloads import Run


class Gradient(System):
    """This source's Gradient, without view files: those would be a second copy."""

    options: dict[str, Any] = {}  # noqa: RUF012 - each subclass has its own

    def open(self, run: Run) -> None:
        gradient = importlib.import_module("gradient")
        config = gradient.GradientConfig(view="off", **self.options)
        self._engine = gradient.GradientEngine.attach(
            run.model, run.optimizer, workspace=self.folder, repo="bench", config=config
        )

    def save(self, run: Run, number: int) -> Saved:
        begin = time.perf_counter()
        self._engine.commit(number)
        seconds = time.perf_counter() - begin
        return Saved(seconds, seconds)

    def restore(self, run: Run, number: int) -> None:
        self._engine.resume(f"main@{number}")

    def fork(self, run: Run, number: int) -> Saved:
        begin = time.perf_counter()
        self._engine.fork(from_ref="main@0", new_branch=f"fork{number}")
        seconds = time.perf_counter() - begin
        return Saved(seconds, seconds)

    def close(self) -> None:
        self._engine.close()


class Anchors(Gradient):
    """Every commit self-contained."""

    options = {"reanchor_interval": 0}  # noqa: RUF012


class Off(Gradient):
    """Chunks as they are."""

    options = {"compression": "off"}  # noqa: RUF012


class Aggressive(Gradient):
    """As small as it gets."""

    options = {"compression": "aggressive"}  # noqa: RUF012


class Background(Gradient):
    """Written behind the training loop."""

    options = {"background": True}  # noqa: RUF012

    def save(self, run: Run, number: int) -> Saved:
        begin = time.perf_counter()
        revision = self._engine.commit(number)
        blocked = time.perf_counter() - begin
        revision.wait()
        return Saved(blocked, time.perf_counter() - begin)


class Published(System):
    """gradient-desc as published; it is another package of the same import name."""

    place = ""
    """The folder that its wheel was unpacked into."""

    def open(self, run: Run) -> None:
        for name in [each for each in sys.modules if each.split(".")[0] == "gradient"]:
            del sys.modules[name]
        if self.place not in sys.path:
            sys.path.insert(0, self.place)
        gradient = importlib.import_module("gradient")
        self._engine = gradient.GradientEngine.attach(
            run.model, run.optimizer, workspace=str(self.folder), repo="bench"
        )

    def save(self, run: Run, number: int) -> Saved:
        begin = time.perf_counter()
        self._engine.commit(number)
        seconds = time.perf_counter() - begin
        return Saved(seconds, seconds)

    def restore(self, run: Run, number: int) -> None:
        self._engine.resume(f"main@{number}")


def has_background() -> bool:
    """Whether this Gradient can write behind the training loop."""
    config = importlib.import_module("gradient").GradientConfig
    return "background" in {field.name for field in dataclasses.fields(config)}


OURS: Final[dict[str, type[System]]] = {
    "Gradient": Gradient,
    "Gradient anchors": Anchors,
    "Gradient off": Off,
    "Gradient aggressive": Aggressive,
    "Gradient background": Background,
}
"""Gradient's modes by name; the first is the default, `auto`."""

DEFAULT: Final = "Gradient"
"""The mode that a user gets."""

PUBLISHED: Final = "gradient-desc 0.1.17"
