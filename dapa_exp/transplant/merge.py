"""The tensors of a hybrid's checkpoint, computed one by one without loading a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch

from dapa_exp.models.architecture import WHOLE, Part
from dapa_exp.models.pair import Pair
from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.elementwise import Copy


class HybridTensors:
    """The student's checkpoint with the chosen units transplanted. A tensor is read only when `read` is called."""

    def __init__(self, pair: Pair, chosen: Iterable[str], method: Method | None = None) -> None:
        """`method` computes the transplanted tensors; by default they are the teacher's."""
        self._pair = pair
        self._method = method or Copy(pair)
        self._moved: defaultdict[str, list[tuple[str, Part]]] = defaultdict(list)
        for unit in chosen:
            for part in pair.units[unit]:
                self._moved[part.tensor].append((unit, part))
        self.changed = frozenset(self._moved)
        """Names of all tensors with transplanted entries."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._pair.student)

    def read(self, name: str) -> torch.Tensor:
        """One whole tensor, in the student's dtype."""
        moved = self._moved.get(name, [])
        if [part.share for _, part in moved] == [WHOLE]:
            return self._method.tensor(*moved[0])
        tensor = self._pair.student.read(name)
        for unit, part in moved:
            part.of(tensor).copy_(self._method.tensor(unit, part))
        return tensor
