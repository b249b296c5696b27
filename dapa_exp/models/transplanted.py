"""Records which units of a model in memory are transplanted.

Code that changes the weights notes it here, and code that relies on the weights reads it here. So an engine that reuses
layer outputs always knows what is in memory: no caller can tell it something wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary, ref

from torch import nn


@dataclass
class _State:
    owners: list[ref[object]] = field(default_factory=list)
    """The hybrids that were made of the model, in order."""
    holder: int = 0
    """The index of the hybrid that has transplanted the units."""
    units: frozenset[str] = frozenset()


_STATES: WeakKeyDictionary[nn.Module, _State] = WeakKeyDictionary()


def note_transplanted(model: nn.Module, hybrid: object, units: frozenset[str]) -> None:
    """Note which units a hybrid is about to transplant. Only one hybrid of a model may have units transplanted."""
    state = _STATES.setdefault(model, _State())
    number = next((i for i, owner in enumerate(state.owners) if owner() is hybrid), None)
    if number is None:
        number = len(state.owners)
        state.owners.append(ref(hybrid))
    assert number == state.holder or not state.units, "another hybrid of this model has units transplanted"
    state.holder, state.units = number, units


def transplanted(model: nn.Module) -> frozenset[str] | None:
    """The units in which a model differs from its checkpoint. Empty if no hybrid has changed it.

    None if unit names do not identify the weights: two hybrids of a model may put different weights into the same unit,
    so names identify only the first hybrid's weights.
    """
    state = _STATES.get(model)
    if state is None or not state.units:
        return frozenset()
    return state.units if state.holder == 0 else None
