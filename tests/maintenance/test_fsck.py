"""Every class of damage is found, by its stable word, with the commits that it concerns."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from gradient.codec.frame import Codec, Encoded
from gradient.errors import ContextError
from gradient.maintenance.fsck import tree_values
from gradient.maintenance.fsck.check import check
from gradient.maintenance.fsck.findings import CLASSES
from gradient.maintenance.fsck.repair import repair
from gradient.maintenance.garbage_collection import collect
from gradient.objects import canonical
from gradient.objects.commit import CommitRecord
from gradient.objects.oid import Kind, Oid
from gradient.objects.tree import Tree, ValueTree
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.fork import fork_commit
from gradient.repo.repository import Repository
from gradient.state import tensors
from gradient.storage import fs
from gradient.storage.directory import DirectoryStorage
from gradient.store import multi_pack_index as ledgers
from gradient.store.multi_pack_index import PackEntry
from gradient.store.pack import PackWriter, open_packs
from gradient.store.pack_format import FRAME_MAGIC, HEADER, TRAILER
from gradient.store.ref_record import RefRecord
from gradient.store.retention_log import RetentionRecord
from gradient.view.manifest import Manifest
from tests.maintenance import rig
from tests.maintenance.rig import TIME
from tools.campaigns import synthetic_repo

INSIDE = ".gradient-repo"
HEADS = f"{INSIDE}/refs/heads/main"
Damage = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return rig.build(tmp_path)


def first(root: Path) -> Path:
    """Return the pack of the first commit."""
    return rig.pack_of(root, oids(root)[0])


def oids(root: Path) -> list[Oid]:
    """Return the commits of main, oldest first."""
    records = Repository.open(root, workers=1).refs.log("main")
    return [record.commit for record in records if record.commit is not None]


def folder_for_file(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def link_for(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def reindexed(root: Path, change: Callable[[bytearray], None]) -> None:
    """Change a pack's index, and make every hash right again."""
    path = first(root)
    content = bytearray(path.read_bytes())
    offset, length = TRAILER.unpack(content[-TRAILER.size :])[:2]
    index = content[offset : offset + length]
    change(index)
    content[offset : offset + length] = index
    at = len(content) - TRAILER.size
    content[at + 24 : at + 56] = blake3(index).digest()
    name = blake3(content[: at + 56]).digest()
    content[at + 56 : at + 88] = name
    path.unlink()
    (path.parent / f"{name.hex()}.pack").write_bytes(content)


def payload(root: Path, kind: int) -> tuple[Path, int]:
    """Return where the payload of the first pack's first frame of a kind lies."""
    path = first(root)
    (opened,) = open_packs(DirectoryStorage(root / INSIDE), [path.stem])
    assert not isinstance(opened, Exception)
    rows = [opened.row(n) for n in range(len(opened.rows)) if opened.rows["kind"][n] == kind]
    return path, rows[0].offset + rows[0].header_bytes


def flip_payload(root: Path) -> None:
    path, at = payload(root, 3)
    rig.alter(path, bytes([path.read_bytes()[at] ^ 1]), at)


def undecodable(root: Path) -> None:
    path, at = payload(root, 1)
    rig.alter(path, b"\xff", at)


def altered_alike(root: Path) -> None:
    """Rename a sound pack: its trailer says so too, its hash does not."""
    path = first(root)
    content = bytearray(path.read_bytes())
    content[-40:-8] = bytes(32)
    path.unlink()
    (path.parent / f"{bytes(32).hex()}.pack").write_bytes(content)


def newer(root: Path) -> None:
    path = first(root)
    content = bytearray(path.read_bytes())
    content[8] = 2
    digest = blake3(content[:-40]).digest()
    content[-40:-8] = digest
    path.unlink()
    (path.parent / f"{digest.hex()}.pack").write_bytes(content)


def add_commit(
    root: Path, *objects: tuple[Kind, bytes], tree: Oid | None = None, **fields: object
) -> Oid:
    """Put a commit on main after its tip, with objects that may be malformed."""
    repo = Repository.open(root, workers=1)

    def build(branch: str, parent: Oid | None) -> Oid:
        changed = {
            "tree": tree or Oid.of(*objects[0]),
            "parents": () if parent is None else (parent,),
            "anchor": None,
            "step": 50,
            "branch": branch,
            "time": TIME,
            **fields,
        }
        body = CommitRecord(**changed).to_bytes()  # type: ignore[arg-type]
        rig.write_pack(root, *objects, (Kind.COMMIT, body))
        return Oid.of(Kind.COMMIT, body)

    return BranchWriter.open(repo, "main").moved_to(repo.tip("main")).publish(50, build).commit


