"""The history of a repo that the published gradient-desc (up to 0.1.17) wrote.

There, ``manifest.json`` lists the checkpoints and each is one ``.pt`` file: an *anchor* holds the
whole state, a *delta* holds what to add to an anchor's tensors, rounded to half precision. A delta
is taken over as that package would restore it, so bit for bit; but what it would restore is not
what was trained, and the commit says so (``lossy``).

Only refs ``branch@step`` and, for a fork's first commit, its source are recorded there. So a
branch's commits follow each other by step, and a branch begins at its source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import torch

from gradient.checkpoint import writer
from gradient.codec.mode import Mode
from gradient.errors import IntegrityError, MalformedObjectError, NotFoundError
from gradient.integrations import guarded
from gradient.objects.commit import MAX_STEP, Commit
from gradient.objects.oid import Kind, Oid
from gradient.repo import documents, foreign, layout, names
from gradient.repo.config import timestamp
from gradient.repo.lines import Line
from gradient.repo.repository import Repository
from gradient.state.names import stripped
from gradient.state.run import BUILT_IN, RESERVED
from gradient.storage import fs

_OWN_KEYS = frozenset({"step", "meta"})
_RENAMED = {"amp": "amp_scaler", "external": "external_state"}


@dataclass(frozen=True, slots=True)
class Listed:
    """One checkpoint, as the manifest lists it."""

    branch: str
    step: int
    file: str
    """Where it lies now, absolute."""
    created_at: str | None
    id: str | None

    @property
    def ref(self) -> str:
        """What it is called there."""
        return f"{self.branch}@{self.step}"


@dataclass(frozen=True, slots=True)
class Source:
    """A repo of the published package."""

    path: str
    """Its folder."""
    name: str
    """Its name."""
    description: str
    """What its maker said about it."""
    checkpoints: tuple[Listed, ...]
    """By branch and step; sources of forks come before them."""
    absent: tuple[str, ...] = ()
    """Refs that the manifest lists and that are not on this machine."""


@dataclass(slots=True)
class Imported:
    """What an import did."""

    commits: int = 0
    """Commits that were written."""
    lossy: list[str] = field(default_factory=list)
    """Those that were deltas at the source."""
    notes: list[str] = field(default_factory=list)
    """What did not come over as it was, one sentence each."""


def open_source(path: str) -> Source:
    """Read what a repo of the published package lists.

    Raises NotFoundError where there is none, MalformedObjectError for a damaged manifest.
    """
    root = fs.absolute(path)
    raw = documents.read_bytes(layout.beside(root, layout.MANIFEST))
    files = foreign.checkpoint_names(root) if fs.is_folder(root) else []
    if raw is None and not files:
        raise NotFoundError(f"{root} holds neither a manifest.json nor ckpt_*.pt files")
    config = documents.read(layout.inside(root, layout.CONFIG)) or {}
    if "format" in config:
        raise NotFoundError(f"{root} is a repo of this Gradient: there is nothing to import")
    manifest = _manifest(root, raw)
    found = [_listed(root, entry) for entry in manifest["checkpoints"]]
    listed = [each for each in found if isinstance(each, Listed)]
    absent = [each for each in found if isinstance(each, str)]
    known = {PurePath(each.file).name for each in listed}
    unlisted = [layout.beside(root, name) for name in files if name not in known]
    listed.extend(_read_unlisted(unlisted, {each.ref for each in listed}))
    return Source(
        path=root,
        name=documents.text(config, "repo_name") or PurePath(root).name,
        description=str(manifest.get("description") or config.get("description") or ""),
        checkpoints=tuple(sorted(listed, key=lambda each: (each.branch, each.step))),
        absent=tuple(absent),
    )


def import_history(
    source: Source, repo: Repository, *, progress: Callable[[int], object] | None = None
) -> Imported:
    """Write all of a source's checkpoints as commits of an empty repo.

    Raises IntegrityError or UnsupportedValueError, naming the file, for one that cannot be read.
    """
    return _Import(source, repo, progress).run()


class _Import:
    def __init__(
        self, source: Source, repo: Repository, progress: Callable[[int], object] | None
    ) -> None:
        self._source = source
        self._repo = repo
        self._progress = progress
        self._files = {each.ref: each.file for each in source.checkpoints}
        self._anchor: tuple[str, dict[str, Any]] | None = None
        self._commits: dict[str, Oid] = {}
        self._done = Imported()

    def run(self) -> Imported:
        by_branch: dict[str, list[Listed]] = {}
        for each in self._source.checkpoints:
            by_branch.setdefault(each.branch, []).append(each)
        waiting = {branch: self._parent(line[0]) for branch, line in by_branch.items()}
        while waiting:
            ready = [b for b, parent in waiting.items() if _branch_of(parent) not in waiting]
            # A circle can only come from a damaged file: begin somewhere.
            branch = ready[0] if ready else next(iter(waiting))
            self._take_branch(branch, by_branch[branch], waiting.pop(branch))
        for ref in self._source.absent:
            self._done.notes.append(f"{ref} is not on this machine and was left out")
        return self._done

    def _parent(self, first: Listed) -> str | None:
        """Return the ref that a branch was forked from, as its first checkpoint says."""
        ref = _meta(self._payload(first.file)).get("parent_ref")
        if type(ref) is not str or ref not in self._files or _branch_of(ref) == first.branch:
            return None
        step = ref.rpartition("@")[2]
        return ref if step.isdecimal() and int(step) <= first.step else None

    def _take_branch(self, name: str, checkpoints: list[Listed], parent: str | None) -> None:
        branch = self._usable(name)
        line = Line.create(self._repo, branch)
        line.moved_to(self._commits.get(parent) if parent is not None else None)
        times = [_time(each.created_at) for each in checkpoints]
        if times != sorted(times):
            self._done.notes.append(
                f"{name}: steps were committed out of order there; they follow each other by step"
            )
        for each in checkpoints:
            self._take(line, each)
            line.moved_to(line.position)

    def _usable(self, name: str) -> str:
        taken = self._repo.branches()
        branch = name
        number = 2
        while not names.is_branch_name(branch, taken) or branch in taken:
            safe = "".join(c if c.isalnum() or c in "-_./" else "-" for c in name).strip("./-")
            branch = f"{safe or 'branch'}-{number}"
            number += 1
        if branch != name:
            self._done.notes.append(f"the branch {name!r} is called {branch!r} here")
        return branch

    def _take(self, line: Line, listed: Listed) -> None:
        payload = self._payload(listed.file)
        meta = _meta(payload)
        lossy = bool(payload["is_delta"])
        state = self._state(listed, self._restored(listed, payload) if lossy else payload["data"])
        origin = {
            "imported": "gradient-desc",
            "revision": listed.ref,
            "id": str(meta.get("ckpt_id") or listed.id or ""),
            "type": "delta" if lossy else "anchor",
            "lossy": lossy,
        }
        message = meta.get("message")

        def build(branch: str, parent: Oid | None) -> Oid:
            with self._repo.store.begin(mode=Mode.AUTO) as transaction:
                commit = Commit(
                    tree=writer.write_state(transaction, state),
                    parents=() if parent is None else (parent,),
                    anchor=None,
                    step=listed.step,
                    branch=branch,
                    time=_time(listed.created_at),
                    message=message if type(message) is str else "",
                    fork=writer.write_value(transaction, origin, name="origin"),
                )
                oid = transaction.put(Kind.COMMIT, commit.to_bytes())
                transaction.seal()
            return oid

        published = line.publish(listed.step, build, reason=f"import of {listed.ref}")
        self._commits[listed.ref] = published.commit
        self._done.commits += 1
        if lossy:
            self._done.lossy.append(f"{published.branch}@{listed.step}")
        if self._progress is not None:
            self._progress(1)

    def _payload(self, file: str) -> dict[str, Any]:
        """Read one file; the last anchor is kept for the deltas that follow it."""
        if self._anchor is not None and self._anchor[0] == file:
            return self._anchor[1]
        payload = guarded.load(file)
        data = payload.get("data") if isinstance(payload, dict) else None
        if not isinstance(data, dict) or "is_delta" not in payload:
            raise MalformedObjectError(f"{file} is not a checkpoint of gradient-desc")
        if not payload["is_delta"]:
            self._anchor = (file, payload)
        return dict(payload)

    def _restored(self, listed: Listed, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return a delta's state as the published package would restore it."""
        data = payload["data"]
        anchor = self._payload(self._anchor_file(listed, payload))
        if anchor["is_delta"]:
            raise IntegrityError(f"{listed.file}: its anchor is a delta itself")
        base = anchor["data"]
        full = {name: value for name, value in base.items() if name not in _OWN_KEYS}
        for name, value in data.items():
            if name in _OWN_KEYS:
                continue
            summed = name == "model" or (name == "optimizer" and self._sums_optimizer(data))
            full[name] = add(base[name], value) if summed and name in base else value
        return full

    def _anchor_file(self, listed: Listed, payload: Mapping[str, Any]) -> str:
        ref, path = payload.get("anchor_ref"), payload.get("anchor_path")
        if type(ref) is str and ref in self._files:
            return self._files[ref]
        if type(path) is str:
            beside = layout.beside(self._source.path, PurePath(path).name)
            if fs.is_file(beside):
                return beside
        raise IntegrityError(f"{listed.file}: its anchor {ref or path} is not there")

    def _sums_optimizer(self, data: Mapping[str, Any]) -> bool:
        """Tell whether the optimizer's part holds differences (the default) or the state itself.

        Compressed tensors are marked, and are always differences. A run whose model is compressed
        and whose optimizer is not kept the latter whole. Without compression nothing tells them
        apart: the package's default is assumed, and said.
        """
        if _has_compressed(data["optimizer"]) or not _has_tensors(data["optimizer"]):
            return True
        if _has_compressed(data["model"]):
            return False
        note = "the optimizer's deltas are not marked as such; they were read as the default has it"
        if note not in self._done.notes:
            self._done.notes.append(note)
        return True

    def _state(self, listed: Listed, data: Mapping[str, Any]) -> dict[str, Any]:
        """Arrange a payload's data as the components of a run."""
        state: dict[str, Any] = {}
        for name, value in data.items():
            if name in _OWN_KEYS or name == "distributed" or value is None:
                continue
            if name == "model":
                short = stripped(value)
                state[name] = {short[key]: tensor for key, tensor in value.items()}
            elif name == "optimizer":
                # Neither its class nor its parameters' names are known: it is loaded by position.
                state[name] = {"class": None, "opaque": value}
            elif name == "rng":
                state[name] = _generators(value)
            elif name in BUILT_IN:
                state[name] = value
            else:
                self._register(state, name, value)
        if data.get("distributed"):
            note = f"{listed.ref}: only this rank's part of a distributed run came over"
            self._done.notes.append(note)
        return state

    def _register(self, state: dict[str, Any], name: str, value: Any) -> None:
        wrapped = isinstance(value, dict) and value.keys() == {"version", "state"}
        content = value["state"] if wrapped else value
        if content is None and name == "external":
            return
        taken = _RENAMED.get(name, f"{name}_state" if name in RESERVED else name)
        if taken != name:
            note = f"the state {name!r} is called {taken!r} here"
            if note not in self._done.notes:
                self._done.notes.append(note)
        state[taken] = content


