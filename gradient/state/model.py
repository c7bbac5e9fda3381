"""A model's parameters, persistent buffers and extra state.

Buffers that a module registers with ``persistent=False`` are not captured. They can be computed
again (a mask, a table of positions), and the code that builds the model builds them.

Restoring copies bits into the live tensors and does not replace the tensors. Ties, devices, memory
formats and references to the tensors (from an optimizer or a compiled graph) stay valid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from gradient.errors import MisfitError
from gradient.state.parameter_names import stripped
from gradient.state.snapshot import snapshot
from gradient.state.tensors import extent, same_bits

TIED_MESSAGE = "here tied to {}, saved apart"
"""The message for a saved value that `conflicting_ties` finds."""

_FAR = 1 << 62


@dataclass(slots=True)
class Mismatch:
    """The differences between a saved component and the live object to restore."""

    missing: list[str] = field(default_factory=list)
    """Names that the live object has and the checkpoint lacks."""
    unexpected: list[str] = field(default_factory=list)
    """Names that the checkpoint has and the live object lacks."""
    mismatched: dict[str, str] = field(default_factory=dict)
    """Names that both have, with a description of the difference."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatched)

    def error(self, what: str) -> MisfitError:
        """Return an error that lists all differences; `what` names the component."""
        lines = [f"the checkpoint's {what} does not fit; nothing was changed"]
        lines += [f"  missing in the checkpoint: {name}" for name in self.missing]
        lines += [f"  unexpected in the checkpoint: {name}" for name in self.unexpected]
        lines += [f"  different: {name}: {text}" for name, text in self.mismatched.items()]
        lines.append(
            "  strict=False loads what matches (gradient fork … --no-strict); components=(…) "
            "restores only those named"
        )
        return MisfitError(
            "\n".join(lines),
            missing=self.missing,
            unexpected=self.unexpected,
            mismatched=self.mismatched,
        )


def capture_model(model: torch.nn.Module) -> dict[str, Any]:
    """Return the model's state dict with stripped names, in its order. The tensors are live."""
    state = model.state_dict()
    names = stripped(state)
    return {names[name]: value for name, value in state.items()}


class ModelPlan:
    """A checked restore of a model. Creating a plan changes nothing; `apply` cannot be refused."""

    def __init__(self, model: torch.nn.Module, saved: Mapping[str, Any]) -> None:
        self._model = model
        live = model.state_dict()
        names = stripped(live)
        self.mismatch = Mismatch()
        self.matching: dict[str, Any] = {}
        """The saved values that fit, by live name."""
        self._expanded: dict[str, torch.Tensor] = {}
        for name, value in live.items():
            short = names[name]
            if short not in saved:
                self.mismatch.missing.append(short)
                continue
            extra = is_extra(name)
            difference = None if extra else _difference(value, saved[short])
            if difference is not None:
                self.mismatch.mismatched[short] = difference
                continue
            self.matching[name] = saved[short]
            if not extra and _is_expanded(value):
                self._expanded[name] = value
        known = set(names.values())
        self.mismatch.unexpected.extend(name for name in saved if name not in known)
        for name, other in conflicting_ties(live, self.matching).items():
            del self.matching[name]
            self.mismatch.mismatched[names[name]] = TIED_MESSAGE.format(names[other])
        self._metadata = getattr(live, "_metadata", None)
        self.fitting = {names[name] for name in self.matching}
        """The stripped names of the values that fit."""

    def apply(self) -> None:
        """Copy the values that fit into the live model."""
        state: OrderedDict[str, Any] = OrderedDict(self.matching)
        expanded = {name: state.pop(name) for name in self._expanded if name in state}
        if self._metadata is not None:
            state._metadata = self._metadata  # type: ignore[attr-defined]
        with torch.no_grad():
            if self.mismatch or expanded:
                self._model.load_state_dict(state, strict=False)
            else:
                self._model.load_state_dict(state)
            for name, value in expanded.items():
                live = self._expanded[name]
                _without_repeats(live, live).copy_(_without_repeats(value, live))