def add_model(root: Path, model: bytes, *more: tuple[Kind, bytes]) -> Oid:
    """Put a commit on main whose model is a tree of these bytes."""
    body = Tree({"model": {"tree": str(Oid.of(Kind.TREE, model))}}).to_bytes()
    return add_commit(root, (Kind.TREE, body), (Kind.TREE, model), *more)


def raw_commit(root: Path, body: bytes) -> None:
    """Move main to a commit object of these bytes."""
    rig.write_pack(root, (Kind.COMMIT, body))
    refs = Repository.open(root, workers=1).refs
    refs.append("main", Oid.of(Kind.COMMIT, body), after=refs.read("main"), reason="test")


def differences(root: Path, *pairs: tuple[bytes, bytes], width: int = 0) -> None:
    """Add a pack of frames that say they are differences: body and base."""
    storage = DirectoryStorage(root / INSIDE)
    with storage.create() as upload:
        writer = PackWriter(upload)
        for body, base in pairs:
            content = bytes([1, 0, 1, 0]) + len(body).to_bytes(4, "little")
            encoded = Encoded(Codec.DELTA, (content[: len(body)],), min(8, len(body)))
            base_oid = Oid.of(Kind.BLOB, base)
            writer.append(Kind.BLOB, Oid.of(Kind.BLOB, body), len(body), encoded, base=base_oid)
        writer.publish()


def chain(root: Path) -> None:
    bodies = [bytes([n]) * 20 for n in range(12)]
    differences(root, *zip(bodies[1:], bodies, strict=False))
    rig.write_pack(root, (Kind.BLOB, bodies[0]))


def damaged_base(root: Path) -> None:
    path, at = payload(root, 1)
    rig.alter(path, b"\xff", at)
    differences(root, (b"x" * 300, bytes([1, 7]) * 150))


def dependent(root: Path) -> None:
    repo = Repository.open(root, workers=1)
    base = b"".join(blake3(bytes([n])).digest() for n in range(10))
    rig.write_pack(root, (Kind.BLOB, base))
    line = BranchWriter.open(repo, "main").moved_to(repo.tip("main"))
    line.publish(60, rig.builder(repo, 60, base[:-1] + b"x", base))
    assert any(Codec.DELTA in found.rows["codec"] for found in sound(root))


def sound(root: Path) -> list[object]:
    names = [path.stem for path in rig.packs(root)]
    return list(open_packs(DirectoryStorage(root / INSIDE), names))


def record(root: Path, content: bytes, seq: int = 3) -> None:
    rig.replace(root / HEADS / f"{seq:016d}", content)


def old(root: Path, seq: int = 3) -> bytes:
    return (root / HEADS / f"{seq:016d}").read_bytes()


def spelled(root: Path, ref: str = "heads/main", **fields: object) -> bytes:
    made = RefRecord.from_bytes(old(root), "heads/main", 3)
    values = {name: getattr(made, name) for name in RefRecord.__slots__}
    return RefRecord(**{**values, **fields}).to_bytes(ref)  # type: ignore[arg-type]


def wrong_check(root: Path) -> None:
    body = canonical.loads(old(root))
    assert type(body) is dict
    record(root, canonical.dumps({**body, "reason": "another"}))


def add_ledger(root: Path, *, lie: bool = False) -> Path:
    storage = DirectoryStorage(root / INSIDE)
    pages = []
    for pack in open_packs(storage, [path.stem for path in rig.packs(root)]):
        assert not isinstance(pack, Exception)
        index = bytearray(pack.index_bytes)
        index[49] ^= lie  # a codec
        pages.append(PackEntry(pack.id, pack.size, bytes(index), len(pack.rows), ()))
    ledgers.write(storage, pages)
    (path,) = (root / INSIDE / "ledgers").iterdir()
    return path


def ledger_flipped(root: Path) -> None:
    path = add_ledger(root)
    rig.alter(path, bytes([path.read_bytes()[-1] ^ 1]), path.stat().st_size - 1)


