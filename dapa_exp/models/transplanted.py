"""Which units of a model in memory are transplanted.

Whoever changes the weights notes it here, and whoever relies on them reads it here: an engine that reuses what layers
made of prompts cannot be told something else than what is in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary, ref

from torch import nn


@dataclass
class _State:
    owners: list[ref[object]] = field(default_factory=list)
    """Hybrids made of the model, the first one first."""
    holder: int = 0
    """Which of them has transplanted the units."""
    units: frozenset[str] = frozenset()


_STATES: WeakKeyDictionary[nn.Module, _State] = WeakKeyDictionary()


def note_transplanted(model: nn.Module, hybrid: object, units: frozenset[str]) -> None:
    """Note what a hybrid is about to transplant. One hybrid at a time may hold units of a model."""
    state = _STATES.setdefault(model, _State())
    number = next((i for i, owner in enumerate(state.owners) if owner() is hybrid), None)
    if number is None:
        number = len(state.owners)
        state.owners.append(ref(hybrid))
    assert number == state.holder or not state.units, "another hybrid of this model has units transplanted"
    state.holder, state.units = number, units


def transplanted(model: nn.Module) -> frozenset[str] | None:
    """The units in which a model is not the checkpoint it was loaded from: none, if no hybrid changed it.

    None where their names do not tell: two hybrids of a model may put different weights into a unit of one name, so
    only those of its first hybrid do.
    """
    state = _STATES.get(model)
    if state is None or not state.units:
        return frozenset()
    return state.units if state.holder == 0 else None
