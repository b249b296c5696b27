"""What a transplant will move: tensor names, shapes and bytes, known before any weight is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from dapa_exp.models.architecture import Units
from dapa_exp.models.tensors import TensorReader


@dataclass(frozen=True)
class PlannedTensor:
    name: str
    unit: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class TransplantPlan:
    """The tensors that replace the student's, and how much of the student that is."""

    tensors: tuple[PlannedTensor, ...]
    parameters_total: int
    """All parameters of the student's checkpoint."""

    @property
    def parameters(self) -> int:
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def percent(self) -> float:
        return 100.0 * self.parameters / self.parameters_total

    @property
    def bytes(self) -> int:
        return sum(tensor.bytes for tensor in self.tensors)

    def as_json(self) -> dict[str, Any]:
        """The content of `plan.json`."""
        return {
            "parameters": self.parameters,
            "parameters_total": self.parameters_total,
            "percent": self.percent,
            "bytes": self.bytes,
            "tensors": [asdict(tensor) for tensor in self.tensors],
        }


def plan_transplant(
    chosen: Iterable[str], units: Units, teacher: TensorReader, student: TensorReader
) -> TransplantPlan:
    """Plan to copy the tensors of the chosen units from teacher to student."""
    tensors = [
        PlannedTensor(name, unit, info.shape, info.dtype, info.bytes)
        for unit in chosen
        for name in units[unit]
        for info in (teacher.tensors[name],)
    ]
    total = sum(prod(info.shape) for info in student.tensors.values())
    return TransplantPlan(tuple(tensors), total)
