"""What a transplant will move: tensor names, shapes and bytes, known before any weight is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from dapa_exp.models.architecture import WHOLE, Part, Units
from dapa_exp.models.tensors import TensorInfo, TensorReader


@dataclass(frozen=True)
class PlannedTensor:
    """What a unit moves: a tensor of the teacher, or some rows of one. `shape` and `bytes` are those of what moves."""

    name: str
    unit: str
    rows: tuple[int, int] | None
    """First row, and the one behind the last; None: all of them."""
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
    """Plan to move the parts that the chosen units hold from teacher to student."""
    tensors = [_planned(unit, part, teacher.tensors[part.tensor]) for unit in chosen for part in units[unit]]
    total = sum(prod(info.shape) for info in student.tensors.values())
    return TransplantPlan(tuple(tensors), total)


def _planned(unit: str, part: Part, info: TensorInfo) -> PlannedTensor:
    rows = part.share.rows(info.shape[0]) if part.share != WHOLE else None
    return PlannedTensor(
        name=part.tensor,
        unit=unit,
        rows=(rows.start, rows.stop) if rows else None,
        shape=part.shape(info.shape),
        dtype=info.dtype,
        bytes=info.bytes // part.share.count,
    )
