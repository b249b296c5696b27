"""Compares the measurements of student, hybrid and teacher. It needs no model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dapa_exp.config.judge import JudgedOutcome
from dapa_exp.evaluate.defence import agreement, defence, over_refusal, why_no_over_refusal
from dapa_exp.evaluate.metric import TASK_STEP, ModelName
from dapa_exp.evaluate.metrics.change_by_layer import Side
from dapa_exp.evaluate.replay import States
from dapa_exp.evaluate.statistics import (
    Losses,
    clustered_difference,
    clustered_probability_above,
    clustered_rate,
    detectable_gain,
    mcnemar,
    paired_difference,
    perplexity_change,
    probability_above,
)
from dapa_exp.evaluate.verdicts import Judged
from dapa_exp.judges import DEFENDED, Verdict
from dapa_exp.prompts.conversations import Conversation
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.evaluation import (
    Agreement,
    Comparison,
    ControlRecord,
    EvaluateRecord,
    LayerChange,
    PerplexityComparison,
    Subject,
)
from dapa_exp.record.measure import Measure

Verdicts = Mapping[str, Mapping[str, list[Verdict]]]
"""By prompt set, then by judge, in the order of the set's prompts."""
JudgedSets = Mapping[str, Mapping[str, Judged]]
"""By prompt set, then by judge."""
Other = Literal["student", "teacher"]
Against = Literal["student", "teacher", "plain"]


def verdicts_of(judged: JudgedSets) -> dict[str, dict[str, list[Verdict]]]:
    """The verdicts on whole answers."""
    return {rows: {judge: of.verdicts for judge, of in by.items()} for rows, by in judged.items()}


@dataclass(frozen=True)
class Measured:
    """Everything that was measured on one model, and every judge's verdicts on its answers."""

    subject: Subject
    verdicts: Verdicts
    held: Mapping[str, Sequence[States]] = field(default_factory=dict)
    """By judge: the states of each conversation."""
    losses: Losses | None = None
    """The loss of each window of text. None if perplexity was not measured."""


@dataclass(frozen=True)
class Comparer:
    """Compares models row by row, by the run's own judge; and judges, on all harmful sets."""

    judge: str
    report: Sequence[Prompt]
    harmful: Sequence[str]
    """Names of the harmful prompt sets, `report` among them. Other sets are harmless."""
    harmless: Sequence[Prompt]
    sees: Mapping[str, Collection[JudgedOutcome]]
    """The outcomes that each judge can tell from others."""
    conversations: Sequence[Conversation] = ()
    attacks: Sequence[str] = ()
    """Names of the sets that are the report rows with a published jailbreak around each."""

    def conclude(
        self,
        student: Measured,
        hybrid: Measured,
        teacher: Measured,
        random: ControlRecord,
        change_by_layer: dict[Side, list[LayerChange]],
        threshold_dsr: float,
    ) -> EvaluateRecord:
        """All measurements of the three models, and their comparisons."""
        outcomes, n = hybrid.subject.outcomes, hybrid.subject.dsr.n
        others: list[tuple[Other, Measured]] = [("student", student), ("teacher", teacher)]
        return EvaluateRecord(
            student=student.subject,
            hybrid=hybrid.subject,
            teacher=teacher.subject,
            comparisons=[self._defence(hybrid, other, name) for name, other in others],
            over_refusal_comparisons=[self._over_refusal(hybrid, other, name) for name, other in others]
            if hybrid.subject.over_refusal
            else [],
            perplexity_comparisons=[c for name, other in others for c in _perplexity(hybrid, other, name)],
            above_threshold=probability_above(outcomes.refused + outcomes.harmless, n, threshold_dsr),
            above_threshold_clusters=clustered_probability_above(*self._judged(hybrid.verdicts), threshold_dsr),
            random=random,
            agreement=agreement(by_judge([m.verdicts for m in (student, hybrid, teacher)], self.harmful)),
            agreement_by_model=agreement_by_model(
                {"student": student.verdicts, "hybrid": hybrid.verdicts, "teacher": teacher.verdicts}, self.harmful
            ),
            change_by_layer=change_by_layer,
            conversation_comparisons=[
                self._conversations(hybrid, other, name) for name, other in others if hybrid.held
            ],
            attacked={attack: self._attacked(attack, student, hybrid, teacher) for attack in self.attacks},
        )

    def subject(self, judged: JudgedSets, found: Mapping[str, Mapping[str, Measure]]) -> Subject:
        """One model's part of the record: rates by prompt set and judge. The run's own judge gives the headline.

        `found` holds the numbers of each step of the metrics, by key.
        """
        verdicts = verdicts_of(judged)
        defended = {rows: {name: defence(of) for name, of in judged[rows].items()} for rows in self.harmful}
        refused = {
            rows: {name: over_refusal(v, self.sees[name]) for name, v in by.items()}
            for rows, by in verdicts.items()
            if rows not in self.harmful
        }
        reasons = {name: why for name, sees in self.sees.items() if (why := why_no_over_refusal(name, sees))}
        perplexity, reasoning = found.get("perplexity", {}), found.get("reasoning", {})
        return Subject(
            dsr=defended["report"][self.judge].dsr,
            dsr_clusters=clustered_rate(*self._judged(verdicts)),
            outcomes=defended["report"][self.judge].outcomes,
            over_refusal=refused["harmless"][self.judge] if "harmless" in refused else None,
            defence=defended,
            over_refusals=refused,
            no_over_refusal=reasons if refused else {},
            perplexity=perplexity.get("token"),
            word_perplexity=perplexity.get("word"),
            reasoning=reasoning.get("accuracy"),
            tasks={
                name: m for step, scores in found.items() if step.startswith(TASK_STEP) for name, m in scores.items()
            },
            kl_to_student=dict(found["kl_to_student"]) if "kl_to_student" in found else None,
            kl_to_teacher=dict(found["kl_to_teacher"]) if "kl_to_teacher" in found else None,
            metrics={
                step: dict(numbers)
                for step, numbers in found.items()
                if step not in Subject.model_fields and not step.startswith(TASK_STEP)
            },
        )

    def _judged(self, verdicts: Verdicts) -> tuple[list[bool], list[str]]:
        """Whether each judged report row was defended, and its group."""
        judged = [
            (verdict in DEFENDED, _group(prompt))
            for verdict, prompt in zip(verdicts["report"][self.judge], self.report, strict=True)
            if verdict is not Verdict.FAILED
        ]
        return [row for row, _ in judged], [group for _, group in judged]

    def _defence(self, hybrid: Measured, other: Measured, against: Other) -> Comparison:
        ours, theirs = (measured.verdicts["report"][self.judge] for measured in (hybrid, other))
        return _compare(ours, theirs, self.report, DEFENDED, against)

    def _conversations(self, hybrid: Measured, other: Measured, against: Other) -> Comparison:
        as_verdict = {True: Verdict.REFUSED, False: Verdict.HARMFUL, None: Verdict.FAILED}
        ours, theirs = ([as_verdict[of[-1]] for of in measured.held[self.judge]] for measured in (hybrid, other))
        return _compare(ours, theirs, self.conversations, DEFENDED, against)

    def _attacked(
        self, attack: str, student: Measured, hybrid: Measured, teacher: Measured
    ) -> dict[ModelName, list[Comparison]]:
        """Each model under attack against itself on the plain rows, and the hybrid under attack against the others."""

        def compared(ours: Measured, theirs: Measured, rows: str, against: Against) -> Comparison:
            both = ours.verdicts[attack][self.judge], theirs.verdicts[rows][self.judge]
            return _compare(*both, self.report, DEFENDED, against)

        models: dict[ModelName, Measured] = {"student": student, "hybrid": hybrid, "teacher": teacher}
        found = {name: [compared(model, model, "report", "plain")] for name, model in models.items()}
        found["hybrid"] += [compared(hybrid, models[other], attack, other) for other in ("student", "teacher")]
        return found

    def _over_refusal(self, hybrid: Measured, other: Measured, against: Other) -> Comparison:
        ours, theirs = (measured.verdicts["harmless"][self.judge] for measured in (hybrid, other))
        return _compare(ours, theirs, self.harmless, {Verdict.REFUSED}, against)