def add(anchor: Any, delta: Any) -> Any:
    """Add a delta to an anchor's nested state, in the arithmetic that the package uses."""
    if not isinstance(delta, Mapping):
        return delta
    result: dict[Any, Any] = {}
    for key, value in delta.items():
        base = anchor.get(key) if isinstance(anchor, Mapping) else None
        if base is None:
            result[key] = value
        elif isinstance(value, torch.Tensor):
            result[key] = base + value
        elif _is_compressed(value):
            result[key] = base + _expand(base, value)
        elif isinstance(value, Mapping):
            result[key] = add(base, value)
        else:
            result[key] = value
    return result


def _expand(base: torch.Tensor, packed: Mapping[str, Any]) -> torch.Tensor:
    """Return the difference that a compressed tensor stands for, in the anchor's dtype."""
    scheme, shape = packed["scheme"], tuple(packed["shape"])
    if shape != tuple(base.shape):
        raise IntegrityError(f"a delta of shape {shape} for a tensor of shape {tuple(base.shape)}")
    if scheme == "zeros":
        return torch.zeros(shape, dtype=base.dtype)
    values: torch.Tensor = packed["values"].to(torch.float16).to(base.dtype)
    if scheme == "fp16":
        return values.view(shape)
    if scheme == "sparse_fp16":
        full = torch.zeros(shape, dtype=base.dtype)
        full[tuple(packed["indices"].long().t())] = values
        return full
    raise MalformedObjectError(f"a delta in the unknown scheme {scheme!r:.40}")


