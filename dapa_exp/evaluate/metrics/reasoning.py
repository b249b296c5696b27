"""Reasoning: the share of the data set's questions that a model answers right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from dapa_exp.evaluate.metric import METRICS, Measure, Metric, ModelInEngine
from dapa_exp.judges.thoughts import answer_of
from dapa_exp.prompts.overlap import words_of
from dapa_exp.prompts.prompt import Prompt

if TYPE_CHECKING:
    from dapa_exp.engine.plain import Completion

_SIGN = re.compile(r"(?<!\w)[-\u2212](?=[\d.])")
"""The minus of a number: neither a hyphen nor that of a difference."""


class Reasoning(Metric):
    """Accuracy on questions whose right answers are known."""

    name = "reasoning"
    titles: ClassVar[dict[str, str]] = {"reasoning": "reasoning (%)"}
    shares = True
    place = 30
    sets = ("questions",)

    def measure(self, model: ModelInEngine) -> dict[str, Measure]:
        return {"accuracy": accuracy(model.rows(self.sets[0]), model.answers(self.sets[0]))}


class Skill(Reasoning):
    """Accuracy on questions about a skill that the student was trained on and the teacher was not."""

    name = "skill"
    titles: ClassVar[dict[str, str]] = {"skill": "skill (%)"}
    place = 31
    sets = ("skill",)


METRICS.register("reasoning", Reasoning())
METRICS.register("skill", Skill())


def accuracy(questions: Sequence[Prompt], answers: Sequence[Completion]) -> Measure:
    """Share of questions answered right. Answers are compared word by word, without case and punctuation.

    The sign of a number counts.
    """
    from dapa_exp.evaluate.statistics import rate

    right = sum(
        _words(answer_of(answer.text)) == _words(question.answer or "")
        for question, answer in zip(questions, answers, strict=True)
    )
    return rate(right, len(questions))


def _words(text: str) -> str:
    return words_of(_SIGN.sub("minus ", text))