def manifest(root: Path, change: Callable[[dict[str, list[dict[str, object]]]], object]) -> None:
    Manifest(Repository.open(root, workers=1)).write()
    document = json.loads((root / "manifest.json").read_text())
    change(document)
    rig.replace(root / "manifest.json", json.dumps(document).encode())


def entry(name: str, value: object) -> Damage:
    return lambda root: manifest(root, lambda doc: doc["checkpoints"][0].update({name: value}))


def config(root: Path, **fields: object) -> None:
    path = root / INSIDE / "config.json"
    document = {**json.loads(path.read_text()), **fields}
    kept = {name: value for name, value in document.items() if value is not None}
    rig.replace(path, json.dumps(kept).encode())


def deep(root: Path) -> None:
    objects = []
    body = Tree({"x": 1}).to_bytes()
    for _ in range(105):
        objects.append((Kind.TREE, body))
        body = Tree({"t": {"tree": str(Oid.of(Kind.TREE, body))}}).to_bytes()
    add_commit(root, (Kind.TREE, body), *objects)


def two_lists(root: Path, content: bytes) -> None:
    oid = Oid.of(Kind.LIST, content)
    nbytes = 65 << 20
    node = {"dtype": "uint8", "shape": [nbytes], "nbytes": nbytes, "list": str(oid)}
    add_model(root, Tree({"w": {"tensor": node}}).to_bytes(), (Kind.LIST, content))


def one_blob(root: Path, named: object, size: int) -> bytes:
    node = {"dtype": "uint8", "shape": [size], "nbytes": size, "chunks": [str(named)]}
    return Tree({"w": {"tensor": node}}).to_bytes()


def forgotten(root: Path, seq: int = 1, raw: bytes | None = None) -> Path:
    """Let go of the first commit's state, by a record that may be damaged."""
    made = RetentionRecord(1, (oids(root)[0],), None, "--keep-last 2", TIME)
    path = root / INSIDE / "retention" / f"{seq:016d}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(made.to_bytes() if raw is None else raw)
    return path


def wrong_policy(root: Path) -> None:
    path = forgotten(root)
    path.write_bytes(path.read_bytes().replace(b"last 2", b"last 3"))


BLOB = b"b" * 300
BLOB_ID = Oid.of(Kind.BLOB, BLOB)
NO_ID = Oid(bytes(31) + b"\1")

