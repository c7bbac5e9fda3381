"""The export of a commit to a file or folder that needs neither the store nor Gradient.

The result appears whole or not at all, durably, and only after every byte was checked.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import IO, Any, Final, TypeAlias

import torch

from gradient.checkpoint.reader import component_entries, read_state
from gradient.errors import ConfigError, ConflictError, NotFoundError
from gradient.objects.name_list import shorten
from gradient.objects.oid import Oid
from gradient.repo import json_files
from gradient.repo.foreign_files import Mark
from gradient.repo.repository import Repository
from gradient.state.live_objects import BUILT_IN
from gradient.storage import fs
from gradient.view import desc_payload, file_names, zip_comment
from gradient.view.weights import Weights, find_weights

_LOG = logging.getLogger("gradient")

DTYPES: Final[dict[str, torch.dtype]] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""The dtypes that weights can be converted to."""

ABOUT: Final = "commit.json"
"""The file that says which commit an exported folder holds; that it is there marks it as ours."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a commit that is exported."""

    components: tuple[str, ...] = ()
    """Components by name; none: all of them (in a safetensors file: the model)."""
    weights_only: bool = False
    """True to export only the model's state dict."""
    match: tuple[str, ...] = ()
    """Patterns of which a weight's name must match one, as a whole or from one of its dots on."""
    dtype: str | None = None
    """The dtype that floating-point weights are converted to: a name of `DTYPES`."""

    @property
    def is_weights(self) -> bool:
        """True if the result is one state dict of a model."""
        only = self.components in ((), ("model",))
        return only and (self.weights_only or bool(self.match) or bool(self.components))

    def check(self) -> None:
        """Raise ConfigError for a contradictory selection or an unknown dtype."""
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ConfigError(f"dtype={self.dtype!r}; allowed are {', '.join(DTYPES)}")
        others = [name for name in self.components if name != "model"]
        if others and (self.weights_only or self.match or self.dtype):
            raise ConfigError(
                f"weights_only, match and dtype are about the model's weights, not {others[0]!r}"
            )

    def takes(self, name: str) -> bool:
        """Return whether a weight is selected."""
        if not self.match:
            return True
        parts = name.split(".")
        tails = [".".join(parts[i:]) for i in range(len(parts))]
        return any(fnmatchcase(tail, pattern) for pattern in self.match for tail in tails)


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export."""

    path: str
    """The absolute path."""
    load: str
    """The line of Python that loads it without Gradient."""
    dropped: Mapping[str, str]
    """The names of tied weights that were left out, with the name that has their values."""


_Writer: TypeAlias = "Callable[[Repository, Oid, str, Selection], Exported]"


def export(
    repo: Repository,
    oid: Oid,
    path: str,
    selection: Selection | None = None,
    *,
    force: bool = False,
) -> Exported:
    """Write a commit, or what is selected of it, in the format that the path's ending names.

    A path without an ending is a folder. With `force` a file is replaced, and a folder that an
    export made. Raises ConfigError, NotFoundError for what is not in the commit, ConflictError for
    what exists, UnsupportedValueError for values that the format cannot hold.
    """
    selection = selection or Selection()
    selection.check()
    write = FORMATS.get(suffix_of(path))
    if write is None:
        raise ConfigError(
            f"{path!r} has an ending that names no format; known are "
            f"{', '.join(filter(None, FORMATS))}, and for a folder none"
        )
    target = fs.absolute(path)
    if fs.exists(target) and not force:
        raise ConflictError(f"{path} exists; to replace it: --force, or force=True in Python")
    folder = str(PurePath(target).parent)
    if suffix_of(path) and not fs.is_folder(folder):
        raise NotFoundError(f"there is no folder {folder}")
    repo.check_kept(
        oid, components=("model",) if selection.is_weights else selection.components or None
    )
    _check_components(repo, oid, selection.components)
    return write(repo, oid, target, selection)


def suffix_of(path: str) -> str:
    """Return the suffix, which selects the format; empty for a folder."""
    return "" if path.endswith("/") or fs.is_folder(path) else PurePath(path).suffix


def _check_components(repo: Repository, oid: Oid, wanted: Collection[str]) -> None:
    there = component_entries(repo.store, repo.read_commit(oid).tree)
    for name in wanted:
        if name not in there:
            raise NotFoundError(f"the commit has no component {name!r}; it has {', '.join(there)}")


def _pt(repo: Repository, oid: Oid, path: str, selection: Selection) -> Exported:
    content = _content(repo, oid, selection)

    def write(out: IO[bytes]) -> None:
        # Marked as ours, so that a copy that ends up in a repo's folder is nobody else's data.
        zip_comment.save(content, out, Mark("full", oid))

    fs.replace_file(path, write, durable=True)
    return Exported(path, _load_line(path, selection), {})


def _content(repo: Repository, oid: Oid, selection: Selection) -> Any:
    """Return the content of a ``.pt`` file: one component, or components by name."""
    wanted = ("model",) if selection.is_weights else selection.components
    commit = repo.read_commit(oid)
    state = read_state(repo.store, commit.tree, components=wanted or None)
    if "model" in state:
        state["model"] = _weights(state["model"], selection)
    data = desc_payload.portable(desc_payload.build(commit, oid, state, path=""))["data"]
    parts = {name: _part(name, data[name]) for name in state if name in data}
    if len(wanted) == 1:
        return next(iter(parts.values()))
    if wanted:
        return parts
    ordered = {name: parts[name] for name in (*BUILT_IN, *parts) if name in parts}
    return {"step": commit.step, **ordered, "meta": data["meta"]}


def _part(name: str, value: Any) -> Any:
    """Take a registered state out of the wrapping that view files give it."""
    return value if name in BUILT_IN else value["state"]


def _weights(model: Any, selection: Selection) -> Any:
    if not isinstance(model, Mapping):
        return model
    dtype = DTYPES[selection.dtype] if selection.dtype else None
    chosen = {name: value for name, value in model.items() if selection.takes(name)}
    if not chosen:
        raise _nothing(selection, list(model))
    converted: dict[Any, torch.Tensor] = {}
    for name, value in chosen.items():
        if dtype is not None and isinstance(value, torch.Tensor) and value.is_floating_point():
            # Tied weights stay tied.
            key = (value.data_ptr(), value.shape, value.stride(), value.dtype)
            chosen[name] = converted.setdefault(key, value.to(dtype))
    return chosen


def _nothing(selection: Selection, names: list[str]) -> NotFoundError:
    patterns = ", ".join(selection.match)
    return NotFoundError(f"no weight's name matches {patterns}; there are {shorten(names, 5)}")


def _safetensors(repo: Repository, oid: Oid, path: str, selection: Selection) -> Exported:
    if len(selection.components) > 1:
        raise ConfigError("a safetensors file holds one component; export to .pt or to a folder")
    component = selection.components[0] if selection.components else "model"
    found = find_weights(
        repo,
        oid,
        component,
        takes=selection.takes,
        dtype=DTYPES[selection.dtype] if selection.dtype else None,
    )
    if not found.tensors:
        if selection.match:
            raise _nothing(selection, list(found.all_names))
        raise NotFoundError(f"the component {component!r} has no tensors")
    if found.others:
        some = shorten(found.others, 3)
        _LOG.warning("values that are no tensors are left out of %s: %s", path, some)
    fs.replace_file(path, found.write, durable=True)
    return Exported(path, _safetensors_line(path, selection, found), found.dropped)


def _safetensors_line(path: str, selection: Selection, found: Weights) -> str:
    if selection.components not in ((), ("model",)):
        return f"import safetensors.torch; state = safetensors.torch.load_file({path!r})"
    strict = ", strict=False" if selection.match else ""
    if found.dropped:
        return f"import safetensors.torch; safetensors.torch.load_model(model, {path!r}{strict})"
    loaded = f"safetensors.torch.load_file({path!r})"
    return f"import safetensors.torch; model.load_state_dict({loaded}{strict})"


def _load_line(path: str, selection: Selection) -> str:
    loaded = f"torch.load({path!r}, map_location='cpu')"
    if selection.is_weights:
        strict = ", strict=False" if selection.match else ""
        return f"import torch; model.load_state_dict({loaded}{strict})"
    if selection.components == ("optimizer",):
        return f"import torch; optimizer.load_state_dict({loaded})"
    if selection.components and "model" not in selection.components:
        return f"import torch; state = {loaded}"
    return f"import torch; checkpoint = {loaded}; model.load_state_dict(checkpoint['model'])"


def _folder(repo: Repository, oid: Oid, path: str, selection: Selection) -> Exported:
    """Write a folder: the weights as safetensors, each other component as a ``.pt`` file."""
    if fs.exists(path) and not fs.is_file(str(PurePath(path, ABOUT))):
        raise ConflictError(f"{path} exists and is no export of a commit; it is left as it is")
    commit = repo.read_commit(oid)
    there = list(component_entries(repo.store, commit.tree))
    wanted: Sequence[str] = selection.components or there
    if selection.is_weights:
        wanted = ["model"]
    beside = f"{path}.tmp-{uuid.uuid4().hex}"
    fs.make_folders(beside)
    exported = None
    try:
        for name in wanted:
            part = Selection((name,), match=selection.match, dtype=selection.dtype)
            if name == "model":
                exported = _safetensors(repo, oid, _inside(beside, "model.safetensors"), part)
            else:
                _pt(repo, oid, _inside(beside, f"{_file_name(name)}.pt"), Selection((name,)))
        about = {
            "commit": str(oid),
            "revision": commit.revision,
            "step": commit.step,
            "message": commit.message,
            "time": commit.time,
            "metrics": {name: repr(value) for name, value in commit.metrics.items()},
            "components": list(wanted),
        }
        json_files.write_durable(_inside(beside, ABOUT), about)
        _swap(beside, path)
    except BaseException:
        fs.discard_folder(beside)
        raise
    if exported is None:
        first = _inside(path, f"{_file_name(wanted[0])}.pt")
        return Exported(path, _load_line(first, Selection((wanted[0],))), {})
    load = exported.load.replace(beside, path)
    return Exported(path, load, exported.dropped)


def _swap(beside: str, path: str) -> None:
    """Give a finished folder its name; one of that name was checked to be an export."""
    old = f"{path}.tmp-{uuid.uuid4().hex}"
    replaces = fs.exists(path)
    if replaces:
        fs.rename(path, old)
    fs.rename(beside, path)
    fs.sync_folder(str(PurePath(path).parent))
    if replaces:
        fs.discard_folder(old)


def _inside(folder: str, name: str) -> str:
    return str(PurePath(folder, name))


def _file_name(component: str) -> str:
    """Spell a component's name so that it cannot leave the folder."""
    return file_names.spelled(component, plain=file_names.PLAIN - {ord(".")})


FORMATS: Final[dict[str, _Writer]] = {
    ".pt": _pt,
    ".pth": _pt,
    ".safetensors": _safetensors,
    "": _folder,
}
"""The writer of each format, by the suffix of the path."""
