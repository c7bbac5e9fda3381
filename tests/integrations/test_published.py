"""What the published gradient-desc 0.1.17 restores of its repo is what an import of it restores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from gradient import GradientEngine
from tests.cli.command import call
from tests.integrations import writing
from tests.integrations.test_gradient_desc import assert_same
from tests.view.test_published import ONE_THREAD, package  # noqa: F401 - a fixture


def test_an_import_restores_what_the_package_restores(
    package: Path,  # noqa: F811
) -> None:
    command = [sys.executable, writing.__file__, str(Path("theirs").resolve()), "restored.pt"]
    environment = {"PYTHONPATH": str(package), **ONE_THREAD}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = call("import", "theirs/pub", "-r", "ours")
    assert "5 commits" in result.stdout
    assert "main@4, main@8, hot@10" in result.stderr
    restored = torch.load("restored.pt", weights_only=True)
    assert tuple(restored) == writing.REVISIONS
    for revision, states in restored.items():
        run = writing.build()
        env: dict[str, Any] = {}
        engine = GradientEngine.attach(*run, workspace="theirs", repo="ours", resume=revision)
        engine.register_state("env", getter=lambda env=env: env, setter=env.update)
        engine.start()
        found = [*(part.state_dict() for part in run), env, torch.get_rng_state()]
        engine.close()
        for one, other in zip(found, states, strict=True):
            assert_same(dict(one) if isinstance(one, dict) else one, other, revision)
