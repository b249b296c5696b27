"""Methods that treat every entry alike: copy, blend, task vector."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from dapa_exp.base.errors import DapaError, nearest
from dapa_exp.config.models import Base
from dapa_exp.config.names import Real, Share, Whole
from dapa_exp.config.registries import METHODS, MethodSettings
from dapa_exp.transplant.methods.contract import Method

if TYPE_CHECKING:
    import torch

    from dapa_exp.models.architecture import Part
    from dapa_exp.models.pair import Pair
    from dapa_exp.models.tensors import TensorReader


class Copy(Method):
    """W = T: the teacher's tensor replaces the student's, bit for bit if both have the same dtype."""

    class Settings(MethodSettings):
        method: Literal["copy"]

    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        return self._pair.teacher.read(part)


class Blend(Method):
    """W = (1 − α)·S + α·T, computed in float32. `alphas` overrides `alpha` for single units.

    α = 1 gives exactly the teacher's tensor, α = 0 the student's.
    """

    class Settings(MethodSettings):
        method: Literal["blend"]
        alpha: Share
        alphas: dict[str, Share] = Field(description="values for single units, instead of alpha")

    def __init__(self, pair: Pair, alpha: float, alphas: Mapping[str, float]) -> None:
        super().__init__(pair)
        for unit in alphas.keys() - pair.units.keys():
            raise DapaError(f"transplant.alphas: no unit '{unit}' at this granularity.{nearest(unit, pair.units)}")
        self._alpha = alpha
        self._alphas = alphas

    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        teacher = self._pair.teacher.read(part)
        return student.float().lerp(teacher.float(), self._alphas.get(unit, self._alpha))


class TaskVector(Method):
    """W = S + γ·DARE(T − B), in float32: adds the safety vector, teacher minus base, to the student.

    RESTA (R. Bhardwaj, D. D. Anh, S. Poria: Language Models are Homer Simpson!, arXiv 2402.11746, section 3) adds the
    vector aligned − unaligned to a fine-tuned model. DARE (L. Yu et al.: Language Models are Super Mario,
    arXiv 2311.03099, section 3) drops entries of a difference at random with probability p, and divides the others by
    1 − p. Here it is applied to the added vector, so dropped entries stay the student's, bit for bit. The mask depends
    only on the seed and the tensor's name.
    """

    class Settings(MethodSettings):
        method: Literal["task_vector"]
        gamma: Real
        drop: Annotated[Real, Field(ge=0.0, lt=1.0)]
        seed: Whole
        base: Base | None

    def __init__(self, pair: Pair, base: TensorReader, gamma: float, drop: float, seed: int) -> None:
        super().__init__(pair)
        self._base = base
        self._gamma = gamma
        self._drop = drop
        self._seed = seed

    def written(self, unit: str, part: Part) -> int:
        return int(self._kept(part).sum()) if self._drop else self._entries(part)

    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        vector = self._pair.teacher.read(part).float() - self._base.read(part).float()
        if self._drop:
            vector = (vector / (1.0 - self._drop)).where(self._kept(part), vector.new_zeros(()))
        return student.float() + self._gamma * vector

    def _kept(self, part: Part) -> torch.Tensor:
        import torch  # here, since a config is read without it

        seed = hashlib.sha256(f"{self._seed}|{part}".encode()).digest()[:8]
        generator = torch.Generator().manual_seed(int.from_bytes(seed, "big", signed=True))
        return torch.rand(self._shape(part), generator=generator) >= self._drop


METHODS.register("copy", Copy)
METHODS.register("blend", Blend)
METHODS.register("task_vector", TaskVector)
