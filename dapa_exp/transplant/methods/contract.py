"""The interface of a transplant method: it computes the new tensor of a part, and counts its replaced entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

import torch

from dapa_exp.models.architecture import Part
from dapa_exp.models.pair import Pair


class Method(ABC):
    """Computes the tensors of transplanted units, one by one, from checkpoints.

    A method is a pure function of weights and settings: two calls give the same bits. Its tensors have the dtype of
    the student's checkpoint, so the hybrid that is measured in memory is the hybrid that is exported.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def tensor(self, unit: str, part: Part) -> torch.Tensor:
        """The tensor that replaces a part of the student, in the dtype of the student's checkpoint."""
        student = self._pair.student.read(part)
        return self._computed(unit, part, student).to(student.dtype)

    def written(self, unit: str, part: Part) -> int:
        """How many entries of the part the method replaces. The other entries stay the student's, bit for bit."""
        return self._entries(part)

    @abstractmethod
    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        """The new tensor, in any floating-point dtype. `student` is the tensor that it replaces."""

    def _shape(self, part: Part) -> tuple[int, ...]:
        return part.shape(self._pair.student.tensors[part.tensor].shape)

    def _entries(self, part: Part) -> int:
        return prod(self._shape(part))