def _is_compressed(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("__compressed__") is True


def _has_compressed(value: Any) -> bool:
    if _is_compressed(value):
        return True
    return isinstance(value, Mapping) and any(map(_has_compressed, value.values()))


def _has_tensors(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    return isinstance(value, Mapping) and any(map(_has_tensors, value.values()))


def _generators(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the generators; NumPy's was never saved there."""
    version, words, gauss = saved["python"]
    state = {
        "python": {
            "version": version,
            "state": torch.tensor(words, dtype=torch.int64).to(torch.uint32),
            "gauss": gauss,
        },
        "torch": saved["torch"],
    }
    if saved.get("cuda"):
        state["cuda"] = list(saved["cuda"])
    return state


def _meta(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = payload["data"].get("meta")
    return meta if isinstance(meta, dict) else {}


def _branch_of(ref: str | None) -> str | None:
    return None if ref is None else ref.rpartition("@")[0]


def _manifest(root: str, raw: bytes | None) -> dict[str, Any]:
    if raw is None:
        return {"checkpoints": []}
    try:
        manifest = json.loads(raw)
        if type(manifest["checkpoints"]) is list:
            return dict(manifest)
    except (ValueError, RecursionError, KeyError, TypeError):
        pass
    raise MalformedObjectError(f"{root}/manifest.json is damaged; move it away to go by the files")


def _listed(root: str, entry: Any) -> Listed | str:
    """Parse one entry; returns its ref alone where its file is not on this machine."""
    try:
        branch, step = str(entry["branch"]), _step(entry["step"])
    except (KeyError, TypeError, ValueError):
        raise MalformedObjectError(f"{root}/manifest.json: not a checkpoint: {entry}") from None
    file = entry.get("file")
    name = PurePath(file).name if type(file) is str else f"ckpt_{branch}_s{step}.pt"
    # Beside the manifest first: the repo may have been moved, and the path be stale.
    for path in (layout.beside(root, name), file):
        if type(path) is str and fs.is_file(path):
            return Listed(
                branch=branch,
                step=step,
                file=path,
                created_at=documents.text(entry, "created_at"),
                id=documents.text(entry, "id"),
            )
    return f"{branch}@{step}"


def _read_unlisted(files: list[str], known: set[str]) -> Iterator[Listed]:
    """Take in files that the manifest lacks, by what they say themselves."""
    for file in files:
        payload = guarded.load(file)
        data = payload.get("data") if isinstance(payload, dict) else None
        meta = data.get("meta") if isinstance(data, dict) else None
        if isinstance(data, dict) and isinstance(meta, dict) and type(meta.get("branch")) is str:
            listed = Listed(meta["branch"], _step(data.get("step")), file, None, None)
            if listed.ref not in known:
                known.add(listed.ref)
                yield listed


def _step(value: object) -> int:
    """Check a step; raises ValueError."""
    if type(value) is not int or not 0 <= value <= MAX_STEP:
        raise ValueError(f"{value!r:.40} is not a step")
    return value


def _time(created_at: str | None) -> str:
    """Convert a time to UTC as commits spell it; without one, now."""
    try:
        moment = datetime.fromisoformat(created_at or "")
    except ValueError:
        return timestamp()
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
