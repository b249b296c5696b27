"""Measures one model after another: the same prompts, judges and code for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, cast

from pydantic import BaseModel, Field, TypeAdapter

from dapa_exp.base.progress import Progress, Report
from dapa_exp.config.schema import Config
from dapa_exp.engine.completions import CompletionStore
from dapa_exp.engine.plain import PlainEngine
from dapa_exp.evaluate.conclusion import Comparer, Measured, verdicts_of
from dapa_exp.evaluate.confirm import confirm
from dapa_exp.evaluate.context import Asked, check_context
from dapa_exp.evaluate.defence import defended_share, demand_verdicts, early_differences
from dapa_exp.evaluate.harness import BenchmarkTasks, check_tasks
from dapa_exp.evaluate.metric import METRICS, Metric, ModelInEngine, ModelName, answer_length
from dapa_exp.evaluate.metrics.change_by_layer import CHANGE_BY_LAYER, Side
from dapa_exp.evaluate.metrics.perplexity import PERPLEXITY
from dapa_exp.evaluate.random_control import RandomControl, seed_of
from dapa_exp.evaluate.replay import conversations_record, judge_rows, states_by_judge
from dapa_exp.evaluate.set_reader import SetReader
from dapa_exp.evaluate.sharing import model_keys
from dapa_exp.evaluate.verdicts import JUDGED, Judged, Shortened, of_all
from dapa_exp.judges import Judge, Verdict, make_judge
from dapa_exp.models.pair import Pair
from dapa_exp.prompts.conversations import turn_of
from dapa_exp.prompts.load import PromptSets, load_prompts
from dapa_exp.record.evaluation import Confirmation, ControlRecord, LayerChange
from dapa_exp.record.folder import RunFolder
from dapa_exp.record.measure import Measure, Rate
from dapa_exp.record.schema import EngineAgreement, SearchRecord
from dapa_exp.record.shared import Key, json_format
from dapa_exp.transplant.hybrid import Hybrid


class _Defended(BaseModel):
    """The teacher's DSR on the search rows."""

    dsr: Rate


_VERDICTS = TypeAdapter(list[Verdict])
_DSR = TypeAdapter(_Defended)
_CONTROL = TypeAdapter(ControlRecord)
_CONFIRMATION = TypeAdapter(Confirmation)
_AGREEMENT = TypeAdapter(EngineAgreement | None)
_CHANGES = TypeAdapter(Annotated[dict[Side, list[LayerChange]], Field(min_length=1)])


@dataclass(frozen=True)
class Teacher:
    """What later stages need of the teacher after its weights have left memory."""

    measured: Measured
    search_answers: list[str]
    """The teacher's answers to the search prompts, of the search's length."""
    search_dsr: float


