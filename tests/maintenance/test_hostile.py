"""Whatever a repo from someone else holds, looking at it runs no code and imports nothing."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.repo.foreign_files import Mark
from tests.maintenance import rig
from tests.maintenance.test_fsck import DAMAGE, INSIDE, add_commit, add_model

ROOT = Path(__file__).resolve().parents[2]

WATCH = """
import sys
from pathlib import Path

import gradient.repo.damage  # imported where damage is met
from gradient.checkpoint import reader
from gradient.cli.main import cli
from gradient.errors import GradientError
from gradient.repo.repository import Repository

FORBIDDEN = ("pickle.find_class", "os.exec", "os.system", "os.posix_spawn", "os.spawn", "os.fork",
             "subprocess.Popen", "socket.connect", "exec", "ctypes.dlopen", "os.remove",
             "os.rename", "os.mkdir", "os.symlink", "os.link", "shutil.rmtree")
seen, watching = [], False


def hook(event, args):
    if not watching:
        return
    if event == "import":
        seen.append(("import", str(args[0])))
    elif event.startswith(FORBIDDEN):
        seen.append((event, repr(args)[:200]))
    elif event == "open" and args[1] is not None and set(str(args[1])) & set("wax+"):
        seen.append((event, repr(args)[:200]))


def commands(folder):
    for words in (["fsck"], ["fsck", "--json"], ["fsck", "--quick"], ["status"], ["branch"]):
        try:
            cli.main(["-w", str(folder.parent), "-r", folder.name, *words], standalone_mode=False)
        except GradientError:
            pass
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "click":
                raise


def load(folder):
    try:
        repo = Repository.open(folder, workers=1)
        oids = list(repo.store.commits())
    except GradientError:
        return
    for oid in oids:
        try:
            commit = repo.read_commit(oid)
            reader.read_state(repo.store, commit.tree)
        except GradientError:
            pass


sys.addaudithook(hook)
first, *rest = map(Path, sys.argv[1:])
commands(first)  # what is imported when it is needed is there now
load(first)
watching = True
for folder in rest:
    commands(folder)
    load(folder)
watching = False
assert not seen, "\\n".join(f"{event} {what}" for event, what in seen[:20])
print("quiet", len(rest))
"""


class Payload:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def evil(root: Path) -> None:
    """Put pickles, paths and lies wherever there is room for them."""
    bomb = pickle.dumps(Payload())
    add_model(root, ValueTree({"pickle": bomb.hex()}).to_bytes())
    add_model(root, ValueTree({"defaultdict": {"factory": "os.system", "items": []}}).to_bytes())
    add_model(root, Tree({"../../x": {"dtype": "__import__('os')"}}).to_bytes())
    odd = Tree({"command": "sh -c 'touch pwned'", "cwd": "/"}).to_bytes()
    add_commit(
        root,
        (Kind.TREE, Tree({}).to_bytes()),
        (Kind.TREE, odd),
        environment=Oid.of(Kind.TREE, odd),
        message="\x1b]0;title\x07",
    )
    mark = Mark("full", Oid(bytes(32))).to_bytes()
    (root / "ckpt_main_s1.pt").write_bytes(b"PK" + bomb + mark)
    (root / "ckpt_evil.pt").write_bytes(bomb)
    entry = {"id": "ab" * 32, "ref": "main@1", "file": "../../../../etc/passwd"}
    (root / "manifest.json").write_text(json.dumps({"checkpoints": [entry, bomb.hex()]}))
    (root / INSIDE / "HEAD").write_bytes(b"../../../x\n")
    note = {"command": "$(touch pwned)", "cwd": "/", "time": "9999"}
    (root / INSIDE / "last-run.json").write_text(json.dumps(note))


def test_nothing_runs_is_imported_or_written(tmp_path: Path) -> None:
    sound = rig.build(tmp_path / "sound")
    folders = []
    for number, word in enumerate(DAMAGE):
        folders.append(rig.copy(sound, tmp_path / f"case{number}"))
        DAMAGE[word](folders[-1])
    folders.append(rig.copy(sound, tmp_path / "evil"))
    evil(folders[-1])
    watch = Path("watch.py")
    watch.write_text(WATCH, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, watch, sound, *folders],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.rstrip().endswith(f"quiet {len(folders)}")
    assert not Path("pwned").exists()
