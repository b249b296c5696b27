"""What every transplant method answers: which tensor takes a place, and how many of its entries are new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from dapa_exp.config.registries import MethodKind

if TYPE_CHECKING:
    import torch

    from dapa_exp.models.architecture import Part
    from dapa_exp.models.pair import Pair

    Attribution = Callable[[Mapping[Part, int]], dict[str, torch.Tensor]]
    """What each neuron of each unit adds to the refusal log-odds, shape (neurons,), given the axes of the neurons."""


class Method(MethodKind, ABC):
    """Computes the tensors of transplanted units, one by one, from checkpoints.

    A pure function of weights and settings: asked twice, it gives the same bits. What it gives has the dtype of the
    student's checkpoint, so what is measured in memory is what can be saved.

    A method is one file that registers its class, of `dapa_exp/transplant/methods` or of the user's own. The fields of
    `Settings` but `method` are the arguments of its constructor, after the pair; a `base` comes as an open checkpoint.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def prepare(self, folder: Path, attribution: Attribution) -> None:
        """Before the search: find out what the weights do not tell, and keep it in the run's folder."""

    def restore(self, folder: Path) -> None:
        """Take what `prepare` left in the folder of a run. Raises DapaError where it is not there, or damaged."""

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
