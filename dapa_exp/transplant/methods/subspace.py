"""Safe LoRA and SafeMERGE: change only those matrices whose fine-tuning has left the alignment subspace.

S is the student, T the aligned teacher, and B the unaligned base that the teacher was aligned from. For each matrix,
D = S − T is the student's update away from the teacher, and V = T − B spans the alignment subspace. Both methods
project D onto this subspace by

    C = V Vᵀ / ‖V‖    (Frobenius norm)

which is faster than the exact projection V (VᵀV)⁻¹ Vᵀ. They change a matrix if cos(D, C D) is below a threshold.
Vectors (norms, biases) stay the student's. All is computed in float32.

Both are made for a student that was tuned from the teacher. For one that was tuned from the base, D contains −V, and
cos(D, C D) is high just where the teacher's alignment is: these matrices would be left alone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dapa_exp.config.models import Base
from dapa_exp.config.names import Real, Share
from dapa_exp.config.registries import METHODS, MethodSettings
from dapa_exp.transplant.methods.contract import Method

if TYPE_CHECKING:
    import torch

    from dapa_exp.models.architecture import Part
    from dapa_exp.models.pair import Pair
    from dapa_exp.models.tensors import TensorReader


class SubspaceSettings(MethodSettings):
    of_teacher: ClassVar[bool] = True
    threshold: Annotated[Real, Field(ge=-1.0, le=1.0)]
    base: Base | None
    any_student: bool = Field(description="also a student that was not tuned from the teacher")

    @model_validator(mode="after")
    def _has_a_base(self) -> Self:
        if self.base is None:
            raise ValueError(
                "base is null: the unaligned model that the teacher was aligned from must be named: transplant.base=ID"
            )
        return self


class SubspaceMethod(Method):
    """Keeps the student's tensor unless its update has left the alignment subspace."""

    def __init__(self, pair: Pair, base: TensorReader, threshold: float) -> None:
        super().__init__(pair)
        self._base = base
        self._threshold = threshold

    def written(self, unit: str, part: Part) -> int:
        return self._entries(part) if self._acts_on(part, self._pair.student.read(part)) is not None else 0

    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        acted = self._acts_on(part, student)
        return student if acted is None else acted

    def _acts_on(self, part: Part, student: torch.Tensor) -> torch.Tensor | None:
        """The new tensor, or None if the student's stays."""
        if student.dim() != 2:
            return None
        update, projected = self._update_and_projection(part, student.float())
        if _cosine(update, projected) >= self._threshold:
            return None
        return self._replacement(student.float(), self._pair.teacher.read(part).float(), projected)

    def _update_and_projection(self, part: Part, student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        teacher = self._pair.teacher.read(part).float()
        update, aligned = student - teacher, teacher - self._base.read(part).float()
        norm = aligned.norm()
        if norm == 0:
            return update, update.new_zeros(update.shape)
        return update, aligned @ (aligned.T @ update) / norm

    @abstractmethod
    def _replacement(self, student: torch.Tensor, teacher: torch.Tensor, projected: torch.Tensor) -> torch.Tensor:
        """The tensor that replaces one below the threshold. `projected` is C D."""


class SafeLora(SubspaceMethod):
    """W = T + C D if cos(D, C D) < threshold, else W = S: the update is projected onto the alignment subspace.

    Safe LoRA (C.-Y. Hsu et al.: Safe LoRA: the Silver Lining of Reducing Safety Risks when Fine-tuning Large Language
    Models, arXiv 2405.16833, section 3).
    """

    class Settings(SubspaceSettings):
        method: Literal["safe_lora"]

    def _replacement(self, student: torch.Tensor, teacher: torch.Tensor, projected: torch.Tensor) -> torch.Tensor:
        return teacher + projected


class SafeMerge(SubspaceMethod):
    """W = (1 − α)·S + α·T if cos(D, C D) < threshold, else W = S: merged with the safe model, here the teacher.

    SafeMERGE (A. Djuhera et al., arXiv 2503.17239, section 3).
    """

    class Settings(SubspaceSettings):
        method: Literal["safe_merge"]
        alpha: Share

    def __init__(self, pair: Pair, base: TensorReader, threshold: float, alpha: float) -> None:
        super().__init__(pair, base, threshold)
        self._alpha = alpha

    def _replacement(self, student: torch.Tensor, teacher: torch.Tensor, projected: torch.Tensor) -> torch.Tensor:
        return student.lerp(teacher, self._alpha)


def _cosine(update: torch.Tensor, projected: torch.Tensor) -> float:
    """The cosine similarity of both. 1 for a zero update, so that the method leaves its matrix alone."""
    if not update.any():
        return 1.0
    from torch.nn import functional  # here, since a config is read without it

    return float(functional.cosine_similarity(update.flatten(), projected.flatten(), dim=0))


METHODS.register("safe_lora", SafeLora)
METHODS.register("safe_merge", SafeMerge)
