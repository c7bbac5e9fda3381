"""Restoring a state into a run: completely or not at all.

`prepare` compares everything and changes nothing. `RestorePlan.apply` then changes the live
objects, and undoes its changes if a setter of the script raises.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from gradient.errors import ConfigError, MisfitError
from gradient.state import rng
from gradient.state.live_objects import BUILT_IN, LiveObjects, Registered
from gradient.state.model import Mismatch, ModelPlan, capture_model
from gradient.state.optimizer import Stateful
from gradient.state.optimizer_plan import HyperparameterChange, OptimizerPlan
from gradient.state.parameter_names import ParameterNames
from gradient.state.scheduler import SchedulerPlan
from gradient.state.snapshot import snapshot
from gradient.state.value_format import Pickled


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """The result of a restore."""

    missing: tuple[str, ...] = ()
    """Names the live objects have and the checkpoint lacks; they kept their values."""
    unexpected: tuple[str, ...] = ()
    """Names the checkpoint has and the live objects lack."""
    mismatched: Mapping[str, str] | None = None
    """Names with another shape or type, and both of these; they kept their values."""
    reset: tuple[str, ...] = ()
    """Parameters whose optimizer state was reset."""
    differences: tuple[HyperparameterChange, ...] = ()
    """Hyperparameters for which the checkpoint's value replaced the script's."""
    frozen: tuple[str, ...] = ()
    """Parameters that are frozen although the checkpoint's optimizer has state for them."""


def prepare(
    run: LiveObjects,
    state: Mapping[str, Any],
    *,
    strict: bool = True,
    components: Sequence[str] | None = None,
) -> RestorePlan:
    """Compare a state with a run and return the plan of its restore; changes nothing.

    The optimizer and the setters keep the tensors of `state`, so the caller must not use them
    later. With `components`, only those are compared and restored. With ``strict=False``, values
    that do not fit are left out; otherwise they raise MisfitError.
    """
    plan = RestorePlan(run, state, components)
    if strict and plan.mismatch:
        raise plan.mismatch.error(components[0] if components and len(components) == 1 else "state")
    return plan


def unpack(name: str, registered: Registered, value: Any) -> Any:
    """Return the argument of a setter; raises MisfitError for a pickle without ``pickle=True``."""
    if type(value) is not Pickled:
        return value
    if not registered.pickle:
        raise MisfitError(_PICKLED.format(name=name), mismatched={name: _PICKLED.format(name=name)})
    return value.load()


_PICKLED = "{name} is stored as a pickle, which runs code: register it with pickle=True to read it"


