"""The interface of a transplant method: it computes the new tensor of a part, and counts its replaced entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dapa_exp.base.errors import DapaError
from dapa_exp.config.registries import MethodKind

if TYPE_CHECKING:
    import torch

    from dapa_exp.models.architecture import Part
    from dapa_exp.models.pair import Pair


@dataclass(frozen=True)
class Sources:
    """What a method may compute before the search, with the student in memory and the search rows at hand."""

    attribute: Callable[[Mapping[Part, int]], dict[str, torch.Tensor]]
    """Takes the neuron axis of each part. Returns each neuron's gain in refusal log-odds: by unit, shape (neurons,)."""
    tune: Callable[[Any], dict[str, torch.Tensor]]
    """Takes how to tune (`TuningSettings`). Returns the tuned student's tensors, by the name of the part."""


class Method(MethodKind, ABC):
    """Computes the tensors of transplanted units, one by one, from checkpoints.

    A method is a pure function of weights and settings: two calls give the same bits. Its tensors have the dtype of
    the student's checkpoint, so the hybrid that is measured in memory is the hybrid that is exported.

    To add a method, write one file in `dapa_exp/transplant/methods` or a plugin, and register the class there. The
    constructor gets the pair, then the fields of `Settings` except `method`. A field `base` is passed as an open
    checkpoint.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def prepare(self, folder: Path, sources: Sources) -> None:
        """Called before the search: compute what the weights alone do not tell, and write it to the run's folder."""

    def restore(self, folder: Path) -> None:
        """Read what `prepare` has written to a run's folder. Raises DapaError if it is missing or damaged."""

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


def read_prepared(file: Path) -> dict[str, torch.Tensor]:
    """The tensors that `prepare` has written. Raises DapaError if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise DapaError(f"{file}: missing or damaged: {error}") from error
