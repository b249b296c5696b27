"""A student that carries some of the teacher's units, swapped in place and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dapa_exp.errors import DapaError
from dapa_exp.models.architecture import Units
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import TensorReader, tensor_digest


class Hybrid:
    """The one model in memory. Tensors come one by one from the checkpoints; no second model is ever loaded."""

    def __init__(self, student: nn.Module, pair: Pair) -> None:
        """`student` is the loaded student. Raises DapaError where a unit's tensor is shared with one outside it."""
        self._parameters: dict[str, torch.Tensor] = {
            name: tensor.detach() for name, tensor in student.state_dict(keep_vars=True).items()
        }
        self._pair = pair
        self._carried: frozenset[str] = frozenset()
        _refuse_shared(self._parameters, pair.units)

    def carry(self, units: Iterable[str]) -> None:
        """Hold the teacher's tensors in exactly these units, the student's everywhere else."""
        wanted = frozenset(units)
        for unit in wanted - self._carried:
            self._fill(unit, self._pair.teacher)
        for unit in self._carried - wanted:
            self._fill(unit, self._pair.student)
        self._carried = wanted

    def verify(self) -> dict[str, Any]:
        """Compare every tensor in memory with the checkpoint it must come from, bit for bit.

        Returns the digest of each transplanted tensor and the count of those left as they were.
        Raises DapaError naming the first tensor that differs.
        """
        moved = {name for unit in self._carried for name in self._pair.units[unit]}
        digests: dict[str, str] = {}
        untouched = 0
        for name, tensor in self._parameters.items():
            source = self._pair.teacher if name in moved else self._pair.student
            if name not in source.tensors:
                continue  # a tied tensor: compared under the name that the checkpoint stores
            if not _same_bits(tensor, source.read(name).to(tensor.dtype)):
                owner = "teacher" if name in moved else "student"
                raise DapaError(f"{name}: differs from the {owner}'s after the transplant")
            if name in moved:
                digests[name] = tensor_digest(tensor)
            else:
                untouched += 1
        return {"transplanted": digests, "untouched": untouched}

    def _fill(self, unit: str, source: TensorReader) -> None:
        for name in self._pair.units[unit]:
            self._parameters[name].copy_(source.read(name))


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equality of bytes, so that NaN equals NaN and 0.0 does not equal -0.0."""
    return torch.equal(a.cpu().contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def _refuse_shared(parameters: dict[str, torch.Tensor], units: Units) -> None:
    owners: dict[int, set[str]] = {}
    for name, tensor in parameters.items():
        owners.setdefault(tensor.data_ptr(), set()).add(name)
    for unit, names in units.items():
        for name in names:
            if name not in parameters:
                raise DapaError(f"{unit}: the loaded student has no tensor '{name}'")
            others = owners[parameters[name].data_ptr()] - set(names)
            if others:
                raise DapaError(
                    f"{unit}: '{name}' is the same tensor as {', '.join(sorted(others))}, which the unit does not hold"
                )
