"""What the measurements of student, hybrid and teacher come to. No model is needed for any of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dapa_exp.evaluate.defence import agreement, defence, over_refusal, why_no_over_refusal
from dapa_exp.evaluate.statistics import detectable_gain, mcnemar, paired_difference, probability_above
from dapa_exp.judges import DEFENDED, Judge, Verdict
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.schema import Agreement, Comparison, Control, EvaluateRecord, LayerChange, Measure, Subject

Verdicts = Mapping[str, Mapping[str, list[Verdict]]]
"""By prompt set, then by judge, in the order of the set's prompts."""
Differences = Mapping[str, Mapping[str, int | None]]
"""By prompt set, then by judge: on how many answers its early and its whole verdict differ."""
ModelName = Literal["student", "hybrid", "teacher"]
Side = Literal["harmful", "harmless"]


@dataclass(frozen=True)
class Measured:
    """What was measured of a model, and every judge's verdicts on its answers."""

    subject: Subject
    verdicts: Verdicts


@dataclass(frozen=True)
class Comparer:
    """Compares models by the run's own judge on the report rows, and judges on all harmful sets."""

    judge: str
    report: Sequence[Prompt]
    harmful: Sequence[str]
    """Names of the harmful prompt sets, `report` among them."""

    def conclude(
        self,
        student: Measured,
        hybrid: Measured,
        teacher: Measured,
        random: Control,
        change_by_layer: dict[Side, list[LayerChange]],
        threshold_dsr: float,
    ) -> EvaluateRecord:
        """All that was measured of the three models, and how they compare."""
        outcomes = hybrid.subject.outcomes
        return EvaluateRecord(
            student=student.subject,
            hybrid=hybrid.subject,
            teacher=teacher.subject,
            comparisons=[self._compare(hybrid, student, "student"), self._compare(hybrid, teacher, "teacher")],
            above_threshold=probability_above(
                outcomes.refused + outcomes.harmless, hybrid.subject.dsr.n, threshold_dsr
            ),
            random=random,
            agreement=agreement(by_judge([m.verdicts for m in (student, hybrid, teacher)], self.harmful)),
            agreement_by_model=agreement_by_model(
                {"student": student.verdicts, "hybrid": hybrid.verdicts, "teacher": teacher.verdicts}, self.harmful
            ),
            change_by_layer=change_by_layer,
        )

    def _compare(self, hybrid: Measured, other: Measured, against: Literal["student", "teacher"]) -> Comparison:
        """Hybrid against another model, row by row, where both were judged."""
        ours, theirs = (measured.verdicts["report"][self.judge] for measured in (hybrid, other))
        rows = [
            (a in DEFENDED, b in DEFENDED, prompt.category or prompt.id)
            for a, b, prompt in zip(ours, theirs, self.report, strict=True)
            if Verdict.FAILED not in (a, b)
        ]
        gained, lost = sum(a > b for a, b, _ in rows), sum(a < b for a, b, _ in rows)
        return Comparison(
            against=against,
            difference=paired_difference([a - b for a, b, _ in rows], [cluster for _, _, cluster in rows]),
            detectable=detectable_gain(other.subject.dsr.value, len(rows)),
            gained=gained,
            lost=lost,
            p_value=mcnemar(gained, lost),
        )


def subject(
    judges: Mapping[str, Judge],
    harmful: Collection[str],
    verdicts: Verdicts,
    early_differs: Differences,
    found: Mapping[str, Mapping[str, Measure]],
) -> Subject:
    """One model's part of the record: every judge's view of every set, the first judge's as the headline.

    `harmful` names the prompt sets that are, the others being harmless. `found` holds the metrics by
    name, those of the task t of lm-evaluation-harness under `task-t`.
    """
    judge = next(iter(judges))
    defended = {
        rows: {name: defence(v, early_differs[rows][name]) for name, v in verdicts[rows].items()} for rows in harmful
    }
    refused = {
        rows: {name: over_refusal(v, judges[name].sees) for name, v in by.items()}
        for rows, by in verdicts.items()
        if rows not in harmful
    }
    reasons = {name: why for name, each in judges.items() if (why := why_no_over_refusal(name, each.sees))}
    perplexity, reasoning = found.get("perplexity", {}), found.get("reasoning", {})
    return Subject(
        dsr=defended["report"][judge].dsr,
        outcomes=defended["report"][judge].outcomes,
        over_refusal=refused["harmless"][judge] if "harmless" in refused else None,
        defence=defended,
        over_refusals=refused,
        no_over_refusal=reasons if refused else {},
        perplexity=perplexity.get("token"),
        word_perplexity=perplexity.get("word"),
        reasoning=reasoning.get("accuracy"),
        tasks={name: m for step, scores in found.items() if step.startswith("task-") for name, m in scores.items()},
        kl_to_student=dict(found["kl_to_student"]) if "kl_to_student" in found else None,
        kl_to_teacher=dict(found["kl_to_teacher"]) if "kl_to_teacher" in found else None,
    )


def agreement_by_model(
    models: Mapping[ModelName, Verdicts], harmful: Sequence[str]
) -> dict[ModelName, list[Agreement]]:
    """How far judges agree within each model's answers; empty with a single judge."""
    found = {model: agreement(by_judge([verdicts], harmful)) for model, verdicts in models.items()}
    return {model: agreed for model, agreed in found.items() if agreed}


def by_judge(models: Sequence[Verdicts], harmful: Sequence[str]) -> dict[str, list[Verdict]]:
    """Each judge's verdicts on all answers of all models to all harmful prompts, in one order."""
    judges = models[0]["report"]
    return {
        judge: [verdict for model in models for rows in harmful for verdict in model[rows][judge]] for judge in judges
    }
