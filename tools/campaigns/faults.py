"""Errors of the file system: every call of every operation fails, with every error.

A fault affects one call, or that call and all later ones. After each fault the campaign checks that
the error was a GradientError with operation, path and number; that the repo has the state before or
after the operation; that `fsck` reports no damage; and that the next commit succeeds.

    python -m tools.campaigns.faults                    all cases
    python -m tools.campaigns.faults --stride 101       each 101st case
    python -m tools.campaigns.faults gc tag             all cases of these operations
"""

from __future__ import annotations

import argparse
import errno
import itertools
import logging
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gradient.errors import ConflictError, GradientIOError, MissingObjectError
from tests.storage.faults import Fault, counted, observed
from tools.campaigns.oracle import Client, Inspector, ViolationError, allowed, scratch_folder
from tools.campaigns.scenario import STORE, Scenario

ERRORS: Final = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EMFILE", "ESTALE")
SHORT: Final = "short write"
_SLOWEST: Final = 20.0
"""The number of seconds after which an operation counts as stuck."""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at one call of one operation."""

    operation: str
    """The name of the operation."""
    call: int
    """The number of calls that succeed before the fault."""
    error: str
    """The name of an error, or ``short write``: one byte is written, and the caller must
    continue."""
    persistent: bool
    """True if all later calls fail too."""


class Campaign:
    """Faults in one scenario."""

    def __init__(self, folder: Path, scenario: Scenario = STORE) -> None:
        self.scenario = scenario
        self.failed: Counter[str] = Counter()
        """The cases in which the operation failed, by error."""
        self.survived: Counter[str] = Counter()
        """The number of cases in which the operation succeeded."""
        self.refused = 0
        """The number of cases in which the operation was refused because an object was not found in
        an unreadable pack."""
        self._folder = folder
        self._model = folder / "model"
        path, self._refs = scenario.make(self._model)
        self._inside = path.relative_to(self._model)

    def cases(self, *names: str) -> Iterator[Case]:
        """Yield all cases, or those of some operations."""
        for name in names or self.scenario.operations:
            act = self.scenario.operations[name]
            with counted() as calls:
                act(Client(self._world(), self._refs, lambda _: None, name))
            kinds = itertools.product(range(calls.total()), (*ERRORS, SHORT), (False, True))
            for call, error, persistent in kinds:
                yield Case(name, call, error, persistent)

    def run(self, case: Case) -> None:
        """Run one case; raises ViolationError."""
        path = self._world()
        said: list[str] = []
        number = getattr(errno, case.error, None)
        fault = Fault(case.call, number, persistent=case.persistent)
        begun = time.monotonic()
        try:
            with observed(fault):
                self.scenario.operations[case.operation](
                    Client(path, self._refs, said.append, case.operation)
                )
        except GradientIOError as error:
            self.failed[case.error] += 1
            if error.errno != number or not error.operation or str(self._folder) not in error.path:
                raise ViolationError(f"{case}: {error!r} does not say what failed") from error
        except (ConflictError, MissingObjectError):
            self.refused += 1
        except Exception as error:
            raise ViolationError(f"{case}: {error!r}") from error
        else:
            self.survived[case.error] += 1
        if time.monotonic() - begun > _SLOWEST:
            raise ViolationError(f"{case}: took {time.monotonic() - begun:.0f} s")
        inspector = Inspector(path, self.scenario.judge)
        try:
            client = Client(path, inspector.inspect(allowed(self._refs, said), said), said.append)
            self.scenario.operations["commit"](client)
            inspector.inspect([client.refs])
        except Exception as error:
            raise ViolationError(f"{case}: {error}") from error

    def _world(self) -> Path:
        world = self._folder / "world"
        shutil.rmtree(world, ignore_errors=True)
        shutil.copytree(self._model, world)
        return world / self._inside


def main(arguments: list[str] | None = None) -> int:
    """Run the cases and print their number; raises ViolationError."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.faults")
    parser.add_argument("operation", nargs="*", help="an operation; none: all")
    parser.add_argument("--stride", type=int, default=1, help="try each Nth case (default 1)")
    parser.add_argument("--folder", default=scratch_folder(), help="where the repos lie")
    options = parser.parse_args(arguments)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        campaign = Campaign(Path(scratch))
        at = ""
        for case in itertools.islice(campaign.cases(*options.operation), 0, None, options.stride):
            if case.operation != at:
                at = case.operation
                print(f"{at} ...", flush=True)
            campaign.run(case)
    failed, survived = campaign.failed.total(), campaign.survived.total()
    print(
        f"{failed + survived + campaign.refused:,} faults in {time.monotonic() - begun:.0f} s: "
        f"{failed:,} errors that name operation, path and number, {campaign.refused:,} for an "
        f"object that could not be found then, {survived:,} that were overcome; nothing lost; "
        f"Python {platform.python_version()}"
    )
    return 0


if __name__ == "__main__":
    logging.getLogger("gradient").setLevel(logging.CRITICAL)  # what it warns of is asked for here
    sys.exit(main())
