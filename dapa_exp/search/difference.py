"""Measures how far the teacher's weights are from the student's. It reads the checkpoints and needs no model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import torch

from dapa_exp.models.pair import Pair

BLOCK = 1 << 20
"""Number of tensor elements that are converted to float32 at a time."""


def difference_norm(pair: Pair) -> dict[str, float]:
    """‖W_teacher − W_student‖ / ‖W_student‖ for each unit, with Frobenius norms over all its tensors."""
    return {unit: sqrt(of.difference / of.student) if of.student else 0.0 for unit, of in _compared(pair)}


def difference_cosine(pair: Pair) -> dict[str, float]:
    """1 − cos(W_teacher, W_student) for each unit, with all its tensors as one vector."""
    return {
        unit: 1.0 - of.product / sqrt(of.teacher * of.student) if of.teacher and of.student else 0.0
        for unit, of in _compared(pair)
    }


@dataclass
class _Sums:
    """Sums over a unit's elements: of squares, of squared differences, and of products."""

    teacher: float = 0.0
    student: float = 0.0
    difference: float = 0.0
    product: float = 0.0


def _compared(pair: Pair) -> Iterator[tuple[str, _Sums]]:
    for unit, parts in pair.units.items():
        sums = _Sums()
        for part in parts:
            for teacher, student in blocks(pair.teacher.read(part), pair.student.read(part)):
                sums.teacher += dot(teacher, teacher)
                sums.student += dot(student, student)
                sums.difference += dot(teacher - student, teacher - student)
                sums.product += dot(teacher, student)
        yield unit, sums


def blocks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Blocks of flattened tensors of the same shape, in float32 on the first tensor's device."""
    device = tensors[0].device
    for parts in zip(*(tensor.detach().reshape(-1).split(BLOCK) for tensor in tensors), strict=True):
        yield tuple(part.to(device, torch.float32) for part in parts)


def dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """The inner product of two vectors, summed in float64."""
    return float((a * b).sum(dtype=torch.float64))