DAMAGE: dict[str, Damage] = {
    "folder-missing": lambda r: (r / INSIDE / "refs").rename(r / "gone"),
    "folder-replaced": lambda r: link_for(r / INSIDE / "objects"),
    "config-missing": lambda r: (r / INSIDE / "config.json").unlink(),
    "config-replaced": lambda r: folder_for_file(r / INSIDE / "config.json"),
    "config-malformed": lambda r: rig.replace(r / INSIDE / "config.json", b"{"),
    "config-unversioned": lambda r: config(r, format=None),
    "config-version": lambda r: config(r, format=99),
    "config-field": lambda r: config(r, repo_name=7),
    "workspace-config": lambda r: rig.replace(r.parent / ".gradient/config.json", b"[]"),
    "head-replaced": lambda r: link_for(r / INSIDE / "HEAD"),
    "head-malformed": lambda r: rig.replace(r / INSIDE / "HEAD", b"../x\n"),
    "head-unborn": lambda r: rig.replace(r / INSIDE / "HEAD", b"maim\n"),
    "pack-replaced": lambda r: folder_for_file(first(r)),
    "pack-foreign": lambda r: (r / INSIDE / "objects/pack/x.idx").write_bytes(b""),
    "pack-empty": lambda r: rig.replace(first(r), b""),
    "pack-cut": lambda r: rig.replace(first(r), first(r).read_bytes()[:200]),
    "pack-extended": lambda r: rig.replace(first(r), first(r).read_bytes() + b"\0"),
    "pack-header": lambda r: rig.alter(first(r), b"x", 0),
    "pack-version": newer,
    "pack-trailer": lambda r: rig.alter(first(r), b"x", first(r).stat().st_size - 1),
    "pack-name": lambda r: first(r).rename(first(r).with_name("ab" * 32 + ".pack")),
    "pack-index-place": lambda r: rig.alter(first(r), b"\xff", first(r).stat().st_size - 96),
    "pack-index-hash": lambda r: rig.alter(first(r), b"\xff", first(r).stat().st_size - 100),
    "pack-index-rows": lambda r: reindexed(r, lambda index: index.__setitem__(51, 1)),
    "pack-hash": altered_alike,
    "frame-header": lambda r: rig.alter(first(r), b"x", HEADER.size),
    "frame-undecodable": undecodable,
    "frame-hash": flip_payload,
    "frame-base-missing": lambda r: differences(r, (b"x" * 20, b"y" * 20)),
    "frame-base-damaged": damaged_base,
    "frame-base-length": lambda r: differences(r, (b"x" * 20, bytes([1, 7]) * 150)),
    "frame-base-cycle": lambda r: differences(r, (b"x" * 20, b"y" * 20), (b"y" * 20, b"x" * 20)),
    "frame-base-deep": chain,
    "object-missing": lambda r: add_model(r, one_blob(r, NO_ID, 300)),
    "object-damaged": flip_payload,
    "object-kind": lambda r: add_model(r, one_blob(r, oids(r)[0], 300)),
    "commit-malformed": lambda r: raw_commit(r, b"{}"),
    "commit-parent": lambda r: first(r).unlink(),
    "commit-anchor": lambda r: add_commit(r, (Kind.TREE, Tree({}).to_bytes()), anchor=NO_ID),
    "commit-step": lambda r: raw_commit(
        r, CommitRecord(*_tree_of(r), (oids(r)[2],), None, 0, "main", TIME).to_bytes()
    ),
    "commit-dependent": dependent,
    "commit-unreachable": lambda r: (
        (r / HEADS / f"{3:016d}").unlink() or (r / INSIDE / "refs/tags/best" / f"{1:016d}").unlink()
    ),
    "root-malformed": lambda r: add_commit(r, (Kind.TREE, Tree({"a": 1}).to_bytes())),
    "tree-malformed": lambda r: add_model(r, b'{"entries":[]}'),
    "tree-deep": deep,
    "value-malformed": lambda r: add_model(r, ValueTree({"exec": "id"}).to_bytes()),
    "tensor-malformed": lambda r: add_model(
        r, one_blob(r, BLOB_ID, 300).replace(b'"shape":[300]', b'"shape":[301]'), (Kind.BLOB, BLOB)
    ),
    "chunk-length": lambda r: add_model(r, one_blob(r, BLOB_ID, 301), (Kind.BLOB, BLOB)),
    "list-malformed": lambda r: two_lists(r, b"x" * 33),
    "ref-foreign": lambda r: (r / INSIDE / "refs/heads/UPPER").mkdir(),
    "ref-replaced": lambda r: link_for(r / HEADS / f"{2:016d}"),
    "ref-name": lambda r: (r / INSIDE / "refs/heads/latest").mkdir(),
    "ref-collision": lambda r: (r / INSIDE / "refs/heads/%4dain").mkdir(),
    "ref-empty": lambda r: (r / INSIDE / "refs/heads/side").mkdir(),
    "record-large": lambda r: record(r, b"x" * 70_000),
    "record-torn": lambda r: record(r, old(r)[:100]),
    "record-malformed": lambda r: record(r, b'{"a":1}'),
    "record-check": wrong_check,
    "record-misplaced": lambda r: record(r, spelled(r, "heads/other")),
    "record-previous": lambda r: (
        record(r, spelled(r, seq=9, previous=8), 9) or record(r, old(r), 8)
    ),
    "record-gap": lambda r: (r / HEADS / f"{2:016d}").unlink(),
    "record-fence": lambda r: record(r, spelled(r, kind="fence")),
    "ref-tip-lost": lambda r: rig.pack_of(r, oids(r)[2]).unlink(),
    "ref-commit-lost": lambda r: first(r).unlink(),
    "retention-foreign": lambda r: forgotten(r).rename(r / INSIDE / "retention/x"),
    "retention-replaced": lambda r: link_for(forgotten(r)),
    "retention-large": lambda r: forgotten(r, raw=b"x" * ((1 << 20) + 1)),
    "retention-torn": lambda r: forgotten(r, raw=b'{"check":'),
    "retention-malformed": lambda r: forgotten(r, raw=b'{"a":1}'),
    "retention-check": wrong_policy,
    "retention-misplaced": lambda r: forgotten(r, 2),
    "retention-gap": lambda r: forgotten(r, 2),
    "ledger-malformed": ledger_flipped,
    "ledger-wrong": lambda r: add_ledger(r, lie=True),
    "manifest-malformed": lambda r: rig.replace(r / "manifest.json", b"{"),
    "manifest-foreign": entry("id", 7),
    "manifest-stale": entry("ref", "main@77"),
    "manifest-missing": lambda r: manifest(r, lambda doc: doc["checkpoints"].pop()),
    "view-missing": entry("file", "/x/ckpt_main_s1.pt"),
    "view-damaged": lambda r: (r / "ckpt_main_s1.pt").write_bytes(b"PK\3\4half"),
    "view-foreign": lambda r: (r / "ckpt_main_s1.pt").write_bytes(b"their own"),
    "view-stale": lambda r: (r / "ckpt_main_s1.pt").write_bytes(
        b"PKgradient-view/1 full " + b"ab" * 32
    ),
    "leftover": lambda r: (r / INSIDE / "tmp/0123").write_bytes(b"half"),
}


