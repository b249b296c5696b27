"""The tensors of a hybrid's checkpoint, one by one, as they would be saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from dapa_exp.models.pair import Pair
from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.elementwise import Copy


class HybridTensors:
    """The student's checkpoint with the chosen units transplanted; nothing is read until asked for."""

    def __init__(self, pair: Pair, chosen: Iterable[str], method: Method | None = None) -> None:
        """`method` computes the transplanted tensors; without one they are the teacher's."""
        self._pair = pair
        self._method = method or Copy(pair)
        self._unit_of = {name: unit for unit in chosen for name in pair.units[unit]}
        self.changed = frozenset(self._unit_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pair.student)

    def read(self, name: str) -> torch.Tensor:
        """One tensor, in the student's dtype."""
        if name in self.changed:
            return self._method.tensor(self._unit_of[name], name)
        return self._pair.student.read(name)