def conflicting_ties(live: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, str]:
    """Return saved values that conflict because the live tensors share memory.

    Maps the name of each such value to the name of the value that wins. Values that do not fit
    their live tensor are ignored.
    """
    found: dict[str, str] = {}
    for members in _overlapping({n: v for n, v in live.items() if _fits(n, v, saved.get(n))}):
        first, *others = members
        loaded = _values_after_load(members, saved)
        found |= {name: first for name in others if not same_bits(saved[name], loaded[name])}
    return found


def _values_after_load(
    members: dict[str, torch.Tensor], saved: Mapping[str, Any]
) -> Mapping[str, torch.Tensor]:
    """Return overlapping live tensors as they would be after loading, the first member last."""
    first, *others = members
    if all(_memory_layout(members[name]) == _memory_layout(members[first]) for name in others):
        return dict.fromkeys(members, saved[first])
    copies: dict[str, torch.Tensor] = snapshot(members)
    with torch.no_grad():
        for name in reversed(members):
            _without_repeats(copies[name], members[name]).copy_(
                _without_repeats(saved[name], members[name])
            )
    return copies


def _fits(name: str, live: Any, saved: Any) -> bool:
    """Return whether a saved tensor can be copied into a live one."""
    if not isinstance(live, torch.Tensor) or not isinstance(saved, torch.Tensor) or is_extra(name):
        return False
    if isinstance(live, UninitializedParameter | UninitializedBuffer) or not live.numel():
        return False
    return live.shape == saved.shape and live.dtype == saved.dtype


def _overlapping(live: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield each group of tensors that overlap in memory, by name and in their order."""
    by_storage: dict[object, list[tuple[int, int, str]]] = {}
    for name, value in live.items():
        key, start, stop = extent(value)
        by_storage.setdefault(key, []).append((start, stop, name))
    for stretches in by_storage.values():
        group: set[str] = set()
        end = 0
        for start, stop, name in [*sorted(stretches), (_FAR, _FAR, "")]:
            if start >= end:
                if len(group) > 1:
                    yield {each: live[each] for each in live if each in group}
                group = set()
            group.add(name)
            end = max(end, stop)


def _memory_layout(tensor: torch.Tensor) -> object:
    return tensor.dtype, tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())


def is_extra(name: str) -> bool:
    """Return whether this is extra state, whose form only its module knows, even for a tensor."""
    return name.rpartition(".")[2] == "_extra_state"


def _difference(live: Any, saved: Any) -> str | None:
    if not isinstance(live, torch.Tensor):
        return None  # the module checks it
    if not isinstance(saved, torch.Tensor):
        return f"saved a {type(saved).__name__}, here {_describe(live)}"
    if isinstance(live, UninitializedParameter | UninitializedBuffer):
        return None  # a lazy module takes the shape of the loaded value
    if live.device.type == "meta":
        return f"saved {_describe(saved)}, here on the meta device (it has no memory to load into)"
    if live.shape != saved.shape or live.dtype != saved.dtype:
        return f"saved {_describe(saved)}, here {_describe(live)}"
    if live.is_inference():
        return "here made in torch.inference_mode(), so that nothing can change it any more"
    if _is_expanded(live) and not same_bits(_without_repeats(saved, live).expand_as(saved), saved):
        return "here expanded from fewer values than were saved"
    return None


def _is_expanded(live: Any) -> bool:
    """Return whether elements share memory (see `Tensor.expand`); torch cannot copy into those."""
    if not isinstance(live, torch.Tensor) or live.layout is not torch.strided or live.is_nested:
        return False
    if isinstance(live, UninitializedParameter | UninitializedBuffer):
        return False
    return any(size > 1 and step == 0 for size, step in zip(live.shape, live.stride(), strict=True))


def _without_repeats(tensor: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
    """Return the part of `tensor` that `live`, an expanded tensor, stores: each element once."""
    return tensor[tuple(slice(0, 1) if step == 0 else slice(None) for step in live.stride())]


def _describe(tensor: torch.Tensor) -> str:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        return "lazy"
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