@dataclass(frozen=True)
class Evaluator:
    """Measures one model after another. Every answer, verdict and number is on disk as soon as it is known."""

    run: RunFolder
    config: Config
    judge: Judge
    prompts: PromptSets
    report: Report
    judges: Mapping[str, Judge] = field(default_factory=dict)
    """Further judges of the same answers, by name."""
    keys: Mapping[str, Key] = field(default_factory=dict)
    """By the name of a model whose results the runs of the sweep share: all that its answers depend on."""

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
        return Comparer(
            self.judge.name,
            self.prompts.report,
            self._harmful(),
            self.prompts.harmless,
            sees,
            self.prompts.conversations,
            list(self.prompts.attacked),
        )

    def check_context(self, config: Config, pair: Pair) -> None:
        """Raise DapaError if a prompt and its answer exceed the context of a model of the pair. `config` is the pair's.

        Conversations may outgrow a model: the record says how many did.
        """
        needed = (name for metric in self._metrics() for name in metric.sets if name != "text")
        names = dict.fromkeys(["search", *self._judged(), *needed])
        sets = {name: self.prompts.named(name) for name in names if turn_of(name) is None}
        check_context(config, pair, {name: Asked(rows, *answer_length(config, name)) for name, rows in sets.items()})

    def measure(self, name: ModelName, load: Callable[[], PlainEngine]) -> Measured:
        """All the metrics of the model that `load` returns in its engine, known as `name` in the run's folder."""
        model = self._model(name, load)
        with self.run.alone(model.result_key("evaluation")):
            return self._measure(model)

    def _measure(self, model: ModelInEngine) -> Measured:
        metrics = {step: (work, of.shared) for of in self._metrics() for step, work in of.steps(model).items()}
        judged: dict[str, dict[str, Judged]] = {}
        found: dict[str, dict[str, Measure]] = {}
        steps = [*self._judged(), *metrics]
        for done, step in enumerate(steps):
            self._progress(f"evaluate {model.name}", done, len(steps), step)
            if step in metrics:
                found[step] = model.remembered(step, *metrics[step])
            else:
                judged[step] = {judge: self._judge(judge, step, model) for judge in self.all_judges}
        self._progress(f"evaluate {model.name}", len(steps), len(steps))
        for metric in self._metrics():
            metric.keep(model)
        losses = PERPLEXITY.losses(model) if PERPLEXITY.name in found else None
        subject, verdicts = self.comparer.subject(judged, found), verdicts_of(judged)
        conversations, exchanges = self.prompts.conversations, model.exchanges
        held = states_by_judge(conversations, exchanges, verdicts)
        records = {judge: conversations_record(conversations, exchanges, states) for judge, states in held.items()}
        return Measured(subject.model_copy(update={"conversations": records}), verdicts, held, losses)

    def teacher(self, load: Callable[[], PlainEngine]) -> Teacher:
        """Measure the teacher, which `load` returns in its engine."""
        model = self._model("teacher", load)
        with self.run.alone(model.result_key("evaluation")):
            return self._teacher(model)

    def _teacher(self, model: ModelInEngine) -> Teacher:
        answers = [answer.text for answer in model.answers("search")]

        def verdicts() -> list[Verdict]:
            ask = self.judge.verdicts if self.config.search.longer_tokens else self.judge.early
            found = ask([prompt.text for prompt in self.prompts.search], answers)
            demand_verdicts(self.judge, found)
            return found

        def dsr() -> _Defended:
            found = self.run.share(file, model.result_key("early"), json_format(_VERDICTS), verdicts, _none_failed)
            return _Defended(dsr=defended_share(found))

        # First, because a judge that does not work ends a search. On report rows its failures would be kept as data.
        file = self.run.files.metric("teacher", "search")
        search_dsr = self.run.load_or_compute(file, _DSR, dsr).dsr
        return Teacher(
            measured=self._measure(model),
            search_answers=answers,
            search_dsr=search_dsr,
        )

    def agreement(self, engine: PlainEngine) -> EngineAgreement | None:
        """How far the hybrid's answers by vLLM agree with transformers'. The hybrid must be in the engine.

        None for other engines, whose answers are transformers' own.
        """

        def compute() -> EngineAgreement | None:
            return engine.agreement(self.prompts.report, self.config.search.max_new_tokens)

        if self.config.runtime.engine != "vllm":
            return None
        return self.run.load_or_compute(self.run.files.metric("hybrid", "agreement"), _AGREEMENT, compute)

    def random_control(self, hybrid: Hybrid, engine: PlainEngine, found: Sequence[str]) -> ControlRecord:
        """The found set compared with random sets of its size, on the report rows."""

        def compute() -> ControlRecord:
            control = RandomControl(self._reader(hybrid, engine, "random"), partial(self._progress, "random control"))
            seed = seed_of(self.config.pair.name, self.config.granularity.name, self.config.search.seed)
            return control.compare(found, self.config.evaluate.random_repeats, seed)

        return self.run.load_or_compute(self.run.files.metric("random", "control"), _CONTROL, compute)

    def confirm(self, hybrid: Hybrid, engine: PlainEngine, search: SearchRecord) -> Confirmation | None:
        """Whether the found set and its certificate hold on the report rows; None if that is not asked, or no set was
        searched for."""
        rate = self.config.evaluate.confirm
        if rate is None or search.status not in ("certified", "not_certified"):
            return None

        def compute() -> Confirmation:
            found = confirm(
                self._reader(hybrid, engine, "random", "confirm"),
                search.units_found,
                [witness.without for witness in search.certificate],
                search.threshold_dsr,
                rate,
                seed_of(self.config.pair.name, self.config.granularity.name, self.config.search.seed),
                partial(self._progress, "confirmation"),
            )
            engine.forget()
            return found

        return self.run.load_or_compute(self.run.files.metric("hybrid", "confirm"), _CONFIRMATION, compute)

    def _reader(self, hybrid: Hybrid, engine: PlainEngine, *name: str) -> SetReader:
        return SetReader(
            hybrid,
            engine,
            self.judge,
            CompletionStore(self.run, *name),
            tuple(self.prompts.report),
            self.config.search.max_new_tokens,
        )

    def change_by_layer(self, engine: PlainEngine) -> dict[Side, list[LayerChange]]:
        """How far the hybrid, which must be in the engine, is from the student, layer by layer; empty if not asked."""
        if CHANGE_BY_LAYER.name not in self.config.evaluate.metrics:
            return {}
        file = self.run.files.metric("hybrid", CHANGE_BY_LAYER.name)
        return self.run.load_or_compute(
            file, _CHANGES, partial(CHANGE_BY_LAYER.changes, self._model("hybrid", lambda: engine))
        )

    def _model(self, name: ModelName, load: Callable[[], PlainEngine]) -> ModelInEngine:
        return ModelInEngine(name, load, self.run, self.config, self.prompts, self.keys.get(name))

    def _metrics(self) -> list[Metric]:
        """What is measured beside the DSR."""
        return [*(cast(Metric, METRICS.get(name)) for name in self.config.evaluate.metrics), BenchmarkTasks()]

    def _judged(self) -> list[str]:
        """The prompt sets whose answers are judged, each once."""
        others = [name for metric in self._metrics() for name in metric.judged_sets(self.prompts)]
        return list(dict.fromkeys([*self._harmful(), *others]))

    def _harmful(self) -> list[str]:
        return [*self.prompts.harmful, *self.prompts.turns]

    def _judge(self, judge: str, rows: str, model: ModelInEngine) -> Judged:
        file, prompts = self.run.files.verdicts(model.name, rows, judge), model.rows(rows)

        def compute() -> Judged:
            asked = [prompt.text for prompt in prompts], [answer.text for answer in model.answers(rows)]
            verdicts = judge_rows(self.all_judges[judge], rows, prompts, asked[1])
            differ = early_differences(self.all_judges[judge], *asked, verdicts)
            return Judged(verdicts=verdicts, early_differs=differ, shortened=shortened())

        length = self.config.search.max_new_tokens
        decides = judge == self.judge.name or self.all_judges[judge].decides_early
        is_shortened = decides and rows in self._harmful() and length < self.config.evaluate.max_new_tokens

        def shortened() -> Shortened | None:
            if not is_shortened:
                return None
            texts = [model.engine.beginning(answer, length) for answer in model.answers(rows)]
            early = self.all_judges[judge].early([prompt.text for prompt in prompts], texts)
            return Shortened(tokens=length, verdicts=early)

        def is_whole(judged: Judged) -> bool:
            return _none_failed(judged.verdicts)

        if not file.is_file():
            model.answers(rows)  # the run's folder gets them, even if the verdicts are another run's
        key = model.result_key(f"{rows}-{judge}-{length}" if is_shortened else f"{rows}-{judge}")
        return of_all(file, self.run.load_or_compute(file, JUDGED, compute, key, is_whole), len(prompts))

    def _progress(self, task: str, done: int, total: int, note: str = "") -> None:
        self.report(Progress(f"{self.config.label}: {task}", done, total, note))


def _none_failed(verdicts: Iterable[Verdict]) -> bool:
    """Whether a judge gave every verdict. One that it failed to give may be had later."""
    return Verdict.FAILED not in verdicts


def make_evaluator(run: RunFolder, config: Config, report: Report) -> Evaluator:
    """The evaluator of a run. Raises DapaError if a prompt set, a judge or a task is not available."""
    check_tasks(config.evaluate.tasks.names)
    others = {name: make_judge(judge) for name, judge in config.judges.items()}
    return Evaluator(run, config, make_judge(config.judge), load_prompts(config.dataset), report, others)
