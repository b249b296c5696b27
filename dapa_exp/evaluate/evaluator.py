"""Measures one model after another: the same prompts, judges and code for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter

from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.schema import Config
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import Completion, PlainEngine, Request
from dapa_exp.evaluate.conclusion import Comparer, Measured, Side
from dapa_exp.evaluate.defence import defended_share, demand_verdicts, early_differences
from dapa_exp.evaluate.harness import check_tasks, task_scores
from dapa_exp.evaluate.internals import States, changes, states
from dapa_exp.evaluate.metrics import accuracy, divergence, perplexity, reference, window_losses
from dapa_exp.evaluate.random_control import RandomControl, seed_of
from dapa_exp.evaluate.references import Reference, remembered_reference, remembered_tensors
from dapa_exp.evaluate.statistics import Losses
from dapa_exp.evaluate.verdicts import JUDGED, Judged, of_all
from dapa_exp.judges import Judge, Verdict, make_judge
from dapa_exp.prompts.load import PromptSets, load_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.schema import ControlRecord, LayerChange, Measure, Rate
from dapa_exp.transplant.hybrid import Hybrid


class _Defended(BaseModel):
    """What a teacher reaches on the search rows."""

    dsr: Rate


_DSR = TypeAdapter(_Defended)
_MEASURES = TypeAdapter(Annotated[dict[str, Measure], Field(min_length=1)])
_LOSSES = TypeAdapter(Losses)
_CONTROL = TypeAdapter(ControlRecord)
_CHANGES = TypeAdapter(Annotated[dict[Side, list[LayerChange]], Field(min_length=1)])


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
    """Measures whatever model it is handed; every completion, verdict and metric is on disk as soon as it is known."""

    run: RunFolder
    config: Config
    judge: Judge
    prompts: PromptSets
    report: Report
    judges: Mapping[str, Judge] = field(default_factory=dict)
    """Others, by name, that score the same answers."""

    @property
    def all_judges(self) -> dict[str, Judge]:
        """The run's own judge first, by its name, then the others."""
        return {self.judge.name: self.judge, **self.judges}

    @property
    def comparer(self) -> Comparer:
        sees = {name: judge.sees for name, judge in self.all_judges.items()}
        return Comparer(self.judge.name, self.prompts.report, self._harmful(), self.prompts.harmless, sees)

    def measure(
        self,
        name: str,
        engine: PlainEngine,
        kl_to_student: Reference | None = None,
        kl_to_teacher: Reference | None = None,
    ) -> Measured:
        """All the metrics of the model now in the engine, known as `name` in the run's folder."""
        metrics = self._metrics(name, engine, kl_to_student, kl_to_teacher)
        verdicts: dict[str, dict[str, list[Verdict]]] = {}
        early_differs: dict[str, dict[str, int | None]] = {}
        found: dict[str, dict[str, Measure]] = {}
        steps = [*self._judged(), *metrics]
        for done, step in enumerate(steps):
            self._progress(f"evaluate {name}", done, len(steps), step)
            if step in metrics:
                found[step] = self._remembered(name, step, metrics[step])
            else:
                judged = {judge: self._judge(judge, name, step, engine) for judge in self.all_judges}
                verdicts[step] = {judge: of.verdicts for judge, of in judged.items()}
                early_differs[step] = {judge: of.early_differs for judge, of in judged.items()}
        self._progress(f"evaluate {name}", len(steps), len(steps))
        losses = self._losses(name, engine) if "perplexity" in found else None
        return Measured(self.comparer.subject(verdicts, early_differs, found), verdicts, losses)

    def teacher(self, engine: PlainEngine) -> Teacher:
        """The teacher, which must be in the engine: all that later stages need of it."""
        prompts, length = self.prompts.search, self.config.search.max_new_tokens
        completions = CompletionStore(self.run, "teacher", "search").complete(
            engine, "teacher", Request(tuple(prompts), length, reuse=False)
        )
        answers = [completion.text for completion in completions]

        def dsr() -> _Defended:
            verdicts = self.judge.early([prompt.text for prompt in prompts], answers)
            demand_verdicts(self.judge, verdicts)
            return _Defended(dsr=defended_share(verdicts))

        # First, since a judge that is down ends a search, while on report rows its failures would be kept as data.
        search_dsr = self.run.load_or_compute(self.run.files.metric("teacher", "search"), _DSR, dsr).dsr
        return Teacher(
            measured=self.measure("teacher", engine),
            search_answers=answers,
            search_dsr=search_dsr,
            reference=self.reference("teacher", "report", engine),
        )

    def random_control(self, hybrid: Hybrid, engine: PlainEngine, found: Sequence[str]) -> ControlRecord:
        """The found set on the report rows beside random ones of its size."""

        def compute() -> ControlRecord:
            control = RandomControl(
                hybrid,
                engine,
                self.judge,
                CompletionStore(self.run, "random"),
                tuple(self.prompts.report),
                self.config.search.max_new_tokens,
                partial(self._progress, "random control"),
            )
            seed = seed_of(self.config.pair.name, self.config.granularity.name, self.config.search.seed)
            return control.compare(found, self.config.evaluate.random_repeats, seed)

        return self.run.load_or_compute(self.run.files.metric("random", "control"), _CONTROL, compute)

    def reference(self, name: str, prompt_set: str, engine: PlainEngine) -> Reference | None:
        """The model's own distributions along its answers to `report` or `harmless`, for others to be compared with."""
        prompts = self._prompts(prompt_set)
        if "divergence" not in self.config.evaluate.metrics or not prompts:
            return None
        rows = prompts[: self.config.evaluate.divergence_rows]
        return remembered_reference(
            self.run.files.reference(name),
            lambda: reference(
                engine.loaded,
                rows,
                self._answers(name, prompt_set, engine, prompts)[: len(rows)],
                self.config.evaluate.divergence_tokens,
            ),
        )

    def states(self, engine: PlainEngine) -> dict[Side, States]:
        """The student's inner states, for the hybrid's to be compared with; empty where that is not asked for."""
        return {
            side: remembered_tensors(
                self.run.files.reference(f"states-{side}"),
                partial(states, engine.loaded, rows, engine.batch_size),
            )
            for side, rows in self._sides().items()
        }

    def change_by_layer(self, engine: PlainEngine, before: Mapping[Side, States]) -> dict[Side, list[LayerChange]]:
        """How far the model in the engine is from those states, layer by layer."""

        sides = self._sides()
        if not sides:
            return {}

        def compute() -> dict[Side, list[LayerChange]]:
            after = {side: states(engine.loaded, rows, engine.batch_size) for side, rows in sides.items()}
            return {side: changes(before[side], after[side]) for side in sides}

        return self.run.load_or_compute(self.run.files.metric("hybrid", "change_by_layer"), _CHANGES, compute)

    def _metrics(
        self, name: str, engine: PlainEngine, kl_to_student: Reference | None, kl_to_teacher: Reference | None
    ) -> dict[str, Callable[[], dict[str, Measure]]]:
        """What is measured beside the verdicts, by name: as far as it is asked for and there is something to take."""
        wanted, sets = self.config.evaluate, self.prompts
        found: dict[str, Callable[[], dict[str, Measure]]] = {}
        if "perplexity" in wanted.metrics and sets.text:
            found["perplexity"] = partial(self._perplexity, name, engine)
        if "reasoning" in wanted.metrics and sets.questions:
            found["reasoning"] = partial(self._reasoning, name, engine)
        for metric, prompts, against in (
            ("kl_to_student", sets.harmless, kl_to_student),
            ("kl_to_teacher", sets.report, kl_to_teacher),
        ):
            if against is not None and against[0][1].shape[-1] == engine.loaded.model.config.vocab_size:
                rows = prompts[: len(against)]
                found[metric] = partial(divergence, engine.loaded, rows, against, wanted.divergence_temperatures)
        for task in wanted.tasks.names:
            found[f"task-{task}"] = partial(
                task_scores,
                engine.loaded,
                task,
                wanted.tasks,
                self.config.runtime.batch_size,
                self.config.dataset.system_prompt,
            )
        return found

    def _judged(self) -> list[str]:
        """The prompt sets whose answers are judged."""
        harmless = ["harmless"] * bool(self.prompts.harmless) + [*self.prompts.more_harmless]
        asked = "over_refusal" in self.config.evaluate.metrics
        return [*self._harmful(), *(harmless if asked else [])]

    def _harmful(self) -> list[str]:
        return ["report", *self.prompts.more_report]

    def _sides(self) -> dict[Side, list[Prompt]]:
        """The prompts at whose end inner states are compared."""
        if "change_by_layer" not in self.config.evaluate.metrics:
            return {}
        rows = self.config.evaluate.divergence_rows
        sides: dict[Side, list[Prompt]] = {"harmful": self.prompts.report, "harmless": self.prompts.harmless}
        return {side: prompts[:rows] for side, prompts in sides.items() if prompts}

    def _prompts(self, name: str) -> list[Prompt]:
        more = {**self.prompts.more_report, **self.prompts.more_harmless}
        found: list[Prompt] = more[name] if name in more else getattr(self.prompts, name)
        return found

    def _texts(self) -> list[str]:
        texts = [row.text for row in self.prompts.text]
        return ["\n\n".join(texts)] if self.config.dataset.text_joined else texts

    def _perplexity(self, name: str, engine: PlainEngine) -> dict[str, Measure]:
        words = sum(len(text.split()) for text in self._texts())
        found = perplexity(self._losses(name, engine), words)
        return {kind: measure for kind, measure in found._asdict().items() if measure is not None}

    def _losses(self, name: str, engine: PlainEngine) -> Losses:
        """The loss of each window of the text, kept so that the hybrid's can be compared with the other models'."""
        wanted = self.config.evaluate

        def compute() -> Losses:
            return window_losses(engine.loaded, self._texts(), wanted.perplexity_window, wanted.perplexity_stride)

        return self.run.load_or_compute(self.run.files.metric(name, "windows"), _LOSSES, compute)

    def _reasoning(self, name: str, engine: PlainEngine) -> dict[str, Measure]:
        questions = self.prompts.questions
        return {"accuracy": accuracy(questions, self._answers(name, "questions", engine, questions))}

    def _remembered(self, name: str, metric: str, compute: Callable[[], dict[str, Measure]]) -> dict[str, Measure]:
        return self.run.load_or_compute(self.run.files.metric(name, metric), _MEASURES, compute)

    def _judge(self, judge: str, name: str, rows: str, engine: PlainEngine) -> Judged:
        file, prompts = self.run.files.verdicts(name, rows, judge), self._prompts(rows)

        def compute() -> Judged:
            asked = [prompt.text for prompt in prompts], [a.text for a in self._answers(name, rows, engine, prompts)]
            verdicts = self.all_judges[judge].verdicts(*asked)
            differ = early_differences(self.all_judges[judge], *asked, verdicts)
            return Judged(verdicts=verdicts, early_differs=differ)

        return of_all(file, self.run.load_or_compute(file, JUDGED, compute), len(prompts))

    def _answers(self, name: str, prompt_set: str, engine: PlainEngine, prompts: Sequence[Prompt]) -> list[Completion]:
        store = CompletionStore(self.run, name, prompt_set)
        return store.complete(engine, name, Request(tuple(prompts), self.config.evaluate.max_new_tokens, reuse=False))

    def _progress(self, task: str, done: int, total: int, note: str = "") -> None:
        self.report(Progress(f"{self.config.label}: {task}", done, total, note))


def make_evaluator(run: RunFolder, config: Config, report: Report) -> Evaluator:
    """The evaluator of a run, its prompt sets read. Raises DapaError where one of them cannot be had."""
    check_tasks(config.evaluate.tasks.names)
    others = {name: make_judge(judge) for name, judge in config.judges.items()}
    return Evaluator(run, config, make_judge(config.judge), load_prompts(config.dataset), report, others)
