"""No check is superfluous or untested: a sample of `python -m tools.campaigns.checks`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tools.campaigns import checks

ROOT = Path(__file__).resolve().parents[2]


def test_the_list_is_read_from_the_code() -> None:
    found = {mutant.name for mutant in checks.mutants()}
    assert "store/frame_reader.py: no: Oid.of(kind, out) != row.oid" in found
    assert "store/pack_catalogue.py: yes: self._storage.size(pack.name) == pack.size" in found
    assert "maintenance/lease_drain.py: yes: leases.is_expired(held)" in found
    assert "maintenance/garbage_collection.py: left out: self._sweep(lying)" in found
    assert "repo/branch_writer.py: left out: lease.cover(f'heads/{branch}')" in found
    assert len(found) > 300


def test_what_is_passed_over_is_there() -> None:
    assert checks.UNNEEDED.keys() <= {mutant.name for mutant in checks.mutants()}


def test_no_check_is_superfluous_or_untested() -> None:
    command = [sys.executable, "-m", "tools.campaigns.checks", "--stride", "80"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = re.search(r"^(\d+) of (\d+) mutants noticed", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout
    assert told[1] == told[2]
    assert int(told[1]) >= 4


def test_a_check_that_nobody_tests_is_found(tmp_path: Path) -> None:
    (mutant,) = [m for m in checks.mutants() if "Oid.of(kind, out) != row.oid" in m.text]
    assert mutant.kind == "guard"
    passing = tmp_path / "test_nothing.py"
    passing.write_text("def test_nothing():\n    import gradient.store.frame_reader\n")
    script = (
        "import sys\n"
        "import gradient.store.frame_reader\n"
        "from tools.campaigns import checks\n"
        f"mutant = [m for m in checks.mutants() if m.name == {mutant.name!r}][0]\n"
        f"sys.exit(checks.attempt(mutant, ({str(passing)!r},), seconds=60))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == 0
