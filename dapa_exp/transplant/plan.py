"""The plan of a transplant: names, shapes and bytes of the tensors that will move. No weight is read for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from dapa_exp.models.architecture import WHOLE, Part, Units
from dapa_exp.models.tensors import TensorInfo, TensorReader


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the teacher that will move, or some rows of one. `shape` and `bytes` count the moved rows only."""

    name: str
    unit: str
    rows: tuple[int, int] | None
    """The first row, and the row after the last; None for all rows."""
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class TransplantPlan:
    """The tensors that will move, and their share of the student's parameters."""

    tensors: tuple[PlannedTensor, ...]
    parameters_total: int
    """The number of parameters in the student's checkpoint."""

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
    """The plan to move all parts of the chosen units from teacher to student."""
    tensors = [_planned(unit, part, teacher.tensors[part.tensor]) for unit in chosen for part in units[unit]]
    return TransplantPlan(tuple(tensors), student.parameters)


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
