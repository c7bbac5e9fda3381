"""What is stored gets smaller, and is readable at every moment while it does."""

from __future__ import annotations

import errno
import struct
import threading
from pathlib import Path

import pytest

from gradient.codec.mode import Mode
from gradient.errors import CorruptObjectError
from gradient.maintenance.fsck.check import check
from gradient.maintenance.garbage_collection import collect
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.repository import Repository
from gradient.storage import fs
from gradient.store import transcode
from tests.cli.command import call
from tests.repo.making import make_repo
from tests.storage.faults import observed
from tools.campaigns.synthetic_repo import TIME, read_everything

FLOATS = 4000


def content(number: int) -> bytes:
    """Return floats that byte planes shrink; those of one family differ little."""
    family, member = divmod(number, 4)
    values = (1.0 + ((family * 977 + place * 31) % 4096) / 65536 for place in range(FLOATS))
    raw = bytearray(struct.pack(f"<{FLOATS}f", *values))
    for place in range(0, len(raw), 400):
        raw[place] = (raw[place] + member) % 256
    return bytes(raw)


def commit(line: BranchWriter, step: int, *numbers: int, lean: bool = False) -> Oid:
    """Commit chunks as they are, or as differences."""
    repo = line.repo

    def build(branch: str, parent: Oid | None) -> Oid:
        mode = Mode.AUTO if lean else Mode.OFF
        with repo.store.begin(mode=mode, whole=not lean) as transaction:
            bases = [Oid.of(Kind.BLOB, content(number - number % 4)) for number in numbers]
            chunks = transaction.put_chunks(
                map(content, numbers), width=4, bases=bases if lean else None
            )
            spec = {"dtype": "float32", "shape": [FLOATS], "nbytes": 4 * FLOATS}
            model = Tree(
                {
                    f"w{place}": {"tensor": {**spec, "chunks": [str(oid)]}}
                    for place, oid in enumerate(chunks)
                }
            )
            named = {"model": {"tree": str(transaction.put(Kind.TREE, model.to_bytes()))}}
            root = transaction.put(Kind.TREE, Tree(named).to_bytes())
            parents = () if parent is None else (parent,)
            made = CommitRecord(root, parents, None, step, branch, TIME)
            oid = transaction.put(Kind.COMMIT, made.to_bytes())
            transaction.seal()
        return oid

    return line.publish(step, build).commit


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    """Five commits, too few to be merged."""
    repo = make_repo(tmp_path / "run")
    line = BranchWriter.open(repo, "main")
    for step in range(5):
        commit(line, step, step, 40, 80 + 4 * step, lean=step == 3)
    return repo


def stored(repo: Repository) -> int:
    return Repository.open(repo.path, workers=1).store.stats().stored_bytes


def test_what_was_stored_as_it_is_shrinks(repo: Repository) -> None:
    before, expected = stored(repo), read_everything(repo.path)
    done = collect(repo, grace=0.0, recompress=True)
    after = stored(repo)
    assert done.recompressed >= 4
    assert done.saved_bytes == pytest.approx(before - after, abs=3000)
    assert after < 0.7 * before
    assert read_everything(repo.path) == expected
    assert check(repo.path, workers=1).is_sound
    again = collect(repo, grace=0.0, recompress=True)
    assert (again.recompressed, again.written, stored(repo)) == (0, 0, after)
    assert collect(repo, grace=0.0).dead == 0


def test_the_command(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo.path)
    assert "5 rewritten: saves" in call("gc", "--recompress", "--grace", "0").output
    call("fsck")
    for other in ("-n", "--undo"):
        assert "cannot be combined" in call("gc", "--recompress", other, code=2).output


def test_others_read_while_it_goes_on(repo: Repository) -> None:
    expected = read_everything(repo.path)
    found: list[object] = []
    going = threading.Event()

    def read() -> None:
        while not going.is_set():
            found.append(read_everything(repo.path))

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(3):
        collect(Repository.open(repo.path, workers=1), grace=0.0, recompress=True)
    going.set()
    thread.join()
    assert all(each == expected for each in found)


def test_what_was_open_before_is_read_after(repo: Repository) -> None:
    reader = Repository.open(repo.path, workers=1)
    oid = Oid.of(Kind.BLOB, content(1))
    assert oid in reader.store
    collect(repo, grace=0.0, recompress=True)
    assert reader.store.read(oid, Kind.BLOB) == content(1)


def test_without_room_some_get_smaller_and_nothing_is_lost(repo: Repository) -> None:
    expected, before = read_everything(repo.path), stored(repo)
    made: set[str] = set()

    def full(call: fs.Call) -> None:
        if call.operation == "create" and "/tmp/" in call.path:
            made.add(call.path)
        if call.operation == "write" and len(made) > 4:
            raise OSError(errno.ENOSPC, "full")

    with observed(full):
        done = collect(repo, grace=0.0, recompress=True)
    assert done.full
    assert 0 < done.recompressed < 4
    assert read_everything(repo.path) == expected
    assert stored(repo) < before
    assert not collect(repo, grace=0.0, recompress=True).full
    assert read_everything(repo.path) == expected


def test_a_form_that_does_not_come_back_is_not_written(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(repo.storage.names("objects/pack"))
    encode = transcode.encode
    other = content(7)

    def wrong(raw: object, **options: object) -> object:
        return encode(other, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(transcode, "encode", wrong)
    with pytest.raises(CorruptObjectError, match="does not come back from its new form"):
        collect(repo, grace=0.0, recompress=True)
    assert sorted(repo.storage.names("objects/pack")) == before
