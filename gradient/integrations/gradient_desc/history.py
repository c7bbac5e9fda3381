"""Writing the checkpoints of the published package as commits of an empty repo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any

import torch

from gradient.checkpoint import writer
from gradient.codec.mode import Mode
from gradient.errors import IntegrityError, MalformedObjectError
from gradient.integrations import untrusted_pickle
from gradient.integrations.gradient_desc.deltas import add, has_compressed, has_tensors
from gradient.integrations.gradient_desc.source import DescRepo, Listed
from gradient.objects import timestamp
from gradient.objects.oid import Oid
from gradient.repo import branch_names, paths
from gradient.repo.branch_writer import BranchWriter
from gradient.repo.commit_builder import CommitBuilder
from gradient.repo.repository import Repository
from gradient.state.live_objects import BUILT_IN, RESERVED
from gradient.state.parameter_names import stripped
from gradient.storage import fs

_OWN_KEYS = frozenset({"step", "meta"})
_RENAMED = {"amp": "amp_scaler", "external": "external_state"}


@dataclass(slots=True)
class ImportedHistory:
    """The result of an import."""

    commits: int = 0
    """The number of commits that were written."""
    lossy: list[str] = field(default_factory=list)
    """The commits that were deltas at the source."""
    notes: list[str] = field(default_factory=list)
    """The losses of the import, one sentence each."""


def import_history(
    source: DescRepo, repo: Repository, *, progress: Callable[[int], object] | None = None
) -> ImportedHistory:
    """Write all checkpoints of a source as commits of an empty repo.

    Raises IntegrityError or UnsupportedValueError, naming the file, for one that cannot be read.
    """
    return _Import(source, repo, progress).run()


class _Import:
    def __init__(
        self, source: DescRepo, repo: Repository, progress: Callable[[int], object] | None
    ) -> None:
        self._source = source
        self._repo = repo
        self._progress = progress
        self._files = {each.ref: each.file for each in source.checkpoints}
        self._anchor: tuple[str, dict[str, Any]] | None = None
        self._commits: dict[str, Oid] = {}
        self._done = ImportedHistory()

    def run(self) -> ImportedHistory:
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
        """Return the ref that a branch was forked from, as its first checkpoint records it."""
        ref = _meta(self._payload(first.file)).get("parent_ref")
        if type(ref) is not str or ref not in self._files or _branch_of(ref) == first.branch:
            return None
        step = ref.rpartition("@")[2]
        return ref if step.isdecimal() and int(step) <= first.step else None

    def _take_branch(self, name: str, checkpoints: list[Listed], parent: str | None) -> None:
        branch = self._usable(name)
        line = BranchWriter.create(self._repo, branch)
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
        while not branch_names.is_branch_name(branch, taken) or branch in taken:
            safe = "".join(c if c.isalnum() or c in "-_./" else "-" for c in name).strip("./-")
            branch = f"{safe or 'branch'}-{number}"
            number += 1
        if branch != name:
            self._done.notes.append(f"the branch {name!r} is called {branch!r} here")
        return branch

    def _take(self, line: BranchWriter, listed: Listed) -> None:
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
        builder = CommitBuilder(
            step=listed.step,
            time=_time(listed.created_at),
            message=message if type(message) is str else "",
        )

        def build(branch: str, parent: Oid | None) -> Oid:
            with self._repo.store.begin(mode=Mode.AUTO) as transaction:
                return builder.write(
                    transaction,
                    branch,
                    parent,
                    writer.write_state(transaction, state),
                    fork=writer.write_value(transaction, origin, name="origin"),
                )

        published = line.publish(listed.step, build, reason=f"import of {listed.ref}")
        self._commits[listed.ref] = published.commit
        self._done.commits += 1
        if lossy:
            self._done.lossy.append(f"{published.branch}@{listed.step}")
        if self._progress is not None:
            self._progress(1)

    def _payload(self, file: str) -> dict[str, Any]:
        """Read one file; the last anchor is kept for its deltas."""
        if self._anchor is not None and self._anchor[0] == file:
            return self._anchor[1]
        payload = untrusted_pickle.load(file)
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
        meant, found = payload.get("anchor_id"), anchor.get("anchor_id")
        if type(meant) is type(found) is str and meant != found:
            raise IntegrityError(
                f"{listed.file}: its anchor was overwritten by another run, so what it held is "
                f"lost; move this file away to import the others"
            )
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
            beside = paths.beside(self._source.path, PurePath(path).name)
            if fs.is_file(beside):
                return beside
        raise IntegrityError(f"{listed.file}: its anchor {ref or path} is not there")

    def _sums_optimizer(self, data: Mapping[str, Any]) -> bool:
        """Return whether the optimizer's part holds differences (the default) or the state itself.

        Compressed tensors are marked, and are always differences. A run with a compressed model and
        an uncompressed optimizer stored the whole optimizer. Without compression the two cases look
        alike: the package's default is assumed, and reported.
        """
        if has_compressed(data["optimizer"]) or not has_tensors(data["optimizer"]):
            return True
        if has_compressed(data["model"]):
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


def _generators(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the generators; the package never saved NumPy's."""
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


def _time(created_at: str | None) -> str:
    """Convert a time to UTC as commits spell it; return the current time if there is none."""
    try:
        moment = datetime.fromisoformat(created_at or "")
    except ValueError:
        return timestamp.now()
    return timestamp.encode(moment)
