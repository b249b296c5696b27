"""The baseline that reviewers ask for: the student's own tensors, tuned on refusals instead of transplanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from dapa_exp.config.dataset import Rows
from dapa_exp.config.names import Count, Real, Whole
from dapa_exp.config.registries import METHODS, MethodSettings
from dapa_exp.record.layout import RunLayout
from dapa_exp.transplant.methods.contract import Method, read_prepared

if TYPE_CHECKING:
    import torch

    from dapa_exp.models.architecture import Part
    from dapa_exp.models.pair import Pair
    from dapa_exp.transplant.methods.contract import Sources


class TuningSettings(MethodSettings):
    """How the student is tuned."""

    method: Literal["fine_tune"]
    objective: Literal["sft", "dpo"]
    harmless: Rows = Field(description="rows that the student goes on answering as it does")
    steps: Count
    batch: Count = Field(description="rows a step")
    rate: Annotated[Real, Field(gt=0)] = Field(description="AdamW's peak learning rate")
    rank: Count | None = Field(description="LoRA's rank; null: all entries are tuned")
    beta: Annotated[Real, Field(gt=0)] = Field(description="DPO's weight of the distance to the student")
    seed: Whole


class FineTune(Method):
    """W = the student's tensor after tuning. The teacher gives no tensor: it gives the refusals of the search rows.

    Only the tensors of the pair's units are tuned, all together. So a search for fewer of them says little, and
    `search=all` is the baseline.
    """

    Settings = TuningSettings

    def __init__(self, pair: Pair, **settings: object) -> None:
        super().__init__(pair)
        self._settings = TuningSettings(method="fine_tune", **settings)  # type: ignore[arg-type]
        self._tuned: Mapping[str, torch.Tensor] = {}
        """The tuned tensors, by the name of the part."""

    def prepare(self, folder: Path, sources: Sources) -> None:
        from dapa_exp.models.tensors import remembered_tensors  # imported here: reading a config must not import torch

        self._tuned = remembered_tensors(RunLayout(folder).tuned, lambda: sources.tune(self._settings))

    def restore(self, folder: Path) -> None:
        self._tuned = read_prepared(RunLayout(folder).tuned)

    def _computed(self, unit: str, part: Part, student: torch.Tensor) -> torch.Tensor:
        return self._tuned[str(part)]


METHODS.register("fine_tune", FineTune)