def _tree_of(root: Path) -> tuple[Oid]:
    return (Repository.open(root, workers=1).read_commit(oids(root)[0]).tree,)


UNPROVOKED = {"pack-unreadable", "record-unreadable"}
"""Classes that need a failing disk: `test_a_disk_that_can_not_be_read`."""


def test_the_table_of_damage_is_complete() -> None:
    assert set(DAMAGE) | UNPROVOKED == set(CLASSES)
    assert len(CLASSES) >= 40


def test_a_sound_repo_has_no_findings(root: Path) -> None:
    report = check(root, workers=1)
    assert report.findings == ()
    assert (report.commits, report.packs, report.frames) == (3, 3, 12)
    assert report.complete
    assert report.damaged == ()


@pytest.mark.parametrize("word", DAMAGE)
def test_each_class_is_found(word: str, root: Path) -> None:
    DAMAGE[word](root)
    report = check(root, workers=1)
    assert word in rig.words(report), [f"{f.id}: {f.message}" for f in report.findings]
    if CLASSES[word].severity == "error":
        assert not report.is_sound


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda pack: pack[:8] + b"\2" + pack[9:], "pack-header"),
        (lambda pack: frames_of(pack) + FRAME_MAGIC[:2], "pack-cut"),
        (lambda pack: frames_of(pack) + b"xx", "pack-trailer"),
        (lambda pack: frames_of(pack)[:-1], "pack-cut"),
    ],
    ids=["a version that was damaged", "within a frame's name", "other bytes", "within a frame"],
)
def test_what_damage_is_taken_for(damage: Callable[[bytes], bytes], word: str, root: Path) -> None:
    rig.replace(first(root), damage(first(root).read_bytes()))
    name = first(root).name
    found = {finding.id for finding in check(root, workers=1).findings if name in finding.path}
    assert found == {word}


def frames_of(pack: bytes) -> bytes:
    """Return a pack without what follows its frames."""
    return pack[: TRAILER.unpack(pack[-TRAILER.size :])[0]]


def test_a_raw_frame_that_is_shorter_than_its_object(root: Path) -> None:
    storage = DirectoryStorage(root / INSIDE)
    with storage.create() as upload:
        writer = PackWriter(upload)
        writer.append(Kind.BLOB, BLOB_ID, len(BLOB), Encoded(Codec.RAW, (BLOB[:-1],), 299))
        writer.publish()
    assert rig.look(root) >= {"frame-undecodable"}


def test_a_special_file_is_never_opened(root: Path) -> None:
    path = first(root)
    path.unlink()
    os.mkfifo(path)
    os.mkfifo(root / HEADS / f"{4:016d}")
    os.mkfifo(root / INSIDE / "objects/pack/pipe")
    assert {"pack-replaced", "ref-replaced", "pack-foreign"} <= rig.look(root)


def test_a_disk_that_can_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(call: fs.Call) -> None:
        if call.operation == "read" and call.path.endswith(first_name):
            raise OSError(5, "Input/output error")

    first_name = first(root).name
    monkeypatch.setattr(fs.calls, "observer", fail)
    assert "pack-unreadable" in rig.look(root)
    first_name = f"main/{2:016d}"
    assert "record-unreadable" in rig.look(root)
    done = repair(str(root), workers=1)
    assert done.actions == (), "what can not be read just now stays where it is"


