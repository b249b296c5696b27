"""Measures one model after another on the report rows: the same prompts, judge and code for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dapa_exp.config.schema import Config
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import Completion, PlainEngine
from dapa_exp.evaluate.judges import DEFENDED, Judge, Verdict
from dapa_exp.evaluate.metrics import accuracy, defence_rate, divergence, outcomes, perplexity, reference, refusal_rate
from dapa_exp.evaluate.prompts import Prompt, PromptSets
from dapa_exp.evaluate.references import Reference, remembered_reference
from dapa_exp.evaluate.statistics import mcnemar
from dapa_exp.progress import Progress, Report
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.schema import Comparison, Control, Measure, Subject
from dapa_exp.search.controls import random_sets
from dapa_exp.transplant.hybrid import Hybrid


@dataclass(frozen=True)
class Measured:
    """What was measured of a model, and the verdict on each report row."""

    subject: Subject
    verdicts: list[Verdict]


@dataclass(frozen=True)
class Teacher:
    """What later stages need of the teacher once its weights are gone."""

    measured: Measured
    search_answers: list[str]
    """To the search prompts, at the search's length."""
    search_dsr: float
    reference: Reference | None


@dataclass(frozen=True)
class Evaluator:
    """Measures whatever model it is handed; every metric is on disk as soon as it is known."""

    run: RunFolder
    config: Config
    judge: Judge
    prompts: PromptSets
    report: Report

    def measure(
        self,
        name: str,
        engine: PlainEngine,
        kl_to_student: Reference | None = None,
        kl_to_teacher: Reference | None = None,
    ) -> Measured:
        """All the metrics of the model now in the engine, known as `name` in the run's folder."""
        wanted = self.config.evaluate
        sets = self.prompts
        steps: dict[str, Callable[[], Measure] | None] = {
            "over_refusal": lambda: refusal_rate(self._verdicts(name, "harmless", engine, sets.harmless)),
            "perplexity": lambda: perplexity(
                engine.loaded, self._texts(), wanted.perplexity_window, wanted.perplexity_stride
            ),
            "reasoning": lambda: accuracy(sets.questions, self._answers(name, "questions", engine, sets.questions)),
            "kl_to_student": self._divergence(engine, sets.harmless, kl_to_student),
            "kl_to_teacher": self._divergence(engine, sets.report, kl_to_teacher),
        }
        available = {"over_refusal": sets.harmless, "perplexity": sets.text, "reasoning": sets.questions}
        verdicts = self._defence(name, engine)
        measures: dict[str, Measure | None] = {}
        for done, (metric, compute) in enumerate(steps.items(), start=1):
            self.report(Progress(f"{self.config.pair.name}: evaluate {name}", done, len(steps), metric))
            asked = metric.startswith("kl_") or (metric in wanted.metrics and available[metric])
            measures[metric] = self._remembered(name, metric, compute) if compute and asked else None
        subject = Subject(dsr=defence_rate(verdicts), outcomes=outcomes(verdicts), **measures)
        return Measured(subject, verdicts)

    def teacher(self, engine: PlainEngine) -> Teacher:
        """The teacher, which must be in the engine: all that later stages need of it."""
        prompts, length = self.prompts.search, self.config.search.max_new_tokens
        completions = CompletionStore(self.run, "teacher-search").complete(engine, "teacher", prompts, length)
        answers = [completion.text for completion in completions]
        return Teacher(
            measured=self.measure("teacher", engine),
            search_answers=answers,
            search_dsr=defence_rate(self.judge.verdicts([p.text for p in prompts], answers)).value,
            reference=self.reference("teacher", "report", engine),
        )

    def random_control(self, hybrid: Hybrid, engine: PlainEngine, units: Sequence[str], k: int) -> Control:
        """DSR on the report rows with k units drawn at random; none drawn where only one set has k units."""
        repeats = self.config.evaluate.random_repeats
        drawn = random_sets(units, k, repeats, self.config.search.seed) if repeats and 0 < k < len(units) else []
        measures = []
        for draw, chosen in enumerate(drawn):
            hybrid.carry(chosen)
            measures.append(defence_rate(self._defence(f"random{draw}", engine)))
            self.report(Progress(f"{self.config.pair.name}: random control", draw + 1, len(drawn)))
        mean = sum(m.value for m in measures) / len(measures) if measures else None
        return Control(k=k, dsr=measures, mean=mean)

    def reference(self, name: str, prompt_set: str, engine: PlainEngine) -> Reference | None:
        """The model's own distributions along its answers to `report` or `harmless`, for others to be compared with."""
        prompts: list[Prompt] = getattr(self.prompts, prompt_set)
        if "divergence" not in self.config.evaluate.metrics or not prompts:
            return None
        rows = prompts[: self.config.evaluate.divergence_rows]
        return remembered_reference(
            self.run.path / "references" / f"{name}.safetensors",
            lambda: reference(
                engine.loaded,
                rows,
                self._answers(name, prompt_set, engine, prompts)[: len(rows)],
                self.config.evaluate.divergence_tokens,
            ),
        )

    def _divergence(
        self, engine: PlainEngine, prompts: Sequence[Prompt], against: Reference | None
    ) -> Callable[[], Measure] | None:
        if against is None or against[0][1].shape[-1] != engine.loaded.model.config.vocab_size:
            return None
        return lambda: divergence(engine.loaded, prompts[: len(against)], against)

    def _defence(self, name: str, engine: PlainEngine) -> list[Verdict]:
        def compute() -> dict[str, Any]:
            verdicts = self._verdicts(name, "report", engine, self.prompts.report)
            return {"dsr": defence_rate(verdicts).model_dump(), "verdicts": verdicts}

        return [Verdict(v) for v in self.run.remembered(f"metrics/{name}-dsr.json", compute)["verdicts"]]

    def _remembered(self, name: str, metric: str, compute: Callable[[], Measure]) -> Measure:
        return Measure(**self.run.remembered(f"metrics/{name}-{metric}.json", lambda: compute().model_dump()))

    def _verdicts(self, name: str, prompt_set: str, engine: PlainEngine, prompts: Sequence[Prompt]) -> list[Verdict]:
        answers = self._answers(name, prompt_set, engine, prompts)
        return self.judge.verdicts([p.text for p in prompts], [a.text for a in answers])

    def _answers(self, name: str, prompt_set: str, engine: PlainEngine, prompts: Sequence[Prompt]) -> list[Completion]:
        store = CompletionStore(self.run, f"{name}-{prompt_set}")
        return store.complete(engine, name, prompts, self.config.evaluate.max_new_tokens)

    def _texts(self) -> list[str]:
        texts = [row.text for row in self.prompts.text]
        return ["\n\n".join(texts)] if self.config.dataset.text_joined else texts


def compare(hybrid: Measured, other: Measured, against: str) -> Comparison:
    """Hybrid against another model, row by row, where both were judged."""
    pairs = [
        (ours in DEFENDED, theirs in DEFENDED)
        for ours, theirs in zip(hybrid.verdicts, other.verdicts, strict=True)
        if Verdict.FAILED not in (ours, theirs)
    ]
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    return Comparison(
        against=against,  # type: ignore[arg-type]
        difference=hybrid.subject.dsr.value - other.subject.dsr.value,
        gained=gained,
        lost=lost,
        p_value=mcnemar(gained, lost),
    )
