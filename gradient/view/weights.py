"""The tensors of a component, streamed into a safetensors file a few chunks at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from gradient.checkpoint.component_tensors import ComponentTensor, non_tensor_names, tensors_in
from gradient.checkpoint.reader import component_entries
from gradient.codec.chunks import ranges
from gradient.errors import MalformedObjectError, UnsupportedValueError
from gradient.objects import canonical
from gradient.objects.canonical import Json
from gradient.objects.oid import Oid
from gradient.repo.repository import Repository
from gradient.state import tensors
from gradient.state.tensors import ITEM_SIZES, NAMES
from gradient.view import safetensors
from gradient.view.compare import read_groups
from gradient.view.safetensors import Outgoing

if TYPE_CHECKING:
    import torch
    from typing_extensions import Buffer

_CHUNKS_AT_ONCE = 8
_OPAQUE = "opaque."
_REMEDY = "Export to .pt instead"


@dataclass(frozen=True, slots=True)
class Weights:
    """Tensors that are located and not read."""

    tensors: Mapping[str, Outgoing]
    """The tensors by name, in the model's order."""
    metadata: Mapping[str, str]
    """The metadata of the file: the commit, and for each dropped name the name that holds its
    values, as `safetensors.torch.save_model` writes it."""
    dropped: Mapping[str, str]
    """Names of tied weights that are left out, and the name under which their values are."""
    others: tuple[str, ...]
    """Names of values that are not tensors."""
    all_names: tuple[str, ...]
    """The names of all tensors of the component."""

    def write(self, out: IO[bytes]) -> None:
        """Write the file."""
        safetensors.write(out, self.tensors, self.metadata)


def find_weights(
    repo: Repository,
    oid: Oid,
    component: str,
    *,
    takes: Callable[[str], bool],
    dtype: torch.dtype | None,
) -> Weights:
    """Find the tensors of a component whose names are wanted.

    Those of floating point are converted to `dtype`, as they are written.
    """
    commit = repo.read_commit(oid)
    entry = component_entries(repo.store, commit.tree)[component]
    wrapping = _OPAQUE if component == "optimizer" else ""
    found: dict[str, ComponentTensor] = {}
    for leaf in tensors_in(repo.store, entry):
        name = leaf.name.removeprefix(wrapping)
        if name in found:
            raise UnsupportedValueError(
                name, "a safetensors file cannot hold two tensors of one name", _REMEDY
            )
        found[name] = leaf
    kept: dict[str, ComponentTensor] = {}
    places: dict[bytes, str] = {}
    dropped: dict[str, str] = {}
    for name, leaf in found.items():
        if not takes(name):
            continue
        if leaf.memory is not None:
            place = canonical.dumps({k: v for k, v in leaf.node.items() if k not in _FLAGS})
            if places.setdefault(place, name) != name:
                dropped[name] = places[place]
                continue
        kept[name] = leaf
    metadata = {"format": "pt", "gradient.commit": str(oid), "gradient.revision": commit.revision}
    others: list[str] = []
    if component == "optimizer":
        metadata["param_groups"] = json.dumps(read_groups(repo, entry), default=repr)
    else:
        others = non_tensor_names(repo.store, entry)
    return Weights(
        {name: _outgoing(leaf, dtype) for name, leaf in kept.items()},
        metadata | dropped,
        dropped,
        tuple(others),
        tuple(found),
    )


_FLAGS = frozenset({"requires_grad", "parameter"})


def _outgoing(leaf: ComponentTensor, dtype: torch.dtype | None) -> Outgoing:
    floating = leaf.dtype.startswith(("float", "bfloat"))
    if dtype is None or not floating or NAMES[dtype] == leaf.dtype:
        return Outgoing(leaf.dtype, leaf.shape, lambda: _pieces(leaf))
    return Outgoing(NAMES[dtype], leaf.shape, lambda: _whole(leaf.load().detach().to(dtype)))


def _pieces(leaf: ComponentTensor) -> Iterator[Buffer]:
    """Yield a tensor's bytes in C order: chunk by chunk where memory has that order."""
    chunks = leaf.chunks() if _is_c_order(leaf.node) else None
    if chunks is None:
        yield from _whole(leaf.load())
        return
    spans = list(ranges(leaf.elements * ITEM_SIZES[leaf.dtype]))
    if len(spans) != len(chunks):
        raise MalformedObjectError(f"a tensor of {len(spans)} chunks names {len(chunks)}")
    for first in range(0, len(chunks), _CHUNKS_AT_ONCE):
        part = zip(chunks, spans, strict=True)
        jobs = [
            (oid, memoryview(bytearray(stop - start)))
            for oid, (start, stop) in [*part][first : first + _CHUNKS_AT_ONCE]
        ]
        leaf.store.read_blobs(jobs)
        yield from (memory for _, memory in jobs)


def _is_c_order(node: Mapping[str, Json]) -> bool:
    return "stride" not in node and "storage" not in node


def _whole(tensor: torch.Tensor) -> Iterator[Buffer]:
    yield tensors.memory(tensor.detach().contiguous())
