"""Parameter names that do not change when a model is wrapped, tied or compiled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WRAPPERS = frozenset({"module", "_orig_mod"})
"""Path components that data-parallel wrappers and ``torch.compile`` add."""


def strip(name: str) -> str:
    """Return a dotted name without the wrappers' components (``module.a.b`` is ``a.b``)."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS) or name


def stripped(names: Iterable[str]) -> dict[str, str]:
    """Map each name to its stripped form, or to itself if two stripped names would be equal."""
    names = list(names)
    result = {name: strip(name) for name in names}
    return result if len(set(result.values())) == len(result) else {name: name for name in names}


class ParameterNames:
    """The names of an optimizer's parameters, in both directions.

    A tied parameter has several names: the first one is stored, and all are recognised. A parameter
    that the model does not own is named by its position in the optimizer, ``group<g>.<i>``.
    """

    def __init__(self, model: torch.nn.Module, optimizer: object) -> None:
        """Name the parameters of an optimizer (anything with torch's ``param_groups``)."""
        owned = dict(model.named_parameters(remove_duplicate=False))
        short = stripped(owned)
        self.by_name: dict[str, torch.Tensor] = {short[name]: p for name, p in owned.items()}
        """Each parameter by each of its names."""
        self.by_id: dict[int, str] = {}
        """The first name of each parameter, by its ``id``."""
        self.outside: dict[str, torch.Tensor] = {}
        """The parameters that the model does not own, by name."""
        for name, parameter in self.by_name.items():
            self.by_id.setdefault(id(parameter), name)
        for g, group in enumerate(getattr(optimizer, "param_groups", ())):
            for i, parameter in enumerate(group["params"]):
                if id(parameter) not in self.by_id:
                    self._add_outside(f"group{g}.{i}", parameter)

    def _add_outside(self, name: str, parameter: torch.Tensor) -> None:
        while name in self.by_name:  # the model uses this name itself
            name = f"#{name}"
        self.by_name[name] = self.outside[name] = parameter
        self.by_id[id(parameter)] = name

    def of(self, parameter: torch.Tensor) -> str:
        """Return the name under which a parameter is stored."""
        return self.by_id[id(parameter)]

    def canonical(self, name: str) -> str | None:
        """Return the stored name of the parameter with this name; None if there is none."""
        parameter = self.by_name.get(name)
        return None if parameter is None else self.by_id[id(parameter)]