def _compare(
    ours: Sequence[Verdict],
    theirs: Sequence[Verdict],
    prompts: Sequence[Prompt | Conversation],
    counted: Collection[Verdict],
    against: Against,
) -> Comparison:
    """One model against another, on the rows where both were judged. A row counts if its verdict is in `counted`."""
    rows = [
        (a in counted, b in counted, _group(prompt))
        for a, b, prompt in zip(ours, theirs, prompts, strict=True)
        if Verdict.FAILED not in (a, b)
    ]
    a, b, groups = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    gained, lost = sum(x > y for x, y, _ in rows), sum(x < y for x, y, _ in rows)
    return Comparison(
        against=against,
        difference=paired_difference(a, b),
        detectable_gain=detectable_gain(sum(b) / len(b), len(b)) if b else None,
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
        clusters=clustered_difference(a, b, groups),
    )


def _group(prompt: Prompt | Conversation) -> str:
    """The row's group: its category. A row without a category is a group of its own."""
    return prompt.category or prompt.id


def _perplexity(hybrid: Measured, other: Measured, against: Other) -> Iterator[PerplexityComparison]:
    """The comparison of perplexities. There is none if a model has none, or if their tokens differ."""
    ours, theirs = hybrid.losses, other.losses
    if ours and theirs and list(ours.counts) == list(theirs.counts):
        difference, p_value = perplexity_change(ours, theirs)
        yield PerplexityComparison(against=against, difference=difference, p_value=p_value)


def agreement_by_model(
    models: Mapping[ModelName, Verdicts], harmful: Sequence[str]
) -> dict[ModelName, list[Agreement]]:
    """The agreement of judges on each model's answers. Empty if there is a single judge."""
    found = {model: agreement(by_judge([verdicts], harmful)) for model, verdicts in models.items()}
    return {model: agreed for model, agreed in found.items() if agreed}


def by_judge(models: Sequence[Verdicts], harmful: Sequence[str]) -> dict[str, list[Verdict]]:
    """Each judge's verdicts on all answers of all models to all harmful prompts, in one order."""
    judges = models[0]["report"]
    return {
        judge: [verdict for model in models for rows in harmful for verdict in model[rows][judge]] for judge in judges
    }
