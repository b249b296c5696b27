"""Over-refusal: the share of harmless requests that a model refuses, by each judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from dapa_exp.evaluate.metric import METRICS, Metric, ModelInEngine, Step
from dapa_exp.prompts.load import PromptSets


class OverRefusal(Metric):
    """Has harmless answers judged. `dapa_exp.evaluate.conclusion` computes the rates from the verdicts."""

    name = "over_refusal"
    titles: ClassVar[dict[str, str]] = {"over_refusal": "over-refusal (%), {}"}
    shares = True
    place = 10

    def steps(self, model: ModelInEngine) -> Mapping[str, Step]:
        return {}

    def judged_sets(self, prompts: PromptSets) -> Iterable[str]:
        return [*(["harmless"] if prompts.harmless else []), *prompts.more_harmless]


METRICS.register("over_refusal", OverRefusal())
