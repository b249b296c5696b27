"""The tensors of a hybrid's checkpoint, one by one, as they would be saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from dapa_exp.models.pair import Pair


class HybridTensors:
    """The student's checkpoint with the chosen units from the teacher; nothing is read until asked for."""

    def __init__(self, pair: Pair, chosen: Iterable[str]) -> None:
        self._pair = pair
        self.changed = frozenset(name for unit in chosen for name in pair.units[unit])

    def __iter__(self) -> Iterator[str]:
        return iter(self._pair.student)

    def read(self, name: str) -> torch.Tensor:
        """One tensor, in the student's dtype."""
        student = self._pair.student.read(name)
        return self._pair.teacher.read(name).to(student.dtype) if name in self.changed else student
