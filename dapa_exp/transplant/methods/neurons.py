"""Transplants single neurons of an MLP instead of whole projections."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dapa_exp.base.errors import DapaError
from dapa_exp.models.architecture import Part, units
from dapa_exp.models.pair import Pair
from dapa_exp.transplant.methods.contract import Method

"""The file of neuron scores in a run's folder. It exists if the run chose neurons by attribution."""
NEURON_AXES = {"gate_proj": 0, "up_proj": 0, "down_proj": 1}
"""The axis of each projection's matrix that indexes the MLP's neurons."""


class SwapNeurons(Method):
    """The neurons with the highest scores in a unit become the teacher's. All other entries stay the student's.

    Neuron i of an MLP is row i of gate and up (and entry i of their biases) and column i of down. There are two scores:

    - `difference`: the Euclidean norm of teacher − student over the neuron's entries in the unit.
    - `attribution`: the estimated gain in refusal log-odds from swapping the neuron (see
      dapa_exp.search.priors.attribution). It is computed before the search and set as `scores`.

    If a unit holds other tensors than its MLP's, they stay the student's.
    """

    def __init__(self, pair: Pair, share: float, by: Literal["difference", "attribution"]) -> None:
        super().__init__(pair)
        self._share = share
        self.by = by
        self.scores: Mapping[str, torch.Tensor] = {}
        """The attribution scores by unit, shape (neurons,)."""
        self._chosen: dict[str, torch.Tensor] = {}
        for unit, parts in pair.units.items():
            if not any(part in self.axes for part in parts):
                raise DapaError(f"{unit}: holds no neurons; swap_neurons needs a unit with {', '.join(NEURON_AXES)}")

    def read_scores(self, file: Path) -> None:
        """Read the scores from a run's file. Raises DapaError if the file is missing or damaged."""
        try:
            self.scores = load_file(file)
        except (OSError, SafetensorError) as error:
            raise DapaError(f"{file}: missing or damaged: {error}") from error

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
        if self.by == "attribution":
            return self.scores[unit]
        held = [part for part in self._pair.units[unit] if part in self.axes]
        return sum((self._squares(part) for part in held), torch.zeros(())).sqrt()

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
