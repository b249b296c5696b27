"""Conversations: the DSR at each turn, and the turn at which a conversation is broken, by each judge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dapa_exp.evaluate.metric import METRICS, Metric, ModelInEngine, Step
from dapa_exp.prompts.load import PromptSets


class Conversations(Metric):
    """It has the answers at each turn judged. The rates are made from the verdicts (`dapa_exp.evaluate.talks`)."""

    name = "conversations"

    def steps(self, model: ModelInEngine) -> Mapping[str, Step]:
        return {}

    def harmful_sets(self, prompts: PromptSets) -> Iterable[str]:
        return prompts.turns


METRICS.register("conversations", Conversations())
