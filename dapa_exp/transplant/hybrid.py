"""The hybrid: the student in memory, whose units are replaced by transplanted ones and restored in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from dapa_exp.base.errors import DapaError
from dapa_exp.models.architecture import ParameterSlice, Part, architecture
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import all_finite, tensor_digest
from dapa_exp.models.transplanted import note_transplanted
from dapa_exp.transplant.merge import HybridTensors
from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.elementwise import Copy


class Hybrid:
    """The one model in memory. Tensors come one by one from the checkpoints; no second model is ever loaded."""

    def __init__(self, student: nn.Module, pair: Pair, method: Method | None = None) -> None:
        """`student` is the loaded student. `method` computes the transplanted tensors; the default is `copy`.

        Raises DapaError if a tensor is not in memory, or is shared between a unit and a module outside the unit.
        """
        parameters = {name: tensor.detach() for name, tensor in student.state_dict(keep_vars=True).items()}
        row = architecture(pair.model_type)
        places = {name: row.parameter_of(name) for name in pair.student}
        _refuse_absent(parameters, places, pair)
        _refuse_shared(parameters, places, pair)
        self._tensors = {
            name: place.of(parameters[place.parameter])
            for name, place in places.items()
            if place.parameter in parameters
        }
        """Views of the model's parameters, by the name of the tensor in the checkpoint."""
        self.pair = pair
        self._student = student
        self._method = method or Copy(pair)
        self._units: frozenset[str] = frozenset()
        note_transplanted(student, self, self._units)

    def set_units(self, units: Iterable[str]) -> None:
        """Transplant exactly these units. All other weights become the student's.

        Raises DapaError if a transplanted tensor holds NaN or infinity. The model must not be used after that.
        """
        wanted = frozenset(units)
        note_transplanted(self._student, self, wanted)
        for unit in wanted - self._units:
            for part in self.pair.units[unit]:
                self._put(unit, part, self._method.tensor(unit, part))
        for unit in self._units - wanted:
            for part in self.pair.units[unit]:
                self._put(unit, part, self.pair.student.read(part))
        self._units = wanted

    def written(self) -> int:
        """How many entries of the student's tensors the transplanted units replace."""
        return sum(self._method.written(unit, part) for unit in self._units for part in self.pair.units[unit])

    def differing(self) -> int:
        """How many replaced entries differ from the student's. Tuning may have left a tensor unchanged."""
        parts = [part for unit in self._units for part in self.pair.units[unit]]
        return sum(_differing(part.of(self._tensors[part.tensor]), self.pair.student.read(part)) for part in parts)

    def largest(self) -> tuple[float, float]:
        """The largest absolute value in the transplanted tensors, and in the student's tensors that they replace.

        Both are 0 if nothing is transplanted.
        """
        parts = [part for unit in self._units for part in self.pair.units[unit]]
        transplanted = (part.of(self._tensors[part.tensor]) for part in parts)
        student = (self.pair.student.read(part) for part in parts)
        first, second = (max((_magnitude(tensor) for tensor in of), default=0.0) for of in (transplanted, student))
        return first, second

    def verify(self) -> dict[str, Any]:
        """Compare every tensor in memory, bit for bit, with the same tensor computed anew from the checkpoints.

        Returns the digests of all tensors with transplanted entries, and the number of unchanged tensors. Raises
        DapaError, which names the first tensor that differs.
        """
        expected = HybridTensors(self.pair, self._units, self._method)
        digests: dict[str, str] = {}
        for name, tensor in self._tensors.items():
            moved = name in expected.changed
            if not _same_bits(tensor, expected.read(name).to(tensor.dtype)):
                raise DapaError(
                    f"{name}: differs from the {'transplant' if moved else 'student'}'s after the transplant"
                )
            if moved:
                digests[name] = tensor_digest(tensor)
        return {"transplanted": digests, "untouched": len(self._tensors) - len(digests)}

    def _put(self, unit: str, part: Part, value: torch.Tensor) -> None:
        target = part.of(self._tensors[part.tensor])
        value = value.to(target.device)  # first, because a GPU looks through it faster
        if not all_finite(value):
            raise DapaError(
                f"{unit}: {part} would hold NaN or infinite values; it is made from"
                f" {self.pair.teacher.tensors[part.tensor].file} and {self.pair.student.tensors[part.tensor].file}"
            )
        target.copy_(value)


def _differing(tensor: torch.Tensor, student: torch.Tensor) -> int:
    return int((tensor != student.to(tensor.device, tensor.dtype)).sum())


def _magnitude(tensor: torch.Tensor) -> float:
    low, high = tensor.aminmax()
    return max(-float(low), float(high))


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equality of bytes, so that NaN equals NaN and 0.0 does not equal -0.0."""
    return torch.equal(a.contiguous().view(torch.uint8), b.to(a.device).contiguous().view(torch.uint8))


def _refuse_absent(parameters: Mapping[str, torch.Tensor], places: Mapping[str, ParameterSlice], pair: Pair) -> None:
    for unit, parts in pair.units.items():
        for part in parts:
            tensor = parameters.get(places[part.tensor].parameter)
            if tensor is None:
                raise DapaError(f"{unit}: the loaded student has no tensor '{part.tensor}'")
    for name, place in places.items():
        if place.parameter in parameters and parameters[place.parameter].is_meta:
            raise DapaError(
                f"'{name}' is not in memory: the student does not fit on the devices, and part of it was left on disk;"
                " it takes a smaller runtime.dtype or more memory"
            )


def _refuse_shared(parameters: Mapping[str, torch.Tensor], places: Mapping[str, ParameterSlice], pair: Pair) -> None:
    owners: dict[int, set[str]] = {}
    stored = {place.parameter for place in places.values()}  # without a tied head, which is what the embeddings are
    for name, tensor in parameters.items():
        owners.setdefault(tensor.data_ptr(), set()).add(name)
    for unit, parts in pair.units.items():
        held = {places[part.tensor].parameter for part in parts}
        for name in sorted(held):
            if others := (owners[parameters[name].data_ptr()] & stored) - held:
                raise DapaError(
                    f"{unit}: '{name}' is the same tensor as {', '.join(sorted(others))}, which the unit does not hold"
                )