def test_findings_name_the_commits_they_concern(root: Path) -> None:
    flip_payload(root)
    report = check(root, workers=1)
    found = {finding.id: finding for finding in report.findings}
    assert found["object-damaged"].commits == ("main@1",)
    assert found["frame-hash"].commits == ("main@1",)
    assert report.damaged == ("main@1",)
    document = found["frame-hash"].document()
    assert document["path"] == f"{INSIDE}/objects/pack/{first(root).name}"
    assert document["remedy"]


def test_a_pack_without_its_index_still_tells_who_needs_it(root: Path) -> None:
    path = first(root)
    rig.replace(path, path.read_bytes()[:-50])
    (found,) = (f for f in check(root, workers=1).findings if f.id.startswith("pack-"))
    assert found.commits == (f"main ({oids(root)[0].short})",)


def test_quick_looks_at_structure_alone(root: Path) -> None:
    undecodable(root)
    report = check(root, quick=True, workers=1)
    assert report.is_sound
    assert not report.complete
    assert report.frames == 0
    differences(root, (b"x" * 20, b"y" * 20))
    assert "frame-base-missing" in rig.words(check(root, quick=True, workers=1))


def test_the_subsets_together_look_at_everything(root: Path) -> None:
    undecodable(root)
    reports = [check(root, subset=(n, 3), workers=1) for n in (1, 2, 3)]
    assert sum(report.frames for report in reports) == 12
    assert [report.is_sound for report in reports].count(False) == 1
    assert not any(report.complete for report in reports)


def test_a_limit_of_time_ends_it_early(root: Path) -> None:
    report = check(root, max_time=1e-9, workers=1)
    assert report.frames == 0
    assert not report.complete
    assert check(root, max_time=600, workers=1).complete


def test_what_was_forgotten_need_not_be_there(root: Path) -> None:
    forgotten(root)
    assert check(root, workers=1).findings == ()
    collect(Repository.open(root, workers=1), grace=0.0)
    report = check(root, workers=1)
    assert (report.findings, report.commits) == ((), 3)
    for path in (root / INSIDE / "retention").iterdir():
        path.unlink()
    assert "object-missing" in rig.look(root)


def test_a_branch_keeps_what_it_stands_on(root: Path) -> None:
    made = RetentionRecord(1, (oids(root)[2],), None, "--keep-last 0", TIME)
    forgotten(root, raw=made.to_bytes())
    collect(Repository.open(root, workers=1), grace=0.0)
    tree = Repository.open(root, workers=1).read_commit(oids(root)[2]).tree
    for path in rig.packs(root):
        (pack,) = open_packs(DirectoryStorage(root / INSIDE), [path.stem])
        assert not isinstance(pack, Exception)
        if tree in pack.rows["oid"].tobytes():
            path.unlink()
    assert "ref-tip-lost" in rig.look(root)


def test_progress_is_told(root: Path) -> None:
    seen = []
    check(root, workers=1, progress=lambda *each: seen.append(each))
    assert seen[-1] == ("commits", 3, None)
    assert {what for what, _, _ in seen} == {"bytes", "commits"}


def test_where_there_is_no_repo(tmp_path: Path) -> None:
    with pytest.raises(ContextError):
        check(tmp_path)


def test_the_sizes_of_elements_are_those_of_tensors() -> None:
    assert tree_values.ITEM_SIZES == tensors.ITEM_SIZES


@pytest.mark.parametrize("again", [False, True], ids=["no ref", "a ref's past"])
def test_what_a_collection_has_half_removed_is_no_damage(tmp_path: Path, *, again: bool) -> None:
    repo = synthetic_repo.make(tmp_path / "run")
    synthetic_repo.commit(synthetic_repo.go_on(repo, "main"), 1, 8)
    before = set(synthetic_repo.packs_of(repo))
    fork_commit(repo, repo.resolve("main@1"), "side")
    (rest,) = set(synthetic_repo.packs_of(repo)) - before
    for name in ("main", "side"):
        synthetic_repo.delete(repo, name)
    for path in (tmp_path / "run" / INSIDE / "objects/pack").iterdir():
        if path.name != rest:
            path.unlink()
    if again:
        line = synthetic_repo.BranchWriter.open(Repository.open(repo.path, workers=1), "side")
        synthetic_repo.commit(line, 5, 16)
    report = check(tmp_path / "run", workers=1)
    assert report.is_sound, rig.words(report)
    assert report.damaged == ()
