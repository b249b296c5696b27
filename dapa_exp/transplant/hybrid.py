"""A student that carries some of the teacher's units, swapped in place and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from dapa_exp.errors import DapaError
from dapa_exp.models.architecture import Units
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import tensor_digest
from dapa_exp.transplant.merge import HybridTensors
from dapa_exp.transplant.methods.contract import Method
from dapa_exp.transplant.methods.elementwise import Copy


class Hybrid:
    """The one model in memory. Tensors come one by one from the checkpoints; no second model is ever loaded."""

    def __init__(self, student: nn.Module, pair: Pair, method: Method | None = None) -> None:
        """`student` is the loaded student; `method` computes what is transplanted, the teacher's tensors by default.

        Raises DapaError where a unit's tensor is shared with one outside it.
        """
        self._parameters: dict[str, torch.Tensor] = {
            name: tensor.detach() for name, tensor in student.state_dict(keep_vars=True).items()
        }
        self.pair = pair
        self._method = method or Copy(pair)
        self._carried: frozenset[str] = frozenset()
        _refuse_shared(self._parameters, pair.units)

    def carry(self, units: Iterable[str]) -> None:
        """Hold transplanted tensors in exactly these units, the student's everywhere else."""
        wanted = frozenset(units)
        for unit in wanted - self._carried:
            for name in self.pair.units[unit]:
                self._parameters[name].copy_(self._method.tensor(unit, name))
        for unit in self._carried - wanted:
            for name in self.pair.units[unit]:
                self._parameters[name].copy_(self.pair.student.read(name))
        self._carried = wanted

    def written(self) -> int:
        """How many entries of the student's tensors are replaced by what is carried."""
        return sum(self._method.written(unit, name) for unit in self._carried for name in self.pair.units[unit])

    def verify(self) -> dict[str, Any]:
        """Compare every tensor in memory with what it must be, computed anew from the checkpoints, bit for bit.

        Returns the digest of each transplanted tensor and the count of those left as they were.
        Raises DapaError naming the first tensor that differs.
        """
        expected = HybridTensors(self.pair, self._carried, self._method)
        digests: dict[str, str] = {}
        untouched = 0
        for name, tensor in self._parameters.items():
            if name not in self.pair.student.tensors:
                continue  # a tied tensor: compared under the name that the checkpoint stores
            moved = name in expected.changed
            if not _same_bits(tensor, expected.read(name).to(tensor.dtype)):
                owner = "transplant" if moved else "student"
                raise DapaError(f"{name}: differs from the {owner}'s after the transplant")
            if moved:
                digests[name] = tensor_digest(tensor)
            else:
                untouched += 1
        return {"transplanted": digests, "untouched": untouched}


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
