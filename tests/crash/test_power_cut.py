"""No power cut loses what was acknowledged, and no sync is superfluous.

`python -m tools.campaigns.power` judges all states; here each fifth of the single operations'.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tools.campaigns import durability, oracle, power, scenario
from tools.campaigns.power import Campaign

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "gradient")


def test_states_of_every_operation(capsys: pytest.CaptureFixture[str]) -> None:
    power.main(["--stride", "10"])
    told = re.search(r"([\d,]+) states .* in (\d+) of them", capsys.readouterr().out)
    assert told is not None
    assert int(told[1].replace(",", "")) > 250
    assert int(told[2]) > 10


def test_no_sync_is_superfluous_late_or_unchecked() -> None:
    with tempfile.TemporaryDirectory(dir=oracle.scratch_folder()) as scratch:
        noticed, alive = durability.score(Path(scratch), lambda _: None)
    assert alive == []
    assert noticed > 40


def test_the_list_of_syncs_is_read_from_the_code() -> None:
    files = {mutant.call.file for mutant in durability.mutants()}
    assert {"storage/fs/entries.py", "storage/directory.py", "store/pack_catalogue.py"} <= files
    assert not files & set(durability.NO_STORE)


def test_nothing_gets_its_name_before_its_content_is_durable(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    named = 0
    for name in campaign.scenario.operations:
        synced: set[str] = set()
        for event in campaign.record(name):
            if event.operation == "sync":
                synced.add(event.path)
            elif event.operation == "write":
                assert event.path not in synced
            elif event.operation in ("rename", "link") and "/tmp/" in event.path:
                is_derived = "/leases/" in event.target or "/ledgers/" in event.target
                assert is_derived or event.path in synced
                named += not is_derived
    assert named > 40


def test_what_was_lost_is_noticed(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    events = campaign.record("commit")
    campaign.cut(events)
    assert campaign.states > 10
    kept = [event for event in events if event.operation != "sync folder"]
    with pytest.raises(oracle.ViolationError):
        campaign.cut(kept)


TRACED = {
    "openat": "create",
    "write": "write",
    "writev": "write",
    "fsync": "sync",
    "rename": "rename",
    "link": "link",
    "linkat": "link",
    "unlink": "remove",
    "mkdir": "make",
}

SCRIPT = """
import sys
from pathlib import Path
from tools.campaigns.operations import make_world
make_world(Path(sys.argv[1]))
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace here")
def test_the_recorder_sees_what_the_system_sees(tmp_path: Path) -> None:
    world, log = tmp_path / "world", tmp_path / "log"
    calls = ",".join(TRACED)
    command = ["strace", "-f", "-qq", "-y", "-e", f"trace={calls}", "-o", str(log)]
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT, str(world)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr.lower():
        pytest.skip("processes can not be traced here")
    assert done.returncode == 0, done.stderr
    seen = Counter(
        TRACED[line.split("(")[0].split()[-1]]
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if str(world) in line and not _only_reads(line)
    )
    assert seen == _recorded(tmp_path / "again")


def _only_reads(line: str) -> bool:
    return "openat(" in line and "O_CREAT" not in line


def _recorded(folder: Path) -> Counter[str]:
    recorder = power.Recorder(folder)
    with power.observed(recorder):
        scenario.STORE.make(folder)
    return Counter(event.operation.removesuffix(" folder") for event in recorder.events)
