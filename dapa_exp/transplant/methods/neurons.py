"""Transplants single neurons of an MLP instead of whole projections."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from dapa_exp.base.errors import DapaError
from dapa_exp.config.names import Real
from dapa_exp.config.registries import METHODS, MethodSettings
from dapa_exp.models.architecture import Part, units
from dapa_exp.record.layout import RunLayout
from dapa_exp.transplant.methods.contract import Method, read_prepared

if TYPE_CHECKING:
    import torch

    from dapa_exp.models.pair import Pair
    from dapa_exp.transplant.methods.contract import Sources

NEURON_AXES = {"gate_proj": 0, "up_proj": 0, "down_proj": 1}
"""The axis of each projection's matrix that indexes the MLP's neurons."""


class SwapNeurons(Method):
    """The neurons with the highest scores in a unit become the teacher's. All other entries stay the student's.

    Neuron i of an MLP is row i of gate and up (and entry i of their biases) and column i of down. There are two scores:

    - `difference`: the Euclidean norm of teacher − student over the neuron's entries in the unit.
    - `attribution`: the estimated gain in refusal log-odds from swapping the neuron (see
      dapa_exp.search.attribution). It is computed before the search.

    If a unit holds other tensors than its MLP's, they stay the student's.
    """

    class Settings(MethodSettings):
        method: Literal["swap_neurons"]
        share: Annotated[Real, Field(gt=0.0, le=1.0)]
        by: Literal["difference", "attribution"]

    def __init__(self, pair: Pair, share: float, by: Literal["difference", "attribution"]) -> None:
        super().__init__(pair)
        self._share = share
        self._by = by
        self._attributed: Mapping[str, torch.Tensor] = {}
        """The attribution scores by unit, shape (neurons,)."""
        self._chosen: dict[str, torch.Tensor] = {}
        for unit, parts in pair.units.items():
            if not any(part in self.axes for part in parts):
                raise DapaError(f"{unit}: holds no neurons; swap_neurons needs a unit with {', '.join(NEURON_AXES)}")

    def prepare(self, folder: Path, sources: Sources) -> None:
        from dapa_exp.models.tensors import remembered_tensors  # imported here: reading a config must not import torch

        if self._by == "attribution":
            self._attributed = remembered_tensors(RunLayout(folder).neurons, lambda: sources.attribute(self.axes))

    def restore(self, folder: Path) -> None:
        if self._by == "attribution":
            self._attributed = read_prepared(RunLayout(folder).neurons)

    def written(self, unit: str, part: Part) -> int:
        if part not in self.axes:
            return 0
        neurons = self._shape(part)[self.axes[part]]
        return self._entries(part) // neurons * len(self.neurons(unit))

    def neurons(self, unit: str) -> torch.Tensor:
        """The indices of a unit's neurons that are swapped, in ascending order."""
        if unit not in self._chosen:
            scores = self._scores(unit)
            count = max(1, round(self._share * len(scores)))
            self._chosen[unit] = scores.argsort(descending=True, stable=True)[:count].sort().values
        return self._chosen[unit]

    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        if part not in self.axes:
            return student
        axis, neurons = self.axes[part], self.neurons(unit)
        teacher = self._pair.teacher.read(part).to(student.dtype)
        return student.index_copy(axis, neurons, teacher.index_select(axis, neurons))

    def _scores(self, unit: str) -> torch.Tensor:
        if self._by == "attribution":
            return self._attributed[unit]
        first, *others = (self._squares(part) for part in self._pair.units[unit] if part in self.axes)
        return sum(others, first).sqrt()

    def _squares(self, part: Part) -> torch.Tensor:
        difference = self._pair.teacher.read(part).float() - self._pair.student.read(part).float()
        return difference.movedim(self.axes[part], 0).flatten(1).square().sum(1)

    @cached_property
    def axes(self) -> dict[Part, int]:
        """The axis that indexes neurons, for every part of the units that belongs to an MLP."""
        pair = self._pair
        axes: dict[Part, int] = {}
        for module, axis in NEURON_AXES.items():
            for parts in units(pair.model_type, pair.num_layers, [module], pair.student).values():
                axes |= {part: axis for part in parts if axis < len(self._shape(part))}
        return axes


METHODS.register("swap_neurons", SwapNeurons)
