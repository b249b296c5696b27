"""The schema of a run's config, with one class for each config group.

The YAML files in `conf/` hold all defaults. The classes here say which keys and values are allowed. A composed config
is validated against `Config` at once, so that all its problems are reported together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from dapa_exp.config.dataset import Dataset
from dapa_exp.config.evaluate import Evaluate
from dapa_exp.config.group import Group
from dapa_exp.config.judge import JudgeSettings
from dapa_exp.config.models import Family, PairSettings
from dapa_exp.config.names import (
    Count,
    CountOrAuto,
    FolderBelow,
    Real,
    device_name,
    refuse_strange,
    sure_place,
)
from dapa_exp.config.own_pair import name_by_models
from dapa_exp.config.registries import ALGORITHMS, MethodSettings
from dapa_exp.config.search import Granularity, Localise, Search
from dapa_exp.config.transplant import Drift, Transplant


class RecordSettings(Group):
    """Where results are written. No key here changes a result, so none is part of the identity."""

    dir: Annotated[str, AfterValidator(sure_place)]
    experiment: FolderBelow = Field(description="name of the sweep: its folder below dir, and its W&B group")
    share: bool = Field(
        default=True, description="measure a teacher or student once for all runs of the sweep that need the same"
    )
    until: Literal["search"] | None = Field(
        default=None, description="stop after this stage; the same command without this key goes on from there"
    )
    wandb: Literal["off", "offline", "online"]
    wandb_project: str
    wandb_entity: str | None


class Runtime(Group):
    """How a run is computed.

    dtype and batch_size can change greedy answers. The fast engine can change them too, but only below float32.
    """

    device: Annotated[str, device_name("auto")] = Field(description="auto: layers spread over all devices")
    dtype: Literal["float32", "bfloat16", "float16"]
    engine: Literal["plain", "fast", "vllm"] = Field(
        description="fast: in float32 the same verdicts, by the next three keys; vllm: vLLM generates"
    )
    reuse_memory: Annotated[Real, Field(ge=0.0)] = Field(description="GB for reused layer outputs on prompts; 0: none")
    drafts: bool = Field(description="use earlier hybrids' answers as drafts, and decode only where they differ")
    early_verdicts: bool = Field(description="stop an answer once the judge can tell whether it is defended")
    graphs: bool = Field(
        default=False, description="on one GPU, below float32: repeat the kernels of a token as a CUDA graph"
    )
    tensor_parallel: Count = Field(default=1, description="devices that vLLM spreads the model over")
    cache_memory: Annotated[Real, Field(gt=0.0)] = Field(
        default=1.0, description="GB of vLLM's cache of keys and values, on each device"
    )
    batch_size: Count
    threads: Count = Field(description="torch threads of each process")
    processes: CountOrAuto = Field(
        description="how many runs of a sweep to carry out at a time on one machine; auto: as many as fit into memory"
    )
    wait: bool = Field(default=True, description="false: return as soon as the runs are submitted to a cluster")

    @model_validator(mode="after")
    def _engine_fits_devices(self) -> Self:
        if self.engine == "vllm" and self.device not in ("cpu", "cuda", "auto"):
            raise ValueError(
                f"engine=vllm takes the devices that are visible, not device={self.device}; allowed: cpu, cuda, auto."
                " CUDA_VISIBLE_DEVICES chooses one"
            )
        if self.tensor_parallel > 1 and (self.engine != "vllm" or self.device == "cuda"):
            raise ValueError(
                f"tensor_parallel={self.tensor_parallel} needs engine=vllm, and device=auto or cpu: with device=cuda a"
                " run of a sweep sees one GPU"
            )
        return self


class Config(Group):
    family: Family
    pair: PairSettings
    granularity: Granularity
    dataset: Dataset
    search: Search
    localise: Localise
    drift: Drift | None = None
    transplant: Transplant
    judge: JudgeSettings
    judges: dict[str, JudgeSettings] = Field(
        default={}, description="further judges of the same report answers, by name"
    )
    evaluate: Evaluate
    record: RecordSettings
    runtime: Runtime

    @model_validator(mode="before")
    @classmethod
    def _named_by_models(cls, body: Any) -> Any:
        return name_by_models(body)

    @field_validator("search")
    @classmethod
    def _paper_layers_known(cls, search: Search, info: ValidationInfo) -> Search:
        family: Family | None = info.data.get("family")
        if search.algorithm == "fixed" and family and family.paper_layers is None:
            raise ValueError("fixed needs family.paper_layers, which is null; search=given takes layers of your own")
        return search

    @field_validator("search", "transplant", "evaluate", "runtime")
    @classmethod
    def _for_several_students(cls, part: Group, info: ValidationInfo) -> Group:
        pair: PairSettings | None = info.data.get("pair")
        if pair and pair.also and (problem := _only_for_one_student(part)):
            raise ValueError(f"{problem}; with pair.also, a search looks for one set for several students")
        return part

    def by_student(self) -> list[Config]:
        """A config for each student that the search is to serve, the pair's own first."""
        pair = self.pair
        names = [pair.name, *(f"{pair.name} ({model.id})" for model in pair.also)]
        return [
            self.model_copy(update={"pair": pair.model_copy(update={"name": name, "student": model, "also": []})})
            for name, model in zip(names, pair.students, strict=True)
        ]

    @property
    def label(self) -> str:
        """A short name of the run for progress displays: pair, granularity and search."""
        prior = self.search.prior if self.search.prior not in (None, "uniform") else None
        return " ".join(filter(None, (self.pair.name, self.granularity.name, self.search.algorithm, prior)))

    @field_validator("judges")
    @classmethod
    def _named_apart(cls, judges: dict[str, JudgeSettings], info: ValidationInfo) -> dict[str, JudgeSettings]:
        own: JudgeSettings | None = info.data.get("judge")
        if own is not None and own.name in judges:
            raise ValueError(f"'{own.name}': the run's own judge has this name; choose another")
        for name in judges:
            refuse_strange(name)
        return judges


def _only_for_one_student(part: Group) -> str | None:
    """What a part of the config asks for that a search for one set for several students does not have."""
    match part:
        case Search() if ALGORITHMS.get(part.algorithm).control:
            return f"algorithm is {part.algorithm}, which searches for no set; give the set to each student by itself"
        case Search(longer_tokens=int()):
            return "longer_tokens must be null"
        case MethodSettings() if part.method != "copy":
            return f"method is {part.method}; it must be copy"
        case Evaluate(confirm=float()):
            return "confirm must be null"
        case Runtime(engine="vllm"):
            return "engine is vllm; it must be fast or plain"
    return None
