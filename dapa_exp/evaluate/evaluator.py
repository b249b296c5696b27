"""Measures one model after another: the same prompts, judges and code for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter
from torch import Tensor

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
from dapa_exp.evaluate.references import Reference, from_tensors, to_tensors
from dapa_exp.evaluate.sharing import TENSORS, EvaluatedModel, digest_of, model_keys
from dapa_exp.evaluate.statistics import Losses
from dapa_exp.evaluate.verdicts import JUDGED, Judged, of_all
from dapa_exp.judges import Judge, Verdict, make_judge
from dapa_exp.models.pair import Pair
from dapa_exp.models.tensors import remembered_tensors
from dapa_exp.prompts.load import PromptSets, digest, load_prompts
from dapa_exp.prompts.prompt import Prompt
from dapa_exp.record.folder import RunFolder, json_format
from dapa_exp.record.identity import judge_essence
from dapa_exp.record.schema import ControlRecord, LayerChange, Measure, Rate
from dapa_exp.record.shared import Key
from dapa_exp.transplant.hybrid import Hybrid


class _Defended(BaseModel):
    """What a teacher reaches on the search rows."""

    dsr: Rate


_ANSWERS = TypeAdapter(list[Completion])
_VERDICTS = TypeAdapter(list[Verdict])
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
    """Measures one model after another; every completion, verdict and metric is on disk as soon as it is known.

    What it measures of a model that `keys` has is shared with the other runs of the sweep.
    """

    run: RunFolder
    config: Config
    judge: Judge
    prompts: PromptSets
    report: Report
    judges: Mapping[str, Judge] = field(default_factory=dict)
    """Others, by name, that score the same answers."""
    keys: Mapping[str, Key] = field(default_factory=dict)
    """All that a model's results depend on, beside what it is asked; by the model's name."""

    def sharing(self, pair: Pair) -> Evaluator:
        """The same, which shares what it measures of teacher and student, unless the config says not to."""
        return replace(self, keys=model_keys(self.config, pair)) if self.config.record.share else self

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
        model: EvaluatedModel,
        kl_to_student: Reference | None = None,
        kl_to_teacher: Reference | None = None,
    ) -> Measured:
        """All the metrics of a model."""
        metrics = self._metrics(model, kl_to_student, kl_to_teacher)
        verdicts: dict[str, dict[str, list[Verdict]]] = {}
        early_differs: dict[str, dict[str, int | None]] = {}
        found: dict[str, dict[str, Measure]] = {}
        steps = [*self._judged(), *metrics]
        for done, step in enumerate(steps):
            self._progress(f"evaluate {model.name}", done, len(steps), step)
            if step in metrics:
                found[step] = metrics[step]()
            else:
                judged = {judge: self._judge(judge, model, step) for judge in self.all_judges}
                verdicts[step] = {judge: of.verdicts for judge, of in judged.items()}
                early_differs[step] = {judge: of.early_differs for judge, of in judged.items()}
        self._progress(f"evaluate {model.name}", len(steps), len(steps))
        losses = self._losses(model) if "perplexity" in found else None
        return Measured(self.comparer.subject(verdicts, early_differs, found), verdicts, losses)

    def teacher(self, model: EvaluatedModel) -> Teacher:
        """All that later stages need of the teacher."""
        answers = self._answers(model, "search")
        file = self.run.files.metric("teacher", "search")
        key = self._verdicts_key(model, "early", self.judge.name, "search", answers)

        def early() -> list[Verdict]:
            found = self.judge.early([row.text for row in self.prompts.search], [answer.text for answer in answers])
            demand_verdicts(self.judge, found)
            return found

        def dsr() -> _Defended:
            verdicts = self.run.share(file, key, json_format(_VERDICTS), early, is_whole=_none_failed)
            return _Defended(dsr=defended_share(verdicts))

        # First, since a judge that is down ends a search, while on report rows its failures would be kept as data.
        search_dsr = self.run.load_or_compute(file, _DSR, dsr).dsr
        return Teacher(
            measured=self.measure(model),
            search_answers=[answer.text for answer in answers],
            search_dsr=search_dsr,
            reference=self.reference(model, "report"),
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

    def reference(self, model: EvaluatedModel, prompt_set: str) -> Reference | None:
        """The model's own distributions along its answers to `report` or `harmless`, for others to be compared with."""
        rows = self._prompts(prompt_set)[: self.config.evaluate.divergence_rows]
        if "divergence" not in self.config.evaluate.metrics or not rows:
            return None
        answers = self._answers(model, prompt_set)[: len(rows)]

        def compute() -> dict[str, Tensor]:
            return to_tensors(reference(model.engine.loaded, rows, answers, self.config.evaluate.divergence_tokens))

        return from_tensors(self._tensors(model.name, self._reference_key(model.name, prompt_set), compute))

    def states(self, model: EvaluatedModel) -> dict[Side, States]:
        """The student's inner states, for the hybrid's to be compared with; empty where that is not asked for."""

        def compute(rows: Sequence[Prompt]) -> States:
            return states(model.engine.loaded, rows, model.engine.batch_size)

        return {
            side: self._tensors(
                f"states-{side}", self._key(model.name, "states", prompts=digest(rows)), partial(compute, rows)
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
        self, model: EvaluatedModel, kl_to_student: Reference | None, kl_to_teacher: Reference | None
    ) -> dict[str, Callable[[], dict[str, Measure]]]:
        """What is measured beside the verdicts, by name: as far as it is asked for and there is something to take."""
        wanted, sets = self.config.evaluate, self.prompts
        found: dict[str, Callable[[], dict[str, Measure]]] = {}
        if "perplexity" in wanted.metrics and sets.text:
            found["perplexity"] = partial(self._perplexity, model)
        if "reasoning" in wanted.metrics and sets.questions:
            found["reasoning"] = partial(self._reasoning, model)
        for against, prompt_set, to in (("student", "harmless", kl_to_student), ("teacher", "report", kl_to_teacher)):
            if to is not None and to[0][1].shape[-1] == model.engine.loaded.model.config.vocab_size:
                found[f"kl_to_{against}"] = partial(self._divergence, model, against, prompt_set, to)
        for task in wanted.tasks.names:
            found[f"task-{task}"] = partial(self._task, model, task)
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

    def _perplexity(self, model: EvaluatedModel) -> dict[str, Measure]:
        def compute() -> dict[str, Measure]:
            found = perplexity(self._losses(model), sum(len(text.split()) for text in self._texts()))
            return {kind: measure for kind, measure in found._asdict().items() if measure is not None}

        return self._measures(model, "perplexity", None, compute)

    def _losses(self, model: EvaluatedModel) -> Losses:
        """The loss of each window of the text, kept so that the hybrid's can be compared with the other models'."""
        texts, wanted = self._texts(), self.config.evaluate
        window, stride = wanted.perplexity_window, wanted.perplexity_stride
        return self.run.load_or_compute(
            self.run.files.metric(model.name, "windows"),
            _LOSSES,
            lambda: window_losses(model.engine.loaded, texts, window, stride),
            self._key(model.name, "windows", texts=digest_of(texts), window=window, stride=stride),
        )

    def _reasoning(self, model: EvaluatedModel) -> dict[str, Measure]:
        def compute() -> dict[str, Measure]:
            return {"accuracy": accuracy(self.prompts.questions, self._answers(model, "questions"))}

        return self._measures(model, "reasoning", None, compute)

    def _divergence(self, model: EvaluatedModel, against: str, prompt_set: str, to: Reference) -> dict[str, Measure]:
        """KL from another model, whose distributions along its answers to a prompt set are given."""
        rows, temperatures = self._prompts(prompt_set)[: len(to)], self.config.evaluate.divergence_temperatures
        key = self._key(
            model.name, "divergence", to=self._reference_key(against, prompt_set), temperatures=temperatures
        )
        return self._measures(
            model, f"kl_to_{against}", key, lambda: divergence(model.engine.loaded, rows, to, temperatures)
        )

    def _task(self, model: EvaluatedModel, task: str) -> dict[str, Measure]:
        settings, batch_size = self.config.evaluate.tasks, self.config.runtime.batch_size
        key = self._key(
            model.name,
            "task",
            task=task,
            settings=settings.model_dump(include={"limit", "chat_template"}),
            harness=version("lm_eval"),
        )
        return self._measures(
            model, f"task-{task}", key, lambda: task_scores(model.engine.loaded, task, settings, batch_size)
        )

    def _measures(
        self, model: EvaluatedModel, metric: str, key: Key | None, compute: Callable[[], dict[str, Measure]]
    ) -> dict[str, Measure]:
        return self.run.load_or_compute(self.run.files.metric(model.name, metric), _MEASURES, compute, key)

    def _judge(self, judge: str, model: EvaluatedModel, rows: str) -> Judged:
        file, prompts = self.run.files.verdicts(model.name, rows, judge), self._prompts(rows)

        def compute() -> Judged:
            answers = self._answers(model, rows)
            asked = [prompt.text for prompt in prompts], [answer.text for answer in answers]

            def judged() -> Judged:
                verdicts = self.all_judges[judge].verdicts(*asked)
                differ = early_differences(self.all_judges[judge], *asked, verdicts)
                return Judged(verdicts=verdicts, early_differs=differ)

            key = self._verdicts_key(model, "verdicts", judge, rows, answers)
            return self.run.share(
                file, key, json_format(JUDGED), judged, is_whole=lambda found: _none_failed(found.verdicts)
            )

        return of_all(file, self.run.load_or_compute(file, JUDGED, compute), len(prompts))

    def _answers(self, model: EvaluatedModel, prompt_set: str) -> list[Completion]:
        """The model's answers to a prompt set, in the order of its prompts."""
        prompts, store = self._prompts(prompt_set), CompletionStore(self.run, model.name, prompt_set)
        length = (self.config.search if prompt_set == "search" else self.config.evaluate).max_new_tokens
        request = Request(tuple(prompts), length, reuse=False)
        if (kept := store.find(model.name, request)) is not None:
            return kept

        def compute() -> list[Completion]:
            return store.complete(model.engine, model.name, request)

        if not store.is_empty:  # the rest of a set may be answered otherwise than the whole set, below float32
            return compute()
        file = self.run.files.completions(model.name, prompt_set)
        answers = self.run.share(file, self._answers_key(model.name, prompt_set), json_format(_ANSWERS), compute)
        if store.is_empty:
            store.add(model.name, prompts, answers)
            model.remember(prompts, answers)
        return answers

    def _tensors(self, name: str, key: Key | None, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that other models are compared with. They are large, so only one copy is on disk."""
        file = self.run.files.reference(name)
        if key is None:
            return remembered_tensors(file, compute)
        return self.run.share(file, key, TENSORS, compute, folder=self.run.sweep.shared_references)

    def _key(self, name: str, what: str, **settings: Any) -> Key | None:
        """The key of a model's result that depends on these settings too; None: it is not shared."""
        return {"what": what, "model": self.keys[name], **settings} if name in self.keys else None

    def _answers_key(self, name: str, prompt_set: str) -> Key | None:
        settings = self.config.search if prompt_set == "search" else self.config.evaluate
        prompts = digest(self._prompts(prompt_set))
        return self._key(name, "answers", prompts=prompts, max_new_tokens=settings.max_new_tokens)

    def _reference_key(self, name: str, prompt_set: str) -> Key | None:
        wanted = self.config.evaluate
        return self._key(
            name,
            "reference",
            answers=self._answers_key(name, prompt_set),
            rows=wanted.divergence_rows,
            tokens=wanted.divergence_tokens,
        )

    def _verdicts_key(
        self, model: EvaluatedModel, what: str, judge: str, prompt_set: str, answers: Sequence[Completion]
    ) -> Key | None:
        """The key of a judge's verdicts; they depend on prompts and answers, however these came about."""
        settings = self.config.judges.get(judge, self.config.judge)
        texts = [(row.text, answer.text) for row, answer in zip(self._prompts(prompt_set), answers, strict=True)]
        return self._key(model.name, what, judge=judge_essence("judge", settings), answers=digest_of(texts))

    def _progress(self, task: str, done: int, total: int, note: str = "") -> None:
        self.report(Progress(f"{self.config.label}: {task}", done, total, note))


def _none_failed(verdicts: Sequence[Verdict]) -> bool:
    """Whether a judge gave every verdict. One that it failed to give may be had later."""
    return Verdict.FAILED not in verdicts


def make_evaluator(run: RunFolder, config: Config, report: Report) -> Evaluator:
    """The evaluator of a run, its prompt sets read. Raises DapaError where one of them cannot be had."""
    check_tasks(config.evaluate.tasks.names)
    others = {name: make_judge(judge) for name, judge in config.judges.items()}
    return Evaluator(run, config, make_judge(config.judge), load_prompts(config.dataset), report, others)
