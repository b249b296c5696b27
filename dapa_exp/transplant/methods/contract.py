"""What every transplant method answers: which tensor takes a place, and how many of its entries are new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

import torch

from dapa_exp.models.architecture import Part
from dapa_exp.models.pair import Pair


class Method(ABC):
    """Computes the tensors of transplanted units, one by one, from checkpoints.

    A pure function of weights and settings: asked twice, it gives the same bits. What it gives has the dtype of the
    student's checkpoint, so what is measured in memory is what can be saved.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def tensor(self, unit: str, part: Part) -> torch.Tensor:
        """What takes the place of a part of the student when its unit is transplanted, in the student's dtype."""
        student = self._pair.student.read(part)
        return self._computed(unit, part, student).to(student.dtype)

    def written(self, unit: str, part: Part) -> int:
        """How many entries of the part the method replaces; the others stay the student's, bit for bit."""
        return self._entries(part)

    @abstractmethod
    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        """The new tensor, in any floating dtype; `student` is the one that it replaces."""

    def _shape(self, part: Part) -> tuple[int, ...]:
        return part.shape(self._pair.student.tensors[part.tensor].shape)

    def _entries(self, part: Part) -> int:
        return prod(self._shape(part))