class RestorePlan:
    """A checked restore; created by `prepare`."""

    def __init__(
        self, run: LiveObjects, state: Mapping[str, Any], components: Sequence[str] | None
    ) -> None:
        self._run = run
        self._state = state
        self.components = _select(run, state, components)
        """The components that are restored."""
        self.mismatch = Mismatch()
        """All differences that were found."""
        self._find_absent(required=components is not None)
        self._model = ModelPlan(run.model, state["model"]) if "model" in state else None
        self._optimizer: OptimizerPlan | None = None
        self._scheduler: SchedulerPlan | None = None
        self._values: dict[str, Any] = {}
        if "model" in self.components and self._model is not None:
            self._add(self._model.mismatch)
        if "optimizer" in self.components and run.optimizer is not None:
            self._optimizer = self._plan_optimizer(run.optimizer)
            self._add(self._optimizer.mismatch)
        if "scheduler" in self.components and run.scheduler is not None:
            self._scheduler = SchedulerPlan(run.scheduler, state["scheduler"])
            self._add(self._scheduler.mismatch)
        if "rng" in self.components:
            rng.check(state["rng"])
        for name in self.components:
            self._plan_registered(name)

    def _find_absent(self, *, required: bool) -> None:
        """Record the components that one side lacks, and keep the others in `components`."""
        run = self._run
        live = {"model", "rng", *run.registered}
        live |= {"optimizer"} if run.optimizer is not None else set()
        live |= {"scheduler"} if run.scheduler is not None else set()
        for name in self.components:
            wanted = required or name not in run.registered or run.registered[name].required
            if name not in self._state and wanted:
                self.mismatch.missing.append(name)
            elif name not in live:
                self.mismatch.unexpected.append(name)
        self.components = tuple(n for n in self.components if n in self._state and n in live)

    def _plan_optimizer(self, optimizer: Stateful) -> OptimizerPlan:
        names = ParameterNames(self._run.model, optimizer)
        unfit: set[str] = set()
        if self._model is not None:
            differing = map(names.canonical, self._model.mismatch.mismatched)
            unfit = {name for name in differing if name is not None}
        return OptimizerPlan(optimizer, names, self._state["optimizer"], unfit=unfit)

    def _plan_registered(self, name: str) -> None:
        registered = self._run.registered.get(name)
        if registered is None:
            return
        value = self._state[name]
        if type(value) is Pickled and not registered.pickle:
            self.mismatch.mismatched[name] = _PICKLED.format(name=name)
        else:
            self._values[name] = value

    def _add(self, mismatch: Mismatch) -> None:
        self.mismatch.missing.extend(mismatch.missing)
        self.mismatch.unexpected.extend(mismatch.unexpected)
        self.mismatch.mismatched.update(mismatch.mismatched)

    def apply(self, then: Callable[[], object] | None = None) -> RestoreReport:
        """Change the live objects, then call `then`; if anything raises, undo the changes.

        Order: model, optimizer, scheduler, registered states, generators.
        """
        values = {n: unpack(n, self._run.registered[n], v) for n, v in self._values.items()}
        with ExitStack() as undo:
            self._push_undo(undo, then is not None)
            if "model" in self.components and self._model is not None:
                self._model.apply()
            if self._optimizer is not None:
                self._optimizer.apply()
            if self._scheduler is not None:
                self._scheduler.apply()
            for name, value in values.items():
                self._run.registered[name].setter(value)
            if "rng" in self.components:
                rng.restore(self._state["rng"])
            if then is not None:
                then()
            undo.pop_all()
        return self._report()

    def _push_undo(self, undo: ExitStack, everything: bool) -> None:
        """Push the undo action of each object; they run in reverse order."""
        run = self._run
        if "model" in self.components and (everything or self._can_fail()):
            undo.callback(_undo_model(run.model))
        if run.optimizer is not None and (everything or self._optimizer is not None):
            undo.callback(_undo_optimizer(run.optimizer))
        if run.scheduler is not None and (everything or self._scheduler is not None):
            before = snapshot(run.scheduler.state_dict())
            undo.callback(run.scheduler.load_state_dict, before)
        for name in self._values:
            registered = run.registered[name]
            undo.callback(registered.setter, snapshot(registered.getter()))
        undo.callback(rng.restore, rng.capture())

    def _can_fail(self) -> bool:
        """Return whether other code than torch's runs during `apply`, which requires a copy."""
        if self._values:
            return True
        parts = [self._run.optimizer, self._run.scheduler, *self._run.model.modules()]
        return any(part is not None and not _runs_only_torch_code(part) for part in parts)

    def _report(self) -> RestoreReport:
        differences: list[HyperparameterChange] = []
        reset: list[str] = []
        frozen: list[str] = []
        if self._optimizer is not None:
            frozen = self._optimizer.frozen
            differences.extend(self._optimizer.differences)
            reset = self._optimizer.lost()
        if self._scheduler is not None:
            differences.extend(self._scheduler.differences)
        return RestoreReport(
            tuple(self.mismatch.missing),
            tuple(self.mismatch.unexpected),
            dict(self.mismatch.mismatched),
            tuple(reset),
            tuple(differences),
            tuple(frozen),
        )


def _select(
    run: LiveObjects, state: Mapping[str, Any], components: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of the components to restore, in the order of `apply`."""
    live = [*BUILT_IN[:-1], *run.registered, "rng"]
    if run.optimizer is None and "optimizer" not in state:
        live.remove("optimizer")
    if run.scheduler is None and "scheduler" not in state:
        live.remove("scheduler")
    if components is None:
        return tuple(live)
    allowed = dict.fromkeys([*live, *BUILT_IN, *state])
    if isinstance(components, str):
        raise ConfigError(f'components is a sequence of names, as in ("{components}",)')
    for name in components:
        if name not in allowed:
            raise ConfigError(f"no component {name!r}; there are {', '.join(allowed)}")
    return tuple(name for name in allowed if name in components)


def _undo_model(model: torch.nn.Module) -> Callable[[], None]:
    before = {
        name: value
        for name, value in capture_model(model).items()
        if not isinstance(value, UninitializedParameter | UninitializedBuffer)
    }
    return ModelPlan(model, snapshot(before)).apply


def _undo_optimizer(optimizer: Stateful) -> Callable[[], None]:
    """Return the undo action. It keeps the state's tensors, which loading replaces unchanged."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        before = snapshot(optimizer.state_dict())
        return lambda: cast("None", optimizer.load_state_dict(before))
    state = dict(optimizer.state)
    groups = [
        {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in group.items()}
        for group in optimizer.param_groups
    ]

    def undo() -> None:
        optimizer.state = defaultdict(dict, state)
        optimizer.param_groups[:] = groups

    return undo


_LOADERS = ("load_state_dict", "_load_from_state_dict", "set_extra_state", "__setstate__")

_HOOKS = (
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)


def _runs_only_torch_code(part: object) -> bool:
    """Return whether only torch's code runs when `part` loads a checked state."""
    modules = (getattr(getattr(type(part), name, None), "__module__", None) for name in _LOADERS)
    ours = all(module is None or module.startswith("torch.") for module in modules)
    return ours and not any(getattr(part, name, None) for name in _HOOKS)
